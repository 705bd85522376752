//! The program `bench`, which is `engine bench` too.

use std::process::ExitCode;

use clap::CommandFactory;
use engine::bench::{self, BenchCli};
use engine::cli;
use engine::device::allocator::Allocator;

// What the system refuses ends the program with exit code 5.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    cli::program::run(BenchCli::command(), bench::BEGIN, |cli: BenchCli| bench::run(cli))
}
