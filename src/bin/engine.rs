//! The program `engine`.

use std::process::ExitCode;

use engine::device::allocator::Allocator;
use engine::{cli, program};

// What the system refuses ends the program with exit code 5.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// The version, with the commit where the build had one.
#[cfg(in_repository)]
const VERSION: &str = git_version::git_version!(
    args = ["--always", "--exclude=*", "--abbrev=9"],
    prefix = concat!(env!("CARGO_PKG_VERSION"), " ("),
    suffix = ")",
    fallback = env!("CARGO_PKG_VERSION")
);
#[cfg(not(in_repository))]
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn main() -> ExitCode {
    program::run(cli::command(VERSION), cli::BEGIN, cli::run)
}
