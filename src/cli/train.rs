//! `engine train`: a supernet from pictures without labels.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::config::SettingArgs;
use super::device::open_device_in;
use super::{Globals, print, print_json};
use crate::config::{Resolved, Setting, looks_like_word, parse_duration, resolve, word};
use crate::error::{Error, Result};
use crate::progress::{human_bytes, human_duration};
use crate::signals::Signals;
use crate::train::{self, Options, Outcome, Plan, ProbeOn, Resume};

/// Arguments of `engine train`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = EXAMPLES)]
pub struct TrainArgs {
    /// Settings.
    #[command(flatten)]
    pub settings: SettingArgs,
    /// Pictures: a folder, a text list of paths, tar shards, CIFAR files or a packed file;
    /// PATH#NAME takes a folder inside an archive
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    pub data: Vec<String>,
    /// The run's folder
    #[arg(long, value_name = "DIR", required_unless_present = "dry_run")]
    pub out: Option<PathBuf>,
    /// Weights to start from: a safetensors file with torchvision's names, or the folder of an
    /// export, a checkpoint or a run (its newest student). They go into the first channels and
    /// blocks; the log says what did not fit. A run that is resumed goes on with its own
    #[arg(long, value_name = "FILE|DIR")]
    pub init: Option<PathBuf>,
    /// Go on with the run in --out: auto (start where there is none), must, or a checkpoint.
    /// train.epochs may be larger than before: from there on the learning rate is that of the
    /// longer run
    #[arg(long, value_name = "auto|must|PATH", num_args = 0..=1, default_missing_value = "auto")]
    pub resume: Option<String>,
    /// Delete the run that is in --out
    #[arg(long, conflicts_with = "resume")]
    pub overwrite: bool,
    /// Every so often (probe.every), tell by labelled images what the nets have learnt: accuracy of
    /// the 20 nearest neighbours of MAX and MIN, in the log, probe.jsonl, status.json and the report.
    /// A source as in --data with class folders; without a value, or with self, --data's own class
    /// folders. Training does not see the labels and its weights stay the same
    #[arg(long, value_name = "LABELLED", num_args = 0..=1, default_missing_value = "self")]
    pub probe: Option<String>,
    /// Stop after so many steps of the whole run, as if it ended there
    #[arg(long, value_name = "N")]
    pub max_steps: Option<u64>,
    /// Checkpoint and stop (exit 75) after so long, say 11h50m
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub time_limit: Option<Duration>,
    /// Plan the memory, time a few steps, write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Write all that goes into and comes out of these steps, say 0,1
    #[arg(long, value_name = "STEPS", value_delimiter = ',', requires = "dump_dir")]
    pub dump_steps: Vec<u64>,
    /// Where to
    #[arg(long, value_name = "DIR", requires = "dump_steps")]
    pub dump_dir: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  engine train --preset tiny --data pictures/ --out runs/a train.epochs=20
  engine train --preset cifar --data cifar10.tar.zst#train --out runs/b --resume --time-limit 11h50m
  engine train --preset tiny --data pictures/ --out runs/c --probe labelled/ probe.every=2ep
  engine train --preset tiny --data pictures/ --out runs/a --resume train.epochs=40
  engine train --preset tiny --data other/ --out runs/d --init runs/a
  engine train -c run.toml --data shards/*.tar --out runs/e --dry-run
All settings with their values: engine config show --preset tiny";

impl TrainArgs {
    /// Settings and pictures' sources. Flags that take several values also take the
    /// `key=value` words behind them; those are told apart here.
    pub fn resolve(&self, globals: &Globals) -> Result<(Resolved, Vec<String>)> {
        let (data, mut strayed) = split_words(&self.data)?;
        if data.is_empty() {
            return Err(Error::usage("--data names no pictures, expected at least one path"));
        }
        let mut settings = self.settings.settings()?;
        for text in [&self.resume, &self.probe].into_iter().flatten().filter(|r| is_word(r)) {
            strayed.push(word(text)?);
        }
        settings.extend(strayed);
        settings.extend(globals.settings());
        Ok((resolve(&settings)?, data))
    }

    /// What follows `--resume`: `auto`, `must` or a path; none without the flag.
    pub fn resume(&self) -> Option<&str> {
        self.resume.as_deref().map(|r| if is_word(r) { "auto" } else { r })
    }
}

/// What `--probe` names.
fn probe_on(value: &str) -> ProbeOn {
    match value == "self" || is_word(value) {
        true => ProbeOn::Own,
        false => ProbeOn::Source(value.to_owned()),
    }
}

/// Whether a value is really a `key=value` word: it looks like one and no such file exists.
fn is_word(value: &str) -> bool {
    looks_like_word(value) && !Path::new(value.split('#').next().unwrap_or(value)).exists()
}

fn split_words(values: &[String]) -> Result<(Vec<String>, Vec<Setting>)> {
    let (words, paths): (Vec<&String>, Vec<&String>) = values.iter().partition(|v| is_word(v));
    let settings = words.into_iter().map(|w| word(w)).collect::<Result<_>>()?;
    Ok((paths.into_iter().cloned().collect(), settings))
}

/// Trains, or plans to.
pub fn run(args: &TrainArgs, globals: &Globals) -> Result<()> {
    let (resolved, data) = args.resolve(globals)?;
    let cx = open_device_in(&globals.device, resolved.config.train.precision)?;
    let options = Options {
        settings: resolved,
        command: command_line(),
        data,
        // Absent only in a dry run, which writes nothing.
        out: args.out.clone().unwrap_or_default(),
        init: args.init.clone(),
        resume: match args.resume() {
            None => Resume::No,
            Some("auto") => Resume::Auto,
            Some("must") => Resume::Must,
            Some(path) => Resume::From(path.into()),
        },
        overwrite: args.overwrite,
        claimed: None,
        max_steps: args.max_steps,
        time_limit: args.time_limit,
        dump_steps: args.dump_steps.clone(),
        dump_dir: args.dump_dir.clone(),
        probe: args.probe.as_deref().map(probe_on),
        quiet: globals.quiet,
    };
    if args.dry_run {
        let plan = cx.install(|| train::dry_run(&cx, &options))?;
        return if globals.json { print_json(&plan) } else { print(&plan_in_words(&plan)) };
    }
    let signals = Signals::listen()?;
    let outcome = cx.install(|| train::run(&cx, &options, &signals))?;
    finish(&outcome, &options, globals.json)
}

/// Says how the run ended; a run that was stopped ends with its signal's exit code.
fn finish(outcome: &Outcome, options: &Options, json: bool) -> Result<()> {
    let (step, out) = (outcome.step, options.out.display());
    let Outcome { steps, loss, standing, .. } = *outcome;
    let state = if outcome.stopped.is_none() && step == steps { "done" } else { "stopped" };
    if json {
        print_json(&json!({
            "state": state, "step": step, "steps": steps, "loss": loss,
            "spread": standing.map(|s| s.spread), "rank": standing.map(|s| s.rank),
            "health": standing.map(|s| s.health), "out": out.to_string(),
        }))?;
    } else if outcome.stopped.is_none() {
        let loss = loss.map_or(String::new(), |loss| format!(", loss {loss:.4}"));
        let health = standing.map_or(String::new(), |s| format!(", {s}"));
        print(&format!("{out}: {state} at step {step} of {steps}{loss}{health}"))?;
    }
    outcome.stopped.map_or(Ok(()), |kind| {
        let what = "with a checkpoint; go on with --resume";
        Err(Error::new(kind, format!("stopped after step {step} in {out}, {what}")))
    })
}

fn plan_in_words(plan: &Plan) -> String {
    let bound = plan.limited_by.as_ref().map_or(String::new(), |by| format!(" (bounded by {by})"));
    let available = plan.available_bytes.map_or("unknown".to_owned(), human_bytes);
    format!(
        "preset {}: {} steps over {} pictures\nmemory   {} planned, {available} available{bound}\n\
         step     {:.0} ms, {:.1} pictures/s\nETA      {}",
        plan.preset,
        plan.steps,
        plan.pictures,
        human_bytes(plan.planned_bytes),
        plan.step_ms,
        plan.images_per_s,
        human_duration(plan.eta_s),
    )
}

/// The command line as a shell would take it.
fn command_line() -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,#+@%".contains(c);
    let quote = |word: String| match !word.is_empty() && word.chars().all(plain) {
        true => word,
        false => format!("'{}'", word.replace('\'', "'\\''")),
    };
    let words = std::env::args_os().map(|w| quote(w.to_string_lossy().into_owned()));
    words.collect::<Vec<_>>().join(" ")
}
