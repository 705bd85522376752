//! The host half of the build: the emulator and, with the host's C++ compiler, the kernels
//! that it runs.

use std::path::{Path, PathBuf};

/// How kernels are compiled for the emulator. The sanitizer's hooks, which the emulator itself
/// defines, are called at each access to memory; optimisations that would join or move
/// accesses are off. `-g1` is for the lines in reports.
const KERNEL_FLAGS: [&str; 11] = [
    "-x",
    "c++",
    "-O2",
    "-g1",
    "-fsanitize=thread",
    "-fno-tree-vectorize",
    "-fno-tree-slp-vectorize",
    "-fno-store-merging",
    "-ffp-contract=off",
    "-fno-omit-frame-pointer",
    "-fno-exceptions",
];

/// Compiles `kernels/*.cu` and `kernels/host` into a library that is linked to the program,
/// and the kernels with planted faults into one for the emulator's own tests.
pub fn compile() {
    println!("cargo:rerun-if-changed=kernels");
    // Kernels enter themselves in the kernel table when the program starts: nothing names them.
    library("engine_kernels", &files("kernels", "cu"), &KERNEL_FLAGS);
    library("engine_emulator", &files("kernels/host", "cpp"), &["-O2", "-g1", "-ffp-contract=off"]);
    library("engine_faults", &files("kernels/host", "cu"), &KERNEL_FLAGS);
    for library in ["engine_kernels", "engine_emulator"] {
        println!("cargo:rustc-link-lib=static:+whole-archive={library}");
    }
    println!("cargo:rustc-link-lib=stdc++");
}

fn library(name: &str, files: &[PathBuf], flags: &[&str]) {
    if files.is_empty() {
        return;
    }
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").include("kernels").warnings(true).extra_warnings(true);
    build.cargo_metadata(false).opt_level(2).debug(false);
    for flag in flags {
        // Compilers that lack an optimisation do not know how to turn it off.
        if flag.starts_with("-fno-") {
            build.flag_if_supported(flag);
        } else {
            build.flag(flag);
        }
    }
    build.files(files).compile(name);
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    println!("cargo:rustc-link-search=native={out}");
}

/// The files of a folder with an extension, in order.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(Path::new(folder))
        .unwrap_or_else(|e| panic!("cannot read the folder {folder}: {e}"));
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    found.sort();
    found
}
