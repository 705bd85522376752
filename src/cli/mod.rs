//! The command line: one file a verb, each with its arguments and `run`, which validates them
//! into a plan and calls the library.

pub mod completions;
pub mod config;
pub mod data;
pub mod doctor;
pub mod embed;
pub mod eval;
pub mod eval_cls;
mod eval_dense;
mod eval_many;
pub mod export;
pub mod finetune;
pub mod inspect;
pub mod quickstart;
pub mod report;
pub mod search;
pub mod source;
pub mod space;
pub mod study;
pub mod train;

use std::ffi::OsString;

use clap::{Arg, Args, Command, CommandFactory, Parser, Subcommand};

use crate::bench::{self, BenchCli};
use crate::config::{Setting, flag};
use crate::error::Result;
use crate::program::{self, DeviceArgs};
use crate::signals;

/// Trains one elastic ResNet supernet on images without labels, searches the subnet that
/// fits your images, task and budget, and exports it with proof that it is the same net.
#[derive(Parser, Debug)]
#[command(name = "engine", max_term_width = 100, subcommand_value_name = "VERB")]
#[command(subcommand_help_heading = "Verbs", after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
    /// Flags of every verb.
    #[command(flatten)]
    pub globals: Globals,
}

/// The last line of what `engine` alone prints.
pub const BEGIN: &str = "\
Begin with `engine quickstart`. `engine VERB --help` lists a verb's flags, with examples.";

const AFTER_HELP: &str = "\
Examples:
  engine quickstart
  engine train --data images/ --out runs/a --preset tiny
  engine search --ckpt runs/a --data images/ --task cls --budget 5M..10M
  engine export --ckpt runs/a --arch winner --bn-data images/ --out exported/

Environment:
  ENGINE_LOG=warn|info|debug  how much is logged on stderr (default: info)
  NO_COLOR=1                  no colours
  ENGINE_MAX_...              limits on what is read: docs/reliability.md

Exit codes: 0 ok, 2 usage or settings, 3 data, 4 diverged or collapsed, 5 device or memory,
6 resume mismatch, 7 parity or benchmark regression, 75 stopped and can be resumed, 130 INT.";

/// Flags that every verb takes. Each verb's help lists those that do something for it.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Device, precision and threads.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Seed of every random draw [default: the setting `seed`, which is 0 unless set]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub seed: Option<u64>,
    /// Bit-identical results: kernels sum in a fixed order, so they are with or without this flag
    #[arg(long, global = true, hide = true)]
    pub deterministic: bool,
    /// Only warnings and errors on stderr, and no progress bar
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// One JSON object on stdout instead of text
    #[arg(long, global = true)]
    pub json: bool,
}

/// Verbs for which not every global option does something, with those that do.
const USED: [(&str, &[&str]); 12] = [
    ("bench", &[]),
    ("completions", &[]),
    ("config", &["precision", "seed", "json"]),
    ("data", &["threads", "quiet", "json"]),
    ("doctor", &["device", "precision", "threads", "json"]),
    ("eval det", &["threads", "quiet", "json"]),
    ("eval seg", &["threads", "quiet", "json"]),
    ("export", &["device", "threads", "seed", "quiet", "json"]),
    ("inspect", &["json"]),
    ("man", &[]),
    ("report", &["quiet", "json"]),
    ("space", &["quiet", "json"]),
];

/// The grammar of the command line: that of [`Cli`], with each verb's help as long as it needs to be.
pub fn command(version: &'static str) -> Command {
    let command = Cli::command().version(version);
    let globals: Vec<Arg> =
        command.get_arguments().filter(|arg| arg.is_global_set()).cloned().collect();
    let hidden = |name: &str| -> Vec<Arg> {
        let used = USED.iter().find(|(verb, _)| *verb == name).map(|(_, used)| *used);
        let unused = |arg: &&Arg| used.is_some_and(|used| !used.contains(&arg.get_id().as_str()));
        globals.iter().filter(unused).map(|arg| arg.clone().hide(true)).collect()
    };
    // A changed verb goes to the end of the list, so all of them are, in order.
    verbs(&command).iter().fold(command, |command, name| {
        command.mut_subcommand(name, |verb| {
            verbs(&verb).iter().fold(verb.args(hidden(name)), |verb, within| {
                let hidden = hidden(&format!("{name} {within}"));
                verb.mut_subcommand(within, |verb| verb.args(hidden))
            })
        })
    })
}

/// Names of a command's verbs, in order.
fn verbs(command: &Command) -> Vec<String> {
    command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect()
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
    /// The whole job in a few minutes, from images to a report
    Quickstart(quickstart::QuickstartArgs),
    /// Train a supernet on images without labels
    Train(Box<train::TrainArgs>),
    /// Find the subnets that fit images, task and budget, without labels
    Search(search::SearchArgs),
    /// Train a subnet further on labelled images, and test it
    Finetune(Box<finetune::FinetuneArgs>),
    /// Measure a subnet on labelled images
    Eval(eval::EvalVerbArgs),
    /// Make the paper's tables on your images
    Study(Box<study::StudyArgs>),
    /// Write a subnet's features of images to a safetensors file
    Embed(embed::EmbedArgs),
    /// Cut a subnet out at its true size, with proof of parity
    Export(export::ExportArgs),
    /// Look at search spaces: sizes, counts, costs
    Space(space::SpaceArgs),
    /// Check, pack or describe images
    Data(data::DataArgs),
    /// Show and explain the settings of a run, or validate a file of them
    Config(config::ConfigVerbArgs),
    /// Show what is in a run, a checkpoint or a safetensors file
    Inspect(inspect::InspectArgs),
    /// Write a run's report.html
    Report(report::ReportArgs),
    /// Say what this machine offers, and what is missing
    Doctor(doctor::DoctorArgs),
    /// Print a script by which a shell completes the command line
    #[command(display_order = program::LAST)]
    Completions(completions::CompletionsArgs),
    /// Write manual pages
    #[command(display_order = program::LAST)]
    Man(completions::ManArgs),
    /// Check and time the ops, for those who work on engine
    #[command(disable_help_flag = true)]
    Bench {
        /// As the program `bench` takes them
        #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

impl Verb {
    /// Whether a signal is waited with until something was kept.
    fn heeds_signals(&self) -> bool {
        match self {
            Self::Train(args) => !args.dry_run,
            Self::Finetune(args) => !args.dry_run,
            Self::Quickstart(_) | Self::Search(_) | Self::Study(_) => true,
            _ => false,
        }
    }
}

/// Runs a verb; returns the process's exit code.
pub fn run(cli: Cli) -> Result<u8> {
    let globals = &cli.globals;
    if !cli.verb.heeds_signals() {
        signals::heed_no_more();
    }
    if let Verb::Bench { args } = &cli.verb {
        return run_bench(args);
    }
    program::log_to_stderr(globals.quiet)?;
    match cli.verb {
        Verb::Quickstart(args) => quickstart::run(&args, globals),
        Verb::Train(args) => train::run(&args, globals),
        Verb::Search(args) => search::run(&args, globals),
        Verb::Finetune(args) => finetune::run(&args, globals),
        Verb::Eval(args) => eval::run(&args, globals),
        Verb::Study(args) => study::run(&args, globals),
        Verb::Embed(args) => embed::run(&args, globals),
        Verb::Export(args) => export::run(&args, globals),
        Verb::Space(args) => space::run(&args, globals),
        Verb::Data(args) => data::run(&args, globals),
        Verb::Config(args) => config::run(&args, globals),
        Verb::Inspect(args) => inspect::run(&args, globals),
        Verb::Report(args) => report::run(&args, globals),
        Verb::Doctor(args) => doctor::run(&args, globals),
        Verb::Completions(args) => completions::run(&args),
        Verb::Man(args) => completions::man(&args),
        Verb::Bench { .. } => Ok(()),
    }
    .map(|()| 0)
}

/// `engine bench`: the program `bench`, whose flags are its own.
fn run_bench(args: &[OsString]) -> Result<u8> {
    let words = std::iter::once(OsString::from("engine bench")).chain(args.iter().cloned());
    match BenchCli::try_parse_from(words) {
        Ok(cli) => bench::run(cli),
        Err(e) => Ok(program::not_parsed(&e)),
    }
}
