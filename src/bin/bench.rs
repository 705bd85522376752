//! The program `bench`.

use std::process::ExitCode;

use engine::bench::{self, BenchCli};
use engine::cli;

fn main() -> ExitCode {
    cli::program::run(|cli: BenchCli| {
        cli::program::log_to_stderr(false);
        bench::run(cli)
    })
}
