//! The cells that tables ask for: what is trained, searched, fine-tuned and tested, by which
//! commands.

use std::path::PathBuf;

use serde_json::Value;

use super::cells::{Cell, Kind, Made, Maker, RUN, Source};
use super::dense::AnnotatedSet;
use super::sizes::Sizes;
use crate::config::{self, Config, Method, Task};
use crate::data::steps_per_epoch;
use crate::error::Result;
use crate::search::plan::Selection;
use crate::search::{BudgetResult, Candidate, read_candidates, winners};
use crate::space::{Arch, Budget, Metric, Space};

/// What is asked of a study, and who makes its cells.
pub struct Lab<'a> {
    /// Makes cells.
    pub maker: &'a dyn Maker,
    /// How much of everything.
    pub sizes: &'a Sizes,
    /// The space.
    pub space: &'a Space,
    /// The net to compare with.
    pub reference: Arch,
    /// Images to learn from.
    pub train: &'a Source,
    /// Images to test on; none where only annotated images are tested on.
    pub test: Option<&'a Source>,
    /// Other images that nets learn from and are tested on.
    pub transfers: &'a [(Source, Source)],
    /// Images of other domains to search on.
    pub domains: &'a [Source],
    /// Annotated images for dense tasks.
    pub annotated: &'a [AnnotatedSet],
    /// Seeds of pre-training.
    pub seeds: Vec<u64>,
    /// Settings of the user's.
    pub settings: &'a Settings,
    /// Flags of every command that change results.
    pub flags: &'a str,
}

/// `key=value` words of the user's, by the commands that take them.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Pre-training: all that the others do not take.
    pub pretraining: Vec<String>,
    /// All fine-tuning: `finetune.…`.
    pub tuning: Vec<String>,
    /// Detection: `det.…`.
    pub detection: Vec<String>,
    /// Segmentation: `seg.…`.
    pub segmentation: Vec<String>,
}

impl Settings {
    /// Adds a word.
    pub fn push(&mut self, word: &str) {
        let section = word.split_once('.').map_or("", |(section, _)| section);
        let words = match section {
            "finetune" => &mut self.tuning,
            "det" => &mut self.detection,
            "seg" => &mut self.segmentation,
            _ => &mut self.pretraining,
        };
        words.push(word.to_owned());
    }
}

/// A number of a table, and the keys that lead to it in a cell's result.
pub type Column = (&'static str, &'static [&'static str]);

/// What is trained before it is searched or tested.
#[derive(Clone, Copy, Debug)]
pub struct Pretrained {
    /// By which method.
    pub method: Method,
    /// One net by itself, or a supernet.
    pub alone: Option<Arch>,
    /// The learning rate is the method's times this.
    pub lr_factor: f64,
    /// Whether the teacher has each student's architecture instead of the largest.
    pub teacher_same: bool,
    /// Seed.
    pub seed: u64,
}

impl Pretrained {
    /// A supernet.
    pub fn supernet(method: Method, seed: u64) -> Self {
        Self { method, alone: None, lr_factor: 1.0, teacher_same: false, seed }
    }
}

/// What a search found.
pub struct Found {
    /// Its cell.
    pub made: Made,
    /// All candidates, by budget.
    pub candidates: Vec<Candidate>,
    /// The best of each budget; none where the search failed.
    pub budgets: Vec<BudgetResult>,
}

impl Found {
    /// Budgets and their winners.
    pub fn winners(&self) -> Vec<(String, Arch)> {
        let best =
            |b: &BudgetResult| Some((b.group.budget.clone(), b.winners.first()?.candidate.arch));
        self.budgets.iter().filter_map(best).collect()
    }
}

/// Where a search looks, and at what.
pub struct Query<'a> {
    /// The task, which decides what is compared.
    pub task: Task,
    /// Images of the target.
    pub images: &'a Source,
    /// Budgets, `lo..hi:step`.
    pub groups: String,
    /// Candidates of each.
    pub samples: usize,
}

impl Lab<'_> {
    /// The seed of everything but pre-training and fine-tuning.
    pub fn seed(&self) -> u64 {
        self.seeds.first().copied().unwrap_or(0)
    }

    /// Compute of a net.
    pub fn macs(&self, arch: &Arch) -> u64 {
        self.space.cost(arch).macs
    }

    /// Makes a cell, unless one that it needs has failed.
    pub(super) fn after(&self, parents: &[&Made], cell: impl FnOnce() -> Cell) -> Result<Made> {
        match parents.iter().find(|parent| parent.result.is_err()) {
            Some(failed) => Ok((*failed).clone()),
            None => self.maker.make(&cell().words(self.flags)),
        }
    }

    /// The settings of a pre-training, beside the user's.
    fn settings_of(&self, what: &Pretrained) -> Result<Vec<String>> {
        let named = [format!("preset={}", self.sizes.preset), format!("method={}", what.method)];
        let users = self.settings.pretraining.iter().cloned();
        let words = named.into_iter().chain(users).map(|word| config::word(&word));
        let config: Config = config::resolve(&words.collect::<Result<Vec<_>>>()?)?.config;
        let batch = config.train.batch;
        let mut own = Vec::new();
        let steps = self.sizes.steps.or(self.sizes.images.map(|n| n / batch as u64));
        if let Some(steps) = steps {
            let epochs = steps.max(1) as f64 / steps_per_epoch(self.train.images, batch) as f64;
            own.push(format!("train.epochs={epochs}"));
            // An interrupted cell loses at most a tenth.
            own.push(format!("ckpt.every={}", (steps / 10).max(1)));
        }
        if what.lr_factor != 1.0 {
            own.push(format!("train.lr={}", config.train.lr * what.lr_factor));
        }
        if what.teacher_same {
            own.push("teacher.arch=same".into());
        }
        if self.sizes.lenient {
            own.push("guard.collapse=false".into());
        }
        Ok(own)
    }

    /// A run of pre-training.
    pub fn pretrain(&self, what: &Pretrained) -> Result<Made> {
        let mut words = self.settings_of(what)?;
        words.extend_from_slice(&self.settings.pretraining);
        let arch = what.alone.map_or(String::new(), |arch| format!("--arch {arch}"));
        let Pretrained { method, seed, .. } = what;
        let preset = &self.sizes.preset;
        let flags = format!("train --preset {preset} --method {method} {arch} --seed {seed}");
        self.after(&[], || {
            let cell = Cell::new(Kind::Train, &flags).images("--data", self.train);
            cell.words(&format!("--out {RUN} --json")).settings(&words)
        })
    }

    /// A search on a run.
    pub fn search(&self, run: &Made, query: &Query) -> Result<Found> {
        let Query { task, images, groups, samples } = query;
        let made = self.after(&[run], || {
            let cell = Cell::new(Kind::Search, "search").of("--ckpt", &run.name, RUN);
            let Sizes { search_images, bn_images, lenient, .. } = self.sizes;
            cell.images("--data", images).words(&format!(
                "--task {task} --groups {groups} --samples {samples} --images {search_images} \
                 --bn-images {bn_images} --seed {} --out {RUN} --json {}",
                self.seed(),
                if *lenient { "--force" } else { "" }
            ))
        })?;
        if made.result.is_err() {
            return Ok(Found { made, candidates: Vec::new(), budgets: Vec::new() });
        }
        if self.maker.is_plan() {
            return self.stand_in(made, query);
        }
        let dir = made.dir.join(RUN);
        let candidates = read_candidates(&dir.join("candidates.jsonl"))?;
        let budgets = winners::read(&dir)?.unwrap_or_default();
        Ok(Found { made, candidates, budgets })
    }

    /// What a search will look at; any of its nets may win.
    fn stand_in(&self, made: Made, query: &Query) -> Result<Found> {
        let budgets = Budget::parse_groups(&query.groups, Metric::Macs)?;
        let samples = Some(query.samples);
        let selection = Selection::Budgets { budgets, metric: Metric::Macs, samples };
        let (mut candidates, mut budgets) = (Vec::new(), Vec::new());
        for group in selection.groups(self.space, self.seed())? {
            let own: Vec<Candidate> = group.archs.iter().map(|arch| self.candidate(arch)).collect();
            let middle = &own[own.len() / 2..][..1];
            let winner = middle.iter().map(|c| winners::Winner {
                rank: 1,
                candidate: c.clone(),
                p_best: None,
                tied: false,
            });
            budgets.push(BudgetResult {
                candidates: own.len(),
                winners: winner.collect(),
                ties: Vec::new(),
                group,
            });
            candidates.extend(own);
        }
        Ok(Found { made, candidates, budgets })
    }

    fn candidate(&self, arch: &Arch) -> Candidate {
        let cost = self.space.cost(arch);
        Candidate {
            arch: *arch,
            macs: cost.macs,
            params: cost.params,
            latency_ms: None,
            score: 0.0,
            levels: Default::default(),
            ci95: [0.0; 2],
            images: self.sizes.search_images,
            bn_images: self.sizes.bn_images,
            teacher_step: 0,
        }
    }

    /// `--images N`, where not all are taken.
    fn probe_images(&self) -> String {
        self.sizes.probe_images.map_or(String::new(), |n| format!("--images {n}"))
    }

    /// What the candidates of a search are worth to their nearest neighbours.
    pub fn score(&self, run: &Made, found: &Found) -> Result<Made> {
        let (train, test) = self.own()?;
        self.after(&[run, &found.made], || {
            let cell = Cell::new(Kind::Score, "eval knn").of("--ckpt", &run.name, RUN);
            let cell = cell.of("--archs-from", &found.made.name, "run/candidates.jsonl");
            let cell = cell.images("--data", train).images("--test-data", test);
            let (bn, images, seed) = (self.sizes.bn_images, self.probe_images(), self.seed());
            cell.words(&format!("--bn-images {bn} {images} --seed {seed} --no-baselines --json"))
        })
    }

    /// A linear classifier on a net's frozen features.
    pub fn linear(&self, run: &Made, arch: &Arch) -> Result<Made> {
        let (train, test) = self.own()?;
        self.after(&[run], || {
            let cell = Cell::new(Kind::Linear, "eval linear").of("--ckpt", &run.name, RUN);
            let cell = cell.words(&format!("--arch {arch}"));
            let cell = cell.images("--data", train).images("--test-data", test);
            let Sizes { bn_images, linear_epochs, .. } = self.sizes;
            cell.words(&format!(
                "--bn-images {bn_images} {} --epochs {linear_epochs} --seed {} --no-baselines --json",
                self.probe_images(),
                self.seed()
            ))
        })
    }

    /// A net that learns from a share of labelled images; without a run, from random weights.
    pub fn finetune(
        &self,
        run: Option<&Made>,
        arch: &Arch,
        images: (&Source, &Source),
        labels: f64,
        seed: u64,
    ) -> Result<Made> {
        let Sizes { recipe, tune_steps, .. } = self.sizes;
        let parents: Vec<&Made> = run.into_iter().collect();
        self.after(&parents, || {
            let steps = tune_steps.map_or(String::new(), |n| format!("finetune.steps={n}"));
            let labels = if labels < 1.0 { format!("--labels {labels}") } else { String::new() };
            let cell = self.tuning(Kind::Finetune, Task::Cls, run, arch, images).words(&format!(
                "{labels} --recipe {recipe} --seed {seed} --out {RUN} --json {steps}"
            ));
            cell.settings(&self.settings.tuning)
        })
    }

    /// The beginning of any fine-tuning: which net, from where, on which images.
    pub(super) fn tuning(
        &self,
        kind: Kind,
        task: Task,
        run: Option<&Made>,
        arch: &Arch,
        (train, test): (&Source, &Source),
    ) -> Cell {
        let cell = Cell::new(kind, &format!("finetune --task {task}"));
        let cell = match run {
            Some(run) => cell.of("--ckpt", &run.name, RUN),
            None => cell.words(&format!("--scratch --preset {}", self.sizes.preset)),
        };
        let cell = cell.words(&format!("--arch {arch}"));
        cell.images("--data", train).images("--val-data", test)
    }
}

/// A number of a cell's result, by the keys that lead to it.
pub fn number(result: &Value, keys: &[&str]) -> Option<f64> {
    keys.iter().try_fold(result, |value, key| value.get(key))?.as_f64()
}

/// Where a cell's command writes.
pub fn run_dir(made: &Made) -> PathBuf {
    made.dir.join(RUN)
}
