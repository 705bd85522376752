//! The program `engine`.

use std::process::ExitCode;

use engine::device::allocator::Allocator;
use engine::{cli, program};

// What the system refuses ends the program with exit code 5.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    program::run(cli::command(engine::version_of_build!()), cli::BEGIN, cli::run)
}
