//! What a run trains, and for how long: pretraining of a space by the settings alone, or fine-tuning
//! of one net on images that were chosen before.

use serde::{Deserialize, Serialize};

use super::interim::Test;
use super::objective::Make;
use super::pretrain::Pretrain;
use super::source::Source;
use crate::config::Config;
use crate::optim::Schedule;
use crate::space::{Arch, Space};

/// What a run trains, and for how long.
pub struct Job<'a> {
    /// Makes the objective.
    pub make: &'a Make,
    /// How long it takes.
    pub course: Course,
    /// The net and its images, where it is fine-tuned.
    pub tuning: Option<&'a Tuning>,
    /// How the net is tested during training, where that is done every `finetune.eval_every` steps.
    pub test: Option<&'a Test<'a>>,
}

impl<'a> Job<'a> {
    /// Training of the space and on the images that the options name.
    pub fn of_space(make: &'a Make) -> Self {
        Self { make, course: Course::PRETRAINING, tuning: None, test: None }
    }

    /// Pretraining by the method that the settings name.
    pub fn pretraining() -> Self {
        Self::of_space(&Pretrain::make)
    }
}

/// How long a run is and how its learning rate falls, as functions of the settings and of the
/// steps of an epoch.
#[derive(Clone, Copy)]
pub struct Course {
    /// Steps of the whole run.
    pub steps: fn(&Config, u64) -> u64,
    /// The learning rate of a run of so many steps (the second number).
    pub schedule: fn(&Config, u64, u64) -> Schedule,
}

impl Course {
    /// `train.epochs`, half a cosine behind `train.warmup_epochs`.
    pub const PRETRAINING: Self = Self {
        steps: |config, per_epoch| steps_of_epochs(config, per_epoch),
        schedule: |config, per_epoch, _| {
            let warmup = (config.train.warmup_epochs * per_epoch as f64).round() as u64;
            Schedule::cosine(config.train.lr, warmup)
        },
    };

    /// The learning rate of a step of a run of so many steps.
    pub fn rate(&self, config: &Config, step: u64, steps: u64, per_epoch: u64) -> f64 {
        (self.schedule)(config, per_epoch, steps).at(step, steps)
    }
}

/// Steps of `train.epochs`, at least 1.
pub fn steps_of_epochs(config: &Config, per_epoch: u64) -> u64 {
    (config.train.epochs * per_epoch as f64).round().max(1.0) as u64
}

/// A net that is fine-tuned, and on what.
pub struct Tuning {
    /// What it learns from.
    pub source: Source,
    /// The space whose only point is the net.
    pub space: Space,
    /// What checkpoints say of it.
    pub tuned: Tuned,
    /// Whether the weights that it starts from may be a larger net's, of which it takes the first
    /// channels and blocks.
    pub is_cut: bool,
}

/// What a checkpoint of a fine-tuned net says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuned {
    /// `cls`, `seg`, `det-c4` or `det-fpn`.
    pub task: String,
    /// The net.
    pub arch: Arch,
    /// Names of the classes, in the order of the head's outputs.
    pub classes: Vec<String>,
    /// Which images had labels: `all`, a share, or a file's name.
    pub labels: String,
}
