//! The program `bench`, which is `engine bench` too.

use std::process::ExitCode;

use clap::CommandFactory;
use engine::bench::{self, BenchCli};
use engine::device::allocator::Allocator;
use engine::program;

// What the system refuses ends the program with exit code 5.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    let command = BenchCli::command().version(engine::version_of_build!());
    program::run(command, bench::BEGIN, |cli: BenchCli| bench::run(cli))
}
