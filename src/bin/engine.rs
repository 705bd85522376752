//! The program `engine`.

use std::process::ExitCode;

use engine::cli::{self, Cli};
use engine::device::allocator::Allocator;

// What the system refuses ends the program with exit code 5.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    cli::program::run(|cli: Cli| cli::run(cli).map(|()| 0))
}
