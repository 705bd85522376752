//! The command line: one file a verb, each with its arguments and `run`, which validates them
//! into a plan and calls the library.

pub mod config;
pub mod data;
pub mod device;
pub mod doctor;
pub mod embed;
pub mod eval;
pub mod export;
pub mod inspect;
pub mod output;
pub mod program;
pub mod quickstart;
pub mod report;
pub mod search;
pub mod source;
pub mod space;
pub mod subject;
pub mod train;

use clap::{Args, Parser, Subcommand};

pub use device::{DeviceArgs, open_device};
pub use output::{print, print_json};

use crate::config::{Setting, flag};
use crate::error::Result;
use crate::signals;

/// Trains one elastic ResNet supernet on pictures without labels, searches the subnet that
/// fits your pictures, task and budget, and exports it with proof that it is the same net.
#[derive(Parser, Debug)]
#[command(name = "engine", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
    /// Flags of every verb.
    #[command(flatten)]
    pub globals: Globals,
}

const AFTER_HELP: &str = "\
Examples:
  engine quickstart                                    the whole job in a few minutes
  engine train --data pictures/ --out runs/a --preset tiny
  engine search --ckpt runs/a --data pictures/ --task cls --budget 5M..10M
  engine export --ckpt runs/a --arch ID --bn-data pictures/ --out exported/

Exit codes: 0 ok, 2 usage or settings, 3 data, 4 diverged or collapsed, 5 device or memory,
6 resume mismatch, 7 parity or benchmark regression, 75 stopped and can be resumed, 130 INT.";

/// Flags that every verb understands.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Flags of every verb")]
pub struct Globals {
    /// Device, precision and threads.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Seed of every random draw (default: the setting `seed`, which is 0 unless set).
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub seed: Option<u64>,
    /// Bit-identical results on CUDA too (the CPU's always are).
    #[arg(long, global = true)]
    pub deterministic: bool,
    /// Only warnings and errors on stderr, and no progress bar.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// One JSON object on stdout instead of text.
    #[arg(long, global = true)]
    pub json: bool,
}

impl Globals {
    /// The seed of verbs that have no settings: `--seed`, else 0.
    pub fn seed(&self) -> u64 {
        self.seed.unwrap_or(0)
    }

    /// The settings that these flags stand for.
    pub fn settings(&self) -> Vec<Setting> {
        let seed = self.seed.map(|s| flag("--seed", "seed", s as i64));
        let precision =
            self.device.precision.map(|p| flag("--precision", "train.precision", p.as_str()));
        seed.into_iter().chain(precision).collect()
    }
}

/// The verbs.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// The whole job in a few minutes: pictures, training, search, evaluation, export, report
    Quickstart(quickstart::QuickstartArgs),
    /// Train a supernet on pictures without labels
    Train(Box<train::TrainArgs>),
    /// Find the subnets that fit pictures, a task and a budget, without labels
    Search(search::SearchArgs),
    /// Measure a subnet on labelled pictures: nearest neighbours or a linear classifier
    Eval(eval::EvalArgs),
    /// Write a subnet's features of pictures to a safetensors file
    Embed(embed::EmbedArgs),
    /// Cut a subnet out at its true size, with proof that it is the same net
    Export(export::ExportArgs),
    /// Look at search spaces: sizes, counts, costs
    Space(space::SpaceArgs),
    /// Check, pack or describe pictures
    Data(data::DataArgs),
    /// Show the settings of a run, or validate a file of them
    Config(config::ConfigVerbArgs),
    /// Show what is in a run, a checkpoint or a safetensors file
    Inspect(inspect::InspectArgs),
    /// Write a run's report.html
    Report(report::ReportArgs),
    /// Say what this machine offers and whether everything needed is there
    Doctor(doctor::DoctorArgs),
}

impl Verb {
    /// Whether a signal is waited with until something was kept.
    fn heeds_signals(&self) -> bool {
        match self {
            Self::Train(args) => !args.dry_run,
            Self::Quickstart(_) | Self::Search(_) => true,
            _ => false,
        }
    }
}

/// Runs a verb.
pub fn run(cli: Cli) -> Result<()> {
    let globals = &cli.globals;
    program::log_to_stderr(globals.quiet);
    if !cli.verb.heeds_signals() {
        signals::heed_no_more();
    }
    match cli.verb {
        Verb::Quickstart(args) => quickstart::run(&args, globals),
        Verb::Train(args) => train::run(&args, globals),
        Verb::Search(args) => search::run(&args, globals),
        Verb::Eval(args) => eval::run(&args, globals),
        Verb::Embed(args) => embed::run(&args, globals),
        Verb::Export(args) => export::run(&args, globals),
        Verb::Space(args) => space::run(&args, globals),
        Verb::Data(args) => data::run(&args, globals),
        Verb::Config(args) => config::run(&args, globals),
        Verb::Inspect(args) => inspect::run(&args, globals),
        Verb::Report(args) => report::run(&args, globals),
        Verb::Doctor(args) => doctor::run(&args, globals),
    }
}
