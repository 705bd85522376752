//! The program `bench`.

use std::process::ExitCode;

use engine::bench::{self, BenchCli};
use engine::cli;
use engine::device::allocator::Allocator;

// What the system refuses ends the program with exit code 5.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    cli::program::run(|cli: BenchCli| {
        cli::program::log_to_stderr(false);
        bench::run(cli)
    })
}
