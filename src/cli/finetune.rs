//! `engine finetune`: a net learns classes from labelled images.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgGroup, Args};
use serde_json::{Map, Value, json};

use super::Globals;
use super::eval_dense;
use super::train::{command_line, expect_end, is_word, resume, split_words};
use crate::config::{
    Recipe, Select, Setting, Task, flag, parse_duration, read_file, resolve, word,
};
use crate::error::{Error, Result};
use crate::eval::classes::Answers;
use crate::eval::dense::score::Metric;
use crate::eval::evaluate::standard_error;
use crate::export::describe;
use crate::finetune::cls::{self, Labels, Request};
use crate::finetune::dense;
use crate::program::device::open_device_in;
use crate::program::output::facts;
use crate::program::{print, print_json};
use crate::progress::human_bytes;
use crate::search::winners::find_arch;
use crate::signals::Signals;
use crate::space::{Arch, Named, Space};
use crate::train::{Checkpoint, Options, Outcome};

/// Arguments of `engine finetune`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
#[command(group = ArgGroup::new("source").required(true).args(["ckpt", "model", "init", "scratch"]))]
#[command(override_usage = "engine finetune --task TASK (--ckpt RUN --arch ARCH | --model DIR | \
                            --arch ARCH --init FILE | --arch ARCH --scratch) --data TRAIN \
                            --val-data VAL --out DIR [OPTIONS] [KEY=VALUE]...")]
pub struct FinetuneArgs {
    /// What is learnt: cls (classes of images), seg (classes of pixels), det-c4 or det-fpn (boxes, with
    /// det-fpn also masks)
    #[arg(long, value_name = "TASK", hide_possible_values = true)]
    pub task: Task,
    /// A pretrained run's folder (its newest checkpoint) or a checkpoint's
    #[arg(long, value_name = "RUN|CKPT")]
    pub ckpt: Option<PathBuf>,
    /// An exported net's folder
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// A safetensors file with torchvision's names; what does not fit is said, and fresh
    #[arg(long, value_name = "FILE")]
    pub init: Option<PathBuf>,
    /// Start from random weights
    #[arg(long)]
    pub scratch: bool,
    /// The net: an ID such as s32-w48.96.192.512-d2.2.5.2, max or min (of the space), r50, or winner
    /// (of the run's search). An export holds a single one
    #[arg(long, value_name = "ARCH")]
    pub arch: Option<Named>,
    /// Images to learn from. Of cls in class folders, of seg with label images (docs/dense.md), inside an
    /// archive or not
    #[arg(long, value_name = "TRAIN", num_args = 1.., required = true)]
    pub data: Vec<String>,
    /// Images to test on
    #[arg(long, value_name = "VAL", num_args = 1.., required = true)]
    pub val_data: Vec<String>,
    /// Folder of the images of --data, where they do not lie beside the annotations (of det-c4 and
    /// det-fpn)
    #[arg(long, value_name = "DIR")]
    pub images: Option<String>,
    /// The same of --val-data
    #[arg(long, value_name = "DIR")]
    pub val_images: Option<String>,
    /// How boxes are scored at the end
    #[arg(long, value_name = "METRIC", default_value_t)]
    pub metric: Metric,
    /// The run's folder
    #[arg(long, value_name = "DIR", required_unless_present = "dry_run")]
    pub out: Option<PathBuf>,
    /// Settings under one name. Of cls: small, semi, swav, simclr, linear, vtab1k or vtab-full [default:
    /// small, with preset data semi]; of seg: small, cityscapes-fcn or voc-fcn [default: small]
    #[arg(long, value_name = "NAME", hide_possible_values = true)]
    pub recipe: Option<Recipe>,
    /// Images whose labels are used: a share such as 0.01, the same number of each class; or a file
    /// that names them, one a line
    #[arg(long, value_name = "SHARE|FILE", default_value = "all")]
    pub labels: Labels,
    /// Images that learning rates are chosen on: held-out, test (as papers do; the result says so),
    /// or off
    #[arg(long, value_name = "ON", hide_possible_values = true)]
    pub select: Option<Select>,
    /// With recipe linear: the learning rate 30 alone, as in MoCo's paper
    #[arg(long, conflicts_with = "select")]
    pub paper: bool,
    /// Search space of --init and --scratch [default: the preset that the net lies in]
    #[arg(long, value_name = "NAME|FILE", conflicts_with_all = ["ckpt", "model"])]
    pub preset: Option<String>,
    /// Go on with the run in --out: auto (start where there is none), must, or a checkpoint
    #[arg(long, value_name = "auto|must|PATH", num_args = 0..=1, default_missing_value = "auto")]
    pub resume: Option<String>,
    /// Delete the run that is in --out
    #[arg(long, conflicts_with = "resume")]
    pub overwrite: bool,
    /// Stop after so many steps of the whole run
    #[arg(long, value_name = "N")]
    pub max_steps: Option<u64>,
    /// Checkpoint and stop (exit 75) after so long, say 11h50m
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub time_limit: Option<Duration>,
    /// Steps whose inputs, gradients and losses are kept for a replay elsewhere, such as 0,10 (not of cls)
    #[arg(long, value_name = "N,...", value_delimiter = ',', requires = "dump_dir")]
    pub dump_steps: Vec<u64>,
    /// Where to
    #[arg(long, value_name = "DIR", requires = "dump_steps")]
    pub dump_dir: Option<PathBuf>,
    /// Plan the memory, write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// A TOML file of settings; later words and flags override it
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Settings, such as finetune.lr_head=1; `engine config show --explain` has all
    #[arg(value_name = "KEY=VALUE")]
    pub words: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  engine finetune --task cls --ckpt runs/a --arch winner --data train/ --val-data test/ --out ft/
  engine finetune --task cls --model winner/ --data train/ --val-data test/ --out ft/ \\
    --labels 0.01 --recipe semi --resume
  engine finetune --task cls --arch r50 --init resnet50.safetensors --data train/ \\
    --val-data val/ --out linear/ --recipe linear
  engine finetune --task seg --ckpt runs/a --arch winner --data camvid.tar#train \\
    --val-data camvid.tar#test --out camvid/
docs/finetuning.md and docs/dense.md have the recipes.";

/// A net, and where its weights are from.
struct Start {
    arch: Arch,
    preset: Setting,
    init: Option<PathBuf>,
    is_cut: bool,
}

impl FinetuneArgs {
    fn start(&self) -> Result<Start> {
        if let Some(dir) = &self.model {
            let config = describe(dir)?;
            let none = || Err(Error::usage("an export has no search"));
            let other = |named: &Named| {
                let alone = config.origin.preset.single(&config.arch);
                named.within(&alone, none).ok() != Some(config.arch)
            };
            if let Some(other) = self.arch.filter(other) {
                return Err(Error::usage(format!(
                    "--arch {other}: {} is an export of {}; leave --arch out",
                    dir.display(),
                    config.arch
                )));
            }
            let preset = flag("--model", "preset", &config.origin.preset);
            return Ok(Start {
                arch: config.arch,
                preset,
                init: self.model.clone(),
                is_cut: false,
            });
        }
        let named = self.arch.ok_or_else(|| {
            Error::usage(
                "no net was named: expected --arch with an ID such as s32-w48.96.192.512-d2.2.5.2, or \
                 max, min, r50 or winner",
            )
        });
        if let Some(path) = &self.ckpt {
            let checkpoint = Checkpoint::open(path)?;
            let own = checkpoint.state.tuned.as_ref().map(|tuned| tuned.arch);
            let arch = match (self.arch, own) {
                (None, Some(own)) => own,
                _ => find_arch(named?, &checkpoint)?,
            };
            let preset = flag("--ckpt", "preset", &checkpoint.state.preset);
            return Ok(Start { arch, preset, init: self.ckpt.clone(), is_cut: true });
        }
        let named = named?;
        let space = match (&self.preset, named) {
            (Some(name), _) => Space::preset(name)?,
            (None, Named::Id(arch)) => Space::preset_of(&arch).ok_or_else(|| {
                Error::usage(format!("{arch} fits in no preset: engine space list has them"))
            })?,
            (None, Named::R50) => Space::preset("data")?,
            (None, other) => {
                return Err(Error::usage(format!(
                    "--arch {other}: of which space? give --preset as well"
                )));
            }
        };
        let none = || Err(Error::usage("--arch winner needs --ckpt, the run that was searched"));
        let arch = named.within(&space, none)?;
        let preset = flag("--preset", "preset", &space);
        Ok(Start { arch, preset, init: self.init.clone(), is_cut: false })
    }

    /// What the user set, lowest precedence first, and the images' sources, without the `key=value`
    /// words that flags of several values have taken.
    fn settings(&self, globals: &Globals) -> Result<(Vec<Setting>, Vec<String>, Vec<String>)> {
        let (data, strayed) = split_words(&self.data)?;
        let (val_data, more) = split_words(&self.val_data)?;
        if data.is_empty() || val_data.is_empty() {
            return Err(Error::usage("--data and --val-data: expected at least one path each"));
        }
        let mut settings = self.config.as_deref().map_or(Ok(Vec::new()), read_file)?;
        let words = self.words.iter().chain(self.resume.iter().filter(|r| is_word(r)));
        for text in words {
            settings.push(word(text)?);
        }
        settings.extend(strayed.into_iter().chain(more));
        settings.extend(self.recipe.map(|r| flag("--recipe", "finetune.recipe", r.as_str())));
        settings.extend(self.select.map(|s| flag("--select", "finetune.select", s.as_str())));
        if self.paper {
            settings.push(flag("--paper", "finetune.select", Select::Off.as_str()));
        }
        settings.extend(globals.settings());
        Ok((settings, data, val_data))
    }

    /// The run, what the user set, the net, and the test images.
    fn wanted(&self, globals: &Globals) -> Result<Wanted> {
        let (mut settings, data, val_data) = self.settings(globals)?;
        let Start { arch, preset, init, is_cut } = self.start()?;
        settings.push(preset);
        let resolved = resolve(&settings)?;
        let recipe = match resolved.is_set("finetune.recipe") {
            true => resolved.config.finetune.recipe,
            false if resolved.config.preset.like == "data" && self.task == Task::Cls => {
                Recipe::Semi
            }
            false => Recipe::Small,
        };
        let run = Options {
            settings: resolved,
            command: command_line(),
            data,
            out: self.out.clone().unwrap_or_default(),
            init,
            resume: resume(self.resume.as_deref().map(|r| if is_word(r) { "auto" } else { r })),
            overwrite: self.overwrite,
            claimed: None,
            max_steps: self.max_steps,
            time_limit: self.time_limit,
            dump_steps: self.dump_steps.clone(),
            dump_dir: self.dump_dir.clone(),
            probe: None,
            quiet: globals.quiet,
        };
        Ok(Wanted { run, recipe, settings, arch, is_cut, val_data })
    }

    fn of_classes(&self, globals: &Globals) -> Result<cls::Prepared> {
        if !self.dump_steps.is_empty() {
            return Err(Error::usage("--dump-steps is not for --task cls"));
        }
        self.expect_no_folders()?;
        let Wanted { run, recipe, settings, arch, is_cut, val_data } = self.wanted(globals)?;
        let (is_dry, labels) = (self.dry_run, self.labels.clone());
        cls::prepare(Request { run, is_dry, recipe, settings, arch, is_cut, labels, val_data })
    }

    /// Errors: folders of images for a task whose images lie where its annotations say.
    fn expect_no_folders(&self) -> Result<()> {
        match self.images.is_some() || self.val_images.is_some() {
            true => {
                Err(Error::usage("--images and --val-images are for --task det-c4 and det-fpn"))
            }
            false => Ok(()),
        }
    }

    fn of_dense(&self, globals: &Globals) -> Result<dense::Prepared> {
        let of_cls = [
            ("--labels", !matches!(self.labels, Labels::All)),
            ("--select", self.select.is_some()),
            ("--paper", self.paper),
        ];
        if let Some((flag, _)) = of_cls.iter().find(|(_, given)| *given) {
            return Err(Error::usage(format!("{flag} is for --task cls alone")));
        }
        if self.task == Task::Seg {
            self.expect_no_folders()?;
        }
        let Wanted { run, recipe, settings, arch, is_cut, val_data } = self.wanted(globals)?;
        let ([data], [val_data]) = (&run.data[..], &val_data[..]) else {
            return Err(Error::usage(format!(
                "--data and --val-data: expected one path each with --task {}",
                self.task
            )));
        };
        let (data, val_data) = (data.clone(), val_data.clone());
        let (is_dry, task) = (self.dry_run, self.task);
        dense::prepare(dense::Request {
            run,
            is_dry,
            task,
            recipe,
            settings,
            arch,
            is_cut,
            data,
            images: self.images.clone(),
            val_data,
            val_images: self.val_images.clone(),
            metric: self.metric,
        })
    }
}

/// What all tasks want to know.
struct Wanted {
    run: Options,
    recipe: Recipe,
    settings: Vec<Setting>,
    arch: Arch,
    is_cut: bool,
    val_data: Vec<String>,
}

/// Fine-tunes, or plans to.
pub fn run(args: &FinetuneArgs, globals: &Globals) -> Result<()> {
    match args.task {
        Task::Cls => classify(args, globals),
        _ => dense_task(args, globals),
    }
}

fn classify(args: &FinetuneArgs, globals: &Globals) -> Result<()> {
    let mut prepared = args.of_classes(globals)?;
    let cx = open_device_in(&globals.device, prepared.options.config().train.precision)?;
    if args.dry_run {
        let planned = cx.install(|| prepared.planned_bytes(&cx))?;
        return print_plan(globals, prepared.steps(), planned);
    }
    let signals = Signals::listen()?;
    let (outcome, tested) = cx.install(|| prepared.run(&cx, &signals))?;
    let Some(tested) = tested else { return stopped(&outcome, &prepared.options.out) };
    tracing::info!("written to {}", tested.path.display());
    if globals.json {
        print_json(&tested.result)
    } else {
        print(&in_words(&tested.answers, &tested.result))
    }
}

fn dense_task(args: &FinetuneArgs, globals: &Globals) -> Result<()> {
    let mut prepared = args.of_dense(globals)?;
    let cx = open_device_in(&globals.device, prepared.options.config().train.precision)?;
    if args.dry_run {
        let planned = cx.install(|| prepared.planned_bytes(&cx))?;
        return print_plan(globals, prepared.steps(), planned);
    }
    let signals = Signals::listen()?;
    let (outcome, tested) = cx.install(|| prepared.run(&cx, &signals))?;
    let Some(tested) = tested else { return stopped(&outcome, &prepared.options.out) };
    if let Some(path) = &tested.path {
        tracing::info!("written to {}", path.display());
    }
    match globals.json {
        true => print_json(&tested.result),
        false => print(&eval_dense::scored_text(&args.val_data[0], &tested)),
    }
}

fn print_plan(globals: &Globals, steps: u64, planned: usize) -> Result<()> {
    if globals.json {
        return print_json(&json!({ "steps": steps, "planned_bytes": planned }));
    }
    print(&facts(&[
        ("steps", steps.to_string()),
        ("memory", format!("{} planned", human_bytes(planned))),
    ]))
}

/// What is said of a run that has not come to its end.
fn stopped(outcome: &Outcome, out: &Path) -> Result<()> {
    if outcome.stopped.is_none() {
        print(&format!(
            "{}: stopped at step {} of {}; --resume goes on to the end, and tests",
            out.display(),
            outcome.step,
            outcome.steps
        ))?;
    }
    expect_end(outcome, out)
}

/// The result as lines.
pub(super) fn in_words(answers: &Answers, result: &Map<String, Value>) -> String {
    let n = answers.first.len();
    let text = |key: &str| match &result[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let share = |name: &str, share: f64, interval: &Value| {
        let ends = [0, 1].map(|i| 100.0 * interval[i].as_f64().unwrap_or(0.0));
        let value = format!(
            "{:.2} % ±{:.2}, 95 % interval {:.2} to {:.2}",
            100.0 * share,
            100.0 * standard_error(share, n),
            ends[0],
            ends[1]
        );
        (name.to_owned(), value)
    };
    let chance = 100.0 * result["chance"].as_f64().unwrap_or(0.0);
    let mut rows = vec![
        ("net".to_owned(), text("arch")),
        share("top-1", answers.top1(), &result["top1_ci95"]),
        share("top-5", answers.top5(), &result["top5_ci95"]),
        ("chance".to_owned(), format!("{chance:.2} % (the largest class)")),
        (
            "images".to_owned(),
            format!(
                "{} to learn ({} labels), {n} to test, {} classes",
                text("train_images"),
                text("labels"),
                text("classes")
            ),
        ),
        (
            "recipe".to_owned(),
            format!(
                "{}, lr {} of the body, {} of the head",
                text("recipe"),
                text("lr"),
                text("lr_head")
            ),
        ),
    ];
    if text("select") == Select::Test.as_str() {
        let warning = "the learning rates were chosen on the test images: the accuracy is too high";
        rows.push(("note".to_owned(), warning.to_owned()));
    }
    facts(&rows)
}
