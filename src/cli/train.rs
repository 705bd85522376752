//! `engine train`: a supernet from images without labels.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use serde_json::json;

use super::Globals;
use super::config::SettingArgs;
use crate::config::{
    Precision, Resolved, Setting, flag, looks_like_word, parse_duration, resolve, word,
};
use crate::cx::Cx;
use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::outside::in_shell;
use crate::program::device::open_device_in;
use crate::program::output::facts;
use crate::program::{print, print_json};
use crate::progress::{human_bytes, human_duration, human_rate};
use crate::signals::Signals;
use crate::space::Named;
use crate::space::budget::macs;
use crate::train::{self, FASTEST_GPU, Options, Outcome, Plan, ProbeOn, Resume};

/// Arguments of `engine train`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = EXAMPLES)]
pub struct TrainArgs {
    /// Settings.
    #[command(flatten)]
    pub settings: SettingArgs,
    /// Images: a folder, a text list of paths, tar shards, CIFAR files or a packed file;
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
    /// Train this net alone, at its true size, instead of a supernet: an ID, max, min or r50
    #[arg(long, value_name = "ID")]
    pub arch: Option<Named>,
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
    /// With --dry-run: plan for a GPU with so much memory that is not here, say 80GiB
    #[arg(long, value_name = "SIZE", requires = "dry_run")]
    pub device_memory: Option<ByteSize>,
    /// Write all that goes into and comes out of these steps, say 0,1
    #[arg(long, value_name = "STEPS", value_delimiter = ',', requires = "dump_dir")]
    pub dump_steps: Vec<u64>,
    /// Folder for the dumped steps
    #[arg(long, value_name = "DIR", requires = "dump_steps")]
    pub dump_dir: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  engine train --preset tiny --data images/ --out runs/a train.epochs=20
  engine train --preset tiny --data images/ --out runs/a \\
    --resume train.epochs=40
  engine train --preset tiny --data images/ --out runs/c --probe labelled/
  engine train --preset tiny --data other/ --out runs/d --init runs/a
  engine train --preset tiny --method byol --arch min --data images/ \
    --out runs/e
  engine train --preset cifar --data cifar10.tar.zst#train --out runs/b \\
    --resume --time-limit 11h50m
  engine train -c run.toml --data shards/*.tar --dry-run --device-memory 80GiB
All settings, explained: engine config show --explain";

impl TrainArgs {
    /// Settings and images' sources. Flags that take several values also take the
    /// `key=value` words behind them; those are told apart here.
    pub fn resolve(&self, globals: &Globals) -> Result<(Resolved, Vec<String>)> {
        let (data, mut strayed) = split_words(&self.data)?;
        if data.is_empty() {
            return Err(Error::usage("--data names no images, expected at least one path"));
        }
        let mut settings = self.settings.settings()?;
        for text in [&self.resume, &self.probe].into_iter().flatten().filter(|r| is_word(r)) {
            strayed.push(word(text)?);
        }
        settings.extend(strayed);
        settings.extend(globals.settings());
        let mut resolved = resolve(&settings)?;
        if let Some(named) = self.arch {
            let arch = named.within(&resolved.config.preset, || {
                Err(Error::usage("--arch winner: expected an ID, max, min or r50 to train"))
            })?;
            settings.push(flag("--arch", "sampling.arch", arch.to_string()));
            resolved = resolve(&settings)?;
        }
        Ok((resolved, data))
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
pub(super) fn is_word(value: &str) -> bool {
    looks_like_word(value) && !Path::new(value.split('#').next().unwrap_or(value)).exists()
}

pub(super) fn split_words(values: &[String]) -> Result<(Vec<String>, Vec<Setting>)> {
    let (words, paths): (Vec<&String>, Vec<&String>) = values.iter().partition(|v| is_word(v));
    let settings = words.into_iter().map(|w| word(w)).collect::<Result<_>>()?;
    Ok((paths.into_iter().cloned().collect(), settings))
}

/// Trains, or plans to.
pub fn run(args: &TrainArgs, globals: &Globals) -> Result<()> {
    let (resolved, data) = args.resolve(globals)?;
    let precision = resolved.config.train.precision;
    let cx = match args.device_memory {
        None => open_device_in(&globals.device, precision)?,
        Some(memory) => absent_gpu(memory, globals, precision)?,
    };
    let options = Options {
        settings: resolved,
        command: command_line(),
        data,
        // Absent only in a dry run, which writes nothing.
        out: args.out.clone().unwrap_or_default(),
        init: args.init.clone(),
        resume: resume(args.resume()),
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

/// What a value of `--resume` asks for.
pub(super) fn resume(value: Option<&str>) -> Resume {
    match value {
        None => Resume::No,
        Some("auto") => Resume::Auto,
        Some("must") => Resume::Must,
        Some(path) => Resume::From(path.into()),
    }
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
        let nets = outcome.nets as f64;
        let loss = loss.map_or(String::new(), |loss| format!(", loss {:.4}", loss / nets));
        let health = standing.map_or(String::new(), |s| format!(", {s}"));
        print(&format!("{out}: {state} at step {step} of {steps}{loss}{health}"))?;
    }
    expect_end(outcome, &options.out)
}

/// A run that was stopped ends with its signal's exit code.
pub(super) fn expect_end(outcome: &Outcome, out: &Path) -> Result<()> {
    outcome.stopped.map_or(Ok(()), |kind| {
        let (step, out) = (outcome.step, out.display());
        let what = "with a checkpoint; continue with --resume";
        Err(Error::new(kind, format!("stopped after step {step} in {out}, {what}")))
    })
}

fn plan_in_words(plan: &Plan) -> String {
    let Plan { batch, parts, epochs, warmup_epochs, lr, .. } = *plan;
    let bound = plan.limited_by.as_ref().map_or(String::new(), |by| format!(" (bounded by {by})"));
    let available = plan.available_bytes.map_or("unknown".to_owned(), human_bytes);
    let in_parts = match parts {
        1 => String::new(),
        _ => format!(" in {parts} parts of {}, whose gradients are summed", batch / parts),
    };
    let warmup = match warmup_epochs {
        0.0 => String::new(),
        epochs => format!("over {epochs} epochs up to "),
    };
    let step = plan.step_ms.zip(plan.images_per_s).zip(plan.timed_images);
    let step = step.map(|((ms, rate), images)| {
        let scaled = match images == batch {
            true => String::new(),
            false => format!(", scaled to {batch}"),
        };
        format!(
            "{:.3} s, {} ({} steps of {images} images were timed{scaled})",
            ms / 1e3,
            human_rate(rate),
            plan.timed_steps
        )
    });
    let least_step = || {
        plan.least_step_ms.map_or("not measured".into(), |ms| {
            format!("at least {:.3} s: its compute at the peak of an {FASTEST_GPU}", ms / 1e3)
        })
    };
    let least_run = || {
        plan.least_s.map_or("not measured".into(), |s| format!("at least {}", human_duration(s)))
    };
    facts(&[
        ("preset", format!("{}, {} images", plan.preset, plan.images)),
        ("batch", format!("{batch} images{in_parts}")),
        ("schedule", format!("{} steps, {epochs} epochs", plan.steps)),
        ("rate", format!("{warmup}{lr}, then down to 0 along half a cosine")),
        (
            "memory",
            format!("{} planned, {available} available{bound}", human_bytes(plan.planned_bytes)),
        ),
        ("compute", format!("{} a step on average, at least", macs(plan.macs_per_step))),
        ("step", step.unwrap_or_else(least_step)),
        ("ETA", plan.eta_s.map_or_else(least_run, human_duration)),
    ])
}

/// A context that plans for a GPU that is not here.
fn absent_gpu(memory: ByteSize, globals: &Globals, precision: Precision) -> Result<Cx> {
    let device = &globals.device;
    if !matches!(device.device, DeviceChoice::Auto | DeviceChoice::Cuda(_)) {
        return Err(Error::usage(
            "--device-memory plans for a GPU that is not here: expected --device cuda, or none",
        ));
    }
    let bytes =
        usize::try_from(memory.as_u64()).ok().filter(|bytes| *bytes > 0).ok_or_else(|| {
            Error::usage(format!("--device-memory {memory}: expected a size such as 80GiB"))
        })?;
    let cx = Cx::planning_gpu(bytes, device.threads.into())?;
    let dtype = precision.dtype(cx.is_device());
    tracing::info!(
        "planning for a GPU of {} that is not here, in {}; what its driver takes for itself is not \
         in the plan",
        human_bytes(bytes),
        Precision::of(dtype)
    );
    Ok(cx.computing_in(dtype))
}

/// The command line as a shell would take it.
pub(super) fn command_line() -> String {
    in_shell(std::env::args_os().map(|word| word.to_string_lossy().into_owned()))
}
