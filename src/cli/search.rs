//! `engine search`: the subnets that fit images, a task and a budget.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::Globals;
use super::source::Count;
use crate::config::{Config, Method};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::eval::record::domain;
use crate::nn::Feature;
use crate::program::args::{at_least_one, at_least_two};
use crate::program::output::fitting_table;
use crate::program::{open_device, print, print_json};
use crate::report;
use crate::search::winners::find_arch;
use crate::search::{self, Bn, BudgetResult, Request, Selection, Task, Winners};
use crate::signals::Signals;
use crate::space::{Budget, Metric, Named};
use crate::train::Checkpoint;

/// Arguments of `engine search`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SearchArgs {
    /// A run's folder (its newest checkpoint) or a checkpoint's
    #[arg(long, value_name = "RUN|CKPT")]
    pub ckpt: PathBuf,
    /// Images of the target domain; labels are not used
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    pub data: Vec<String>,
    /// What the net is for, which decides the features that are compared: cls z, det-c4 C5,
    /// det-fpn C2 to C5, seg C4 and C5
    #[arg(long, value_name = "TASK", hide_possible_values = true)]
    #[arg(required_unless_present = "features")]
    pub task: Option<Task>,
    /// The features themselves, instead of the task's
    #[arg(long, value_name = "z,c5,...", value_delimiter = ',')]
    pub features: Vec<Feature>,
    /// One budget: lo..hi, hi itself outside
    #[arg(long, value_name = "3G..4G", conflicts_with_all = ["groups", "arch"])]
    pub budget: Option<String>,
    /// Several budgets: lo..hi:step [default: round groups that cover the space]
    #[arg(long, value_name = "1G..8G:1G", conflicts_with = "arch")]
    pub groups: Option<String>,
    /// What budgets limit: macs, params or latency (measured here, one image at a time)
    #[arg(long, value_name = "METRIC", default_value = "macs", hide_possible_values = true)]
    pub metric: Metric,
    /// Candidates of each budget; one that has no more is taken whole
    #[arg(long, value_name = "N|all", default_value = "100")]
    pub samples: Count,
    /// These candidates only: IDs, max, min, r50 or winner (of earlier searches)
    #[arg(long, value_name = "ARCH", num_args = 1..)]
    pub arch: Vec<Named>,
    /// Batch norms' statistics: recalibrate computes them for every candidate, batch takes each
    /// batch's own
    #[arg(long, value_name = "MODE", default_value = "recalibrate", hide_possible_values = true)]
    pub bn: Bn,
    /// Images that statistics are computed from
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = at_least_two)]
    pub bn_images: usize,
    /// Images that candidates are compared on
    #[arg(long, value_name = "N|all", default_value = "1024")]
    pub images: Count,
    /// Temperature of the relation of feature maps [default: the run's search.tau, 0.2]
    #[arg(long, value_name = "T")]
    pub tau: Option<f64>,
    /// Winners listed for each budget
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = at_least_one)]
    pub top: usize,
    /// Where to write [default: RUN/search/ and a name made of task and images]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Go on with the search in --out
    #[arg(long)]
    pub resume: bool,
    /// Delete the search that is in --out
    #[arg(long, conflicts_with = "resume")]
    pub overwrite: bool,
    /// Search even if the teacher has collapsed and scores mean nothing (exit 4 otherwise)
    #[arg(long)]
    pub force: bool,
}

const EXAMPLES: &str = "\
Examples:
  engine search --ckpt runs/a --data target/ --task cls --budget 3G..4G
  engine search --ckpt runs/a --data target/ --task det-fpn \\
    --groups 1G..8G:1G --samples 100
  engine search --ckpt runs/a --data target/ --task cls \\
    --metric latency --budget 2ms..5ms
Higher scores are better.";

impl SearchArgs {
    /// The budgets that were asked for; none means the space's default groups.
    pub fn budgets(&self) -> Result<Vec<Budget>> {
        match (&self.budget, &self.groups) {
            (Some(budget), _) => Ok(vec![Budget::parse(budget, self.metric)?]),
            (None, Some(groups)) => Budget::parse_groups(groups, self.metric),
            (None, None) => Ok(Vec::new()),
        }
    }

    fn selection(&self, checkpoint: &Checkpoint) -> Result<Selection> {
        if !self.arch.is_empty() {
            let archs = self.arch.iter().map(|named| find_arch(*named, checkpoint));
            return Ok(Selection::Archs(archs.collect::<Result<_>>()?));
        }
        let (budgets, metric) = (self.budgets()?, self.metric);
        Ok(Selection::Budgets { budgets, metric, samples: self.samples.limit() })
    }

    /// The search's folder: `--out`, or in the run's folder a name made of task, images and
    /// candidates.
    fn folder(&self, checkpoint: &Checkpoint) -> Result<PathBuf> {
        if let Some(out) = &self.out {
            return Ok(out.clone());
        }
        let run = checkpoint.run_dir().ok_or_else(|| {
            Error::usage(format!(
                "{} does not lie in a run's folder: say with --out where to write",
                checkpoint.dir.display()
            ))
        })?;
        let task = self.task.iter().map(|task| task.as_str());
        let words = task.chain(self.features.iter().map(|feature| feature.name()));
        let what = words.collect::<Vec<_>>().join("+");
        let candidates = match (&self.budget, &self.groups) {
            (Some(range), _) | (None, Some(range)) => format!("-{}", range.replace("..", "-")),
            (None, None) if self.arch.is_empty() => String::new(),
            (None, None) => "-given".into(),
        };
        let tag = format!("{what}-{}{candidates}", domain(&self.data));
        let safe = |c: char| if c.is_ascii_alphanumeric() || "._+-".contains(c) { c } else { '-' };
        Ok(run.join("search").join(tag.chars().map(safe).collect::<String>()))
    }

    fn request(
        &self,
        globals: &Globals,
        checkpoint: &Checkpoint,
        workers: usize,
    ) -> Result<Request> {
        let features = match self.task {
            Some(task) if self.features.is_empty() => task.features().to_vec(),
            _ => self.features.clone(),
        };
        Ok(Request {
            data: self.data.clone(),
            task: self.task,
            features,
            selection: self.selection(checkpoint)?,
            bn: self.bn,
            bn_images: self.bn_images,
            images: self.images.limit(),
            top: self.top,
            tau: self.tau.map_or_else(|| run_tau(checkpoint), Ok)?,
            seed: globals.seed.unwrap_or(checkpoint.state.seed),
            workers,
            out: self.folder(checkpoint)?,
            resume: self.resume,
            overwrite: self.overwrite,
            force: self.force,
        })
    }
}

/// The temperature that the run was configured with.
fn run_tau(checkpoint: &Checkpoint) -> Result<f64> {
    let state = &checkpoint.state;
    match state.config.get("search.tau").and_then(|tau| tau.parse().ok()) {
        Some(tau) => Ok(tau),
        None => Ok(Config::defaults(&state.preset, Method::Moco).search.tau),
    }
}

/// Searches.
pub fn run(args: &SearchArgs, globals: &Globals) -> Result<()> {
    let (winners, out) = search(args, globals)?;
    if globals.json {
        let mut value = serde_json::to_value(&winners).map_err(|e| Error::write(&out, e))?;
        value["out"] = json!(out.display().to_string());
        return print_json(&value);
    }
    print(&text(&winners, &out))
}

/// Searches without printing: what was found, and the folder it is in.
pub fn search(args: &SearchArgs, globals: &Globals) -> Result<(Winners, PathBuf)> {
    let checkpoint = Checkpoint::open(&args.ckpt)?;
    let cx = open_device(&globals.device)?;
    let request = args.request(globals, &checkpoint, cx.threads())?;
    let dataset = Arc::new(Dataset::open(&args.data)?);
    let signals = Signals::listen()?;
    let winners = cx.install(|| search::run(&cx, &checkpoint, dataset, &request, &signals))?;
    report::search(&request.out)?;
    Ok((winners, request.out))
}

/// What the columns about certainty mean.
const RESAMPLES_NOTE: &str = "\
First in resamples: the share of 1,000 redraws of the search images (bootstrap) in which the net's \
score is the highest of its budget; the interval is of the same redraws. Both say how much the \
choice of search images matters, and nothing about accuracy or about training once more. A tie \
cannot be told from the best by these images.";

/// The winners as a table.
fn text(winners: &Winners, out: &Path) -> String {
    let header = [
        "budget",
        "rank",
        "architecture",
        "macs",
        "params",
        "latency",
        "score",
        "95 % interval",
        "first in resamples",
        "tie",
    ];
    let mut rows = vec![header.map(String::from).to_vec()];
    for result in &winners.budgets {
        for winner in &result.winners {
            let c = &winner.candidate;
            rows.push(vec![
                if winner.rank == 1 { result.group.budget.clone() } else { String::new() },
                winner.rank.to_string(),
                c.arch.to_string(),
                Metric::Macs.show(c.macs),
                Metric::Params.show(c.params),
                c.latency_ms.map_or(String::new(), |ms| format!("{ms:.2} ms")),
                format!("{:.4}", c.score),
                format!("{:.4} to {:.4}", c.ci95[0], c.ci95[1]),
                winner.p_best.map_or("unknown".into(), |p| format!("{:.1} %", 100.0 * p)),
                if winner.tied && winner.rank > 1 { "tie".into() } else { String::new() },
            ]);
        }
    }
    let timed = |c: &search::Winner| c.candidate.latency_ms.is_some();
    if !winners.budgets.iter().flat_map(|b| &b.winners).any(timed) {
        rows.iter_mut().for_each(|row| drop(row.remove(5)));
    }
    let may_go = ["first in resamples", "95 % interval", "params", "rank", "macs"];
    let looked: Vec<String> = winners.budgets.iter().map(BudgetResult::looked_at).collect();
    let same = search::winners::warning(&winners.budgets, winners.images);
    let same = same.map_or(String::new(), |warning| format!("warning: {warning}\n"));
    let features: Vec<&str> = winners.features.iter().map(|f| f.name()).collect();
    let teacher = &winners.teacher;
    let teacher = match teacher.warning() {
        Some(warning) => format!("warning: {warning}"),
        None => format!("Teacher: {}, {}", teacher.state(), teacher.numbers()),
    };
    format!(
        "{}\nCompared on {} of {} images; higher scores are better.\n{same}{RESAMPLES_NOTE}\n{teacher}\n\
         Candidates: {}.\nAll of them: {}\nA page to look at: {}",
        fitting_table(&rows, &may_go),
        features.join("+"),
        winners.images,
        looked.join(", "),
        out.join("candidates.jsonl").display(),
        out.join("report.html").display()
    )
}
