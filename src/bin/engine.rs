//! The program `engine`.

use std::process::ExitCode;

use engine::cli::{self, Cli};

fn main() -> ExitCode {
    cli::program::run(|cli: Cli| cli::run(cli).map(|()| 0))
}
