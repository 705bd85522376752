//! Learning rates that are tried before the run: each cell of a grid trains the net once, on the
//! labelled images but a fifth of each class, and is tested on that fifth.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Prepared;
use super::classify::Classify;
use super::finish::{answers_of, statistics};
use super::labels::hold_out;
use crate::config::{Body, Resolved, Select};
use crate::cx::Cx;
use crate::data::Dataset;
use crate::error::{Error, Kind, Result};
use crate::eval::progress::Progress;
use crate::files::sealed;
use crate::finetune::rates;
use crate::nn::CLASSIFIER;
use crate::signals::Signals;
use crate::ssl::Begin;
use crate::train::objective::At;
use crate::train::{Checkpoint, Objective, Setup, Source, begin_tuning, seen};

const FILE: &str = "grid.json";

/// `grid.json`: learning rates that were tried, and what they were worth.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tries {
    /// Digest of net, settings, images and what the net starts from: of a run that goes on, cells of
    /// others are no use.
    pub of: String,
    /// `held-out` or `test`.
    pub select: String,
    /// Images that were learnt from.
    pub train_images: usize,
    /// Images that were tested on.
    pub test_images: usize,
    /// The cells, in the order in which they were tried.
    pub cells: Vec<Cell>,
}

/// A pair of learning rates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Of the body.
    pub lr: f64,
    /// Of the head.
    pub lr_head: f64,
    /// Accuracy; null where training diverged.
    pub top1: Option<f64>,
}

impl Tries {
    /// Those that a run's folder keeps.
    fn read(run: &Path) -> Result<Option<Self>> {
        let path = file(run);
        path.is_file().then(|| sealed::read_json(&path)).transpose()
    }

    /// Keeps them.
    pub(super) fn write(&self, run: &Path) -> Result<()> {
        sealed::write_json(&file(run), self)
    }

    /// The best cell, the first of equals.
    ///
    /// # Errors
    /// Exit 4 where training diverged with all of them.
    pub fn best(&self) -> Result<Cell> {
        let valued = self.cells.iter().filter(|cell| cell.top1.is_some());
        let better = |a: Cell, b: &Cell| if b.top1 > a.top1 { *b } else { a };
        let mut valued = valued.copied();
        let first = valued.next().ok_or_else(|| {
            Error::new(
                Kind::Diverged,
                "fine-tuning diverged with every learning rate that was tried: give lower ones \
                 (train.lr, finetune.lr_head)",
            )
        })?;
        Ok(valued.fold(first, |best, cell| better(best, &cell)))
    }
}

fn file(run: &Path) -> PathBuf {
    run.join(FILE)
}

/// How trying ended.
pub(super) enum Chosen {
    /// There was nothing to try: the settings are as they are.
    Nothing,
    /// These settings.
    Settings(Box<Resolved>),
    /// By a signal.
    Stopped(Kind),
}

impl Prepared {
    /// Tries the grid where the settings ask for that and the run has no checkpoint yet: one that has
    /// goes on with its rates.
    pub(super) fn choose(&self, cx: &Cx, signals: &Signals) -> Result<Chosen> {
        let (config, out) = (self.options.config(), &self.options.out);
        let on = match config.finetune.select {
            Select::Off => return Ok(Chosen::Nothing),
            Select::HeldOut => "a fifth of the labels",
            Select::Test => "the test images",
        };
        let goes_on = Checkpoint::newest(out)?.is_some() && !self.options.overwrite;
        if config.finetune.body == Body::Frozen || goes_on {
            return Ok(Chosen::Nothing);
        }
        if let Some(owned) = &self.options.claimed {
            owned.clear()?;
        }
        let all = &self.dataset;
        let [train, test] = match config.finetune.select {
            Select::HeldOut => hold_out(all, config.seed)?.map(|part| Arc::new(all.only(&part))),
            _ => [all.clone(), self.val.clone()],
        };
        let mut tries = Tries {
            of: self.digest()?,
            select: config.finetune.select.to_string(),
            train_images: train.len(),
            test_images: test.len(),
            cells: Vec::new(),
        };
        if let Some(kept) = Tries::read(out)?
            && kept.of == tries.of
        {
            tries = kept;
        }
        let grid = rates::GRID.iter().flat_map(|lr| rates::TIMES.map(|times| (*lr, lr * times)));
        let grid: Vec<(f64, f64)> = grid.collect();
        tracing::info!(
            "trying {} pairs of learning rates on {on}: {} images to learn, {} to test",
            grid.len(),
            train.len(),
            test.len()
        );
        for &(lr, lr_head) in &grid[tries.cells.len().min(grid.len())..] {
            let mut settings = self.options.settings.clone();
            settings.take_best("train.lr", lr, on)?;
            settings.take_best("finetune.lr_head", lr_head, on)?;
            let top1 = match self.cell(cx, &settings, &train, &test, signals) {
                Ok(top1) => Some(top1),
                Err(e) if e.kind() == Kind::Diverged => None,
                Err(e) if matches!(e.kind(), Kind::Stopped | Kind::Interrupted) => {
                    return Ok(Chosen::Stopped(e.kind()));
                }
                Err(e) => return Err(e),
            };
            let said = top1.map_or("diverged".into(), |top1| format!("{:.2} %", 100.0 * top1));
            tracing::info!("lr {lr} of the body, {lr_head} of the head: {said}");
            tries.cells.push(Cell { lr, lr_head, top1 });
            tries.write(out)?;
        }
        let best = tries.best()?;
        let mut settings = self.options.settings.clone();
        settings.take_best("train.lr", best.lr, on)?;
        settings.take_best("finetune.lr_head", best.lr_head, on)?;
        tracing::info!("chosen: lr {} of the body, {} of the head", best.lr, best.lr_head);
        Ok(Chosen::Settings(Box::new(settings)))
    }

    /// Of all that decides what cells are worth.
    pub(super) fn digest(&self) -> Result<String> {
        let Prepared { options, tuning, val, .. } = self;
        let text = format!(
            "{:?} {:?} {:?} {} {}",
            options.config().flat(),
            tuning.tuned,
            options.init,
            self.dataset.digest()?,
            val.digest()?
        );
        Ok(blake3::hash(text.as_bytes()).to_hex().to_string())
    }

    /// Trains once, in memory alone, and tests.
    fn cell(
        &self,
        cx: &Cx,
        settings: &Resolved,
        train: &Arc<Dataset>,
        test: &Arc<Dataset>,
        signals: &Signals,
    ) -> Result<f64> {
        let (config, space) = (&settings.config, &self.tuning.space);
        let classes = train.classes().len();
        let setup = Setup { config, space, classes, begin: Begin::Seeded };
        let mut net = Classify::new(cx, &setup, &[])?;
        if let Some(init) = &self.options.init {
            begin_tuning(cx, &mut net, init, self.tuning.is_cut)?;
        }
        let mut batches = seen(cx, &net, &Source::Images(train.clone()), config)?;
        let per_epoch = batches.steps_per_epoch() as u64;
        let steps = (rates::COURSE.steps)(config, per_epoch);
        let mut progress = Progress::new("steps", steps as usize, 0);
        for step in 0..steps {
            if let Some(kind) = signals.stop().or(self.is_over_time()) {
                return Err(Error::new(kind, "stopped"));
            }
            let at = At { step, steps, lr: rates::COURSE.rate(config, step, steps, per_epoch) };
            let batch = batches.next(cx)?;
            let report = net.step(cx, &at, batch, None, &mut || batches.prefetch(cx))?;
            progress.advance(1, || format!("loss {:.3}", report.loss));
        }
        drop(progress);
        let stats = statistics(cx, &net, train, config)?;
        Ok(answers_of(cx, &net, stats, &[CLASSIFIER], test)?[0].top1())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_cell_is_the_first_of_the_highest() {
        let cell = |lr, top1| Cell { lr, lr_head: 1.0, top1 };
        let tries = |cells: &[Cell]| Tries { cells: cells.to_vec(), ..Tries::default() };
        let all =
            [cell(0.1, None), cell(0.2, Some(0.5)), cell(0.3, Some(0.7)), cell(0.4, Some(0.7))];
        assert_eq!(tries(&all).best().unwrap().lr, 0.3);
        assert_eq!(tries(&all[..1]).best().unwrap_err().exit_code(), 4);
    }
}
