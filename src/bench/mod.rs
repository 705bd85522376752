//! What the binary `bench` does: conformance of all ops, and times beside which another
//! program's can be held.

pub mod baseline;
pub mod check;
mod counted;
mod filter;
mod floors;
pub mod kernels;
mod limits;
pub mod loader;
mod machine;
mod peaks;
mod row;
pub mod search;
mod shapes;
pub mod step;
mod timed;

use clap::{Parser, Subcommand};

use crate::error::Result;
use crate::program;

/// Checks and times engine's ops and its training iteration.
#[derive(Parser, Debug)]
#[command(name = "bench", version, max_term_width = 100, subcommand_value_name = "VERB")]
pub struct BenchCli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Runs the cases of every op against the f64 reference; exits 1 if any fails.
    Check(check::CheckArgs),
    /// Times every op at every shape that training brings, or counts what its kernels do on the
    /// emulator, beside the least that it needs.
    Kernels(Box<kernels::KernelsArgs>),
    /// Compares two results of `bench kernels`, `bench step` or `bench search`.
    Report(baseline::ReportArgs),
    /// Times the training iteration of Algorithm 1 and its parts, on images that already lie on
    /// the device.
    Step(Box<step::StepArgs>),
    /// Times the scoring of subnets by their features: passes, relation scores, recalibration.
    Search(search::SearchArgs),
    /// Times decoding and augmentation of images, alone and together, on a device copies too.
    Loader(loader::LoaderArgs),
}

/// The last line of what `bench` alone prints.
pub const BEGIN: &str = "`bench VERB --help` lists a verb's flags, with examples.";

/// Runs the verb; returns the process's exit code.
pub fn run(cli: BenchCli) -> Result<u8> {
    program::log_to_stderr(false)?;
    match cli.verb {
        Verb::Check(args) => check::run(&args),
        Verb::Kernels(args) => kernels::run(&args).map(|()| 0),
        Verb::Report(args) => baseline::report(&args).map(|()| 0),
        Verb::Step(args) => step::run(&args).map(|()| 0),
        Verb::Search(args) => search::run(&args).map(|()| 0),
        Verb::Loader(args) => loader::run(&args).map(|()| 0),
    }
}
