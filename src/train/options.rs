//! What a run is asked to do, and how it ended.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::checkpoint::Checkpoint;
use super::health::Standing;
use super::probe::ProbeOn;
use super::resume::{Resume, began_with};
use crate::config::{self, Config, Resolved};
use crate::data::{Dataset, Likeness};
use crate::error::{Kind, Result};
use crate::files::owned::Owned;

/// What to train, on what, and for how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// Settings; those that nobody set may follow the images ([`config::adapt`]).
    pub settings: Resolved,
    /// The command line, for `cmd.txt`.
    pub command: String,
    /// Sources of images.
    pub data: Vec<String>,
    /// The run's folder.
    pub out: PathBuf,
    /// Weights to start from: a safetensors file, or the folder of an export, a checkpoint or a
    /// run. A run that goes on takes its own.
    pub init: Option<PathBuf>,
    /// Whether to continue.
    pub resume: Resume,
    /// Whether an existing run in `out` may be deleted.
    pub overwrite: bool,
    /// The run's folder, where it is this process's already.
    pub claimed: Option<Arc<Owned>>,
    /// Stop, as if done, after so many steps (the schedule is not shortened).
    pub max_steps: Option<u64>,
    /// Checkpoint and stop after so long.
    pub time_limit: Option<Duration>,
    /// Steps to dump.
    pub dump_steps: Vec<u64>,
    /// Where to.
    pub dump_dir: Option<PathBuf>,
    /// Labelled images to probe the nets on during training.
    pub probe: Option<ProbeOn>,
    /// No bar.
    pub quiet: bool,
}

impl Options {
    /// The settings.
    pub fn config(&self) -> &Config {
        &self.settings.config
    }

    /// The same with settings that nobody set taken from the checkpoint that the run goes on from, or
    /// else following the images, where there are some that they may follow ([`config::adapt`]); and
    /// a line for each that does.
    pub(super) fn follow(
        &self,
        images: Option<&Arc<Dataset>>,
        from: Option<&Checkpoint>,
    ) -> Result<(Self, Vec<String>)> {
        let mut options = self.clone();
        let settings = &mut options.settings;
        let said = match (from, images) {
            (Some(checkpoint), _) => {
                settings.inherit(&began_with(checkpoint))?;
                Vec::new()
            }
            (None, None) => Vec::new(),
            (None, Some(dataset)) => {
                let (seed, input) = (settings.config.seed, settings.config.preset.input());
                let likeness = || Likeness::measure(dataset, &input, seed);
                config::adapt(settings, dataset.len(), likeness)?
            }
        };
        Ok((options, said))
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// `None`: it reached its last step; else why it stopped, checkpointed.
    pub stopped: Option<Kind>,
    /// Steps done.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Loss of the last step, summed over its nets; none before the first.
    pub loss: Option<f64>,
    /// Nets that a step trains.
    pub nets: usize,
    /// How training stands; none before the first step.
    pub standing: Option<Standing>,
}
