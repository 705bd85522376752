//! Writes the table of the kernels of `kernels/`, and compiles them twice: for the emulator with
//! the host's C++ compiler, if the feature `emulator` is on, and for GPUs with nvcc, if it is
//! found.

#[cfg(feature = "emulator")]
#[path = "build/host.rs"]
mod host;
#[path = "build/nvcc.rs"]
mod nvcc;
#[path = "build/table.rs"]
mod table;

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    // The binaries then tell the commit that they were built from: `engine --version`.
    println!("cargo:rustc-check-cfg=cfg(in_repository)");
    println!("cargo:rustc-check-cfg=cfg(gpu_code)");
    if Path::new(".git").exists() {
        println!("cargo:rustc-cfg=in_repository");
    }
    for path in ["build.rs", "build", "kernels"] {
        println!("cargo:rerun-if-changed={path}");
    }
    let out = std::env::var_os("OUT_DIR").unwrap_or_else(|| fail("cargo did not set OUT_DIR"));
    let (out, kernels) = (Path::new(&out), files("kernels", "cu"));
    let headers = files("kernels/include", "h");
    let table = table::write(&kernels, &headers, &out.join("kernels.rs"));
    table.unwrap_or_else(|e| fail(e));
    #[cfg(feature = "emulator")]
    {
        let faults = files("kernels/host", "cu");
        let table = table::write(&faults, &headers, &out.join("fault_kernels.rs"));
        table.unwrap_or_else(|e| fail(e));
        host::compile(&kernels, &faults, out);
    }
    if nvcc::build(Path::new("kernels"), &kernels, out).unwrap_or_else(|e| fail(e)) {
        // Tests of GPU code are ignored, with a reason, in a build without it.
        println!("cargo:rustc-cfg=gpu_code");
    }
}

/// The files of a folder with an extension, sorted.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|e| fail(format!("cannot list {folder}: {e}")));
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    found.sort();
    found
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
