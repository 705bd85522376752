//! Compiles the kernels of `kernels/` twice: for the emulator with the host's C++ compiler, and
//! for GPUs with nvcc, where it is found.

#[path = "build/host.rs"]
mod host;
#[path = "build/nvcc.rs"]
mod nvcc;

use std::fmt::Display;
use std::path::Path;

fn main() {
    for path in ["build.rs", "build", "kernels"] {
        println!("cargo:rerun-if-changed={path}");
    }
    let out = std::env::var_os("OUT_DIR").unwrap_or_else(|| fail("cargo did not set OUT_DIR"));
    host::compile();
    nvcc::build(Path::new("kernels"), Path::new(&out)).unwrap_or_else(|e| fail(e));
}

/// A variable that changes what is built; empty counts as not set.
fn env(name: &str) -> Option<String> {
    println!("cargo:rerun-if-env-changed={name}");
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

/// Ends the build with a message.
fn fail(message: impl Display) -> ! {
    eprintln!("error: {message}");
    std::process::exit(1)
}
