//! The host half of the build: the emulator and, with the host's C++ compiler, the kernels
//! that it runs.

use std::path::{Path, PathBuf};

use super::files;

/// How kernels are compiled for the emulator. The sanitizer's hooks, which the emulator itself
/// defines, are called at each access to memory; optimisations that would join or move
/// accesses, or join the two branches of an `if`, are off. `-g1` is for the lines in reports.
const KERNEL_FLAGS: [&str; 13] = [
    "-x",
    "c++",
    "-O2",
    "-g1",
    "-fsanitize=thread",
    "-fno-tree-vectorize",
    "-fno-tree-slp-vectorize",
    "-fno-store-merging",
    "-fno-tree-tail-merge",
    "-fno-crossjumping",
    "-ffp-contract=off",
    "-fno-omit-frame-pointer",
    "-fno-exceptions",
];

/// Compiles `kernels` and `kernels/host` into a library that is linked to the program,
/// and the kernels with planted `faults` into one for the emulator's own tests.
pub(crate) fn compile(kernels: &[PathBuf], faults: &[PathBuf], out: &Path) {
    // Kernels enter themselves in the emulator's list when the program starts: nothing names them.
    library("engine_kernels", kernels, &KERNEL_FLAGS);
    library("engine_emulator", &files("kernels/host", "cpp"), &["-O2", "-g1"]);
    library("engine_faults", faults, &KERNEL_FLAGS);
    println!("cargo:rustc-link-search=native={}", out.display());
    for library in ["engine_kernels", "engine_emulator"] {
        println!("cargo:rustc-link-lib=static:+whole-archive={library}");
    }
    let stdlib = if cfg!(target_os = "macos") { "c++" } else { "stdc++" };
    println!("cargo:rustc-link-lib={stdlib}");
}

fn library(name: &str, files: &[PathBuf], flags: &[&str]) {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").include("kernels").warnings(true).extra_warnings(true);
    build.cargo_metadata(false).opt_level(2).debug(false);
    for flag in flags {
        build.flag(flag);
    }
    build.files(files).compile(name);
}
