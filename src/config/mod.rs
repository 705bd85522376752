//! Settings of a run. Every key has a default that may depend on the preset; a TOML file and
//! then `key=value` words override it, and where each value came from is kept.

mod adapt;
mod check;
mod defaults;
mod resolve;
mod time;

use serde::{Deserialize, Serialize};

pub use adapt::adapt;
pub use resolve::{
    Origin, Resolved, Setting, flag, flat, looks_like_word, read_file, resolve, word,
};
pub use time::{CkptEvery, ProbeEvery, format_duration, parse_duration};

use crate::data;
pub use crate::data::OnCorrupt;
use crate::device::Backend;
use crate::space::Policy;
use crate::tensor::DType;

crate::choice! {
    /// The self-supervised method.
    pub enum Method("method") {
        /// MoCo v2: InfoNCE against a queue of negatives.
        Moco = "moco",
    }
}

crate::choice! {
    /// Numbers that activations and gradients are kept in.
    pub enum Precision("precision") {
        /// What suits the device: bf16 where there are kernels, fp32 on the CPU.
        Auto = "auto",
        /// Half of the bytes, with fp32 sums, statistics, losses and master weights. On the
        /// CPU operands of convolutions and linear layers alone.
        Bf16 = "bf16",
        /// Single precision.
        Fp32 = "fp32",
    }
}

impl Precision {
    /// The type that nets compute in on a device.
    pub fn dtype(self, backend: &Backend) -> DType {
        match (self, backend) {
            (Self::Bf16, _) | (Self::Auto, Backend::Driver(_)) => DType::BF16,
            _ => DType::F32,
        }
    }

    /// The precision in which nets compute in this type.
    pub fn of(dtype: DType) -> Self {
        if dtype == DType::BF16 { Self::Bf16 } else { Self::Fp32 }
    }
}

crate::choice! {
    /// What the queue holds before the first step.
    pub enum QueueFill("queue fill") {
        /// The teacher's embeddings of seeded images.
        Teacher = "teacher",
        /// Random directions, as in MoCo's code.
        Random = "random",
    }
}

crate::choice! {
    /// The teacher's architecture.
    pub enum TeacherArch("teacher architecture") {
        /// The largest one, whatever the student's.
        Max = "max",
        /// The student's own (the paper's Table 8 ablation).
        Same = "same",
    }
}

/// All settings of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Seed of every random draw.
    pub seed: u64,
    /// Name of the search space.
    pub preset: String,
    /// Self-supervised method.
    pub method: Method,
    /// The optimisation.
    pub train: Train,
    /// MoCo's constants.
    pub moco: Moco,
    /// How students are drawn.
    pub sampling: Sampling,
    /// The teacher.
    pub teacher: Teacher,
    /// Augmentation.
    pub views: Views,
    /// Reading pictures.
    pub data: Data,
    /// Checkpoints.
    pub ckpt: Ckpt,
    /// Progress and metrics.
    pub log: Log,
    /// Nearest neighbours during training.
    pub probe: Probe,
    /// What stops a run that goes wrong.
    pub guard: Guard,
    /// The search's constants.
    pub search: Search,
}

/// `train.*`: the optimisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// Pictures of an optimizer step.
    pub batch: usize,
    /// Passes over the data; may have a fraction.
    pub epochs: f64,
    /// Learning rate at the top of the cosine.
    pub lr: f64,
    /// Momentum μ of SGD.
    pub momentum: f64,
    /// Weight decay λ.
    pub weight_decay: f64,
    /// Epochs during which the learning rate rises linearly from 0.
    pub warmup_epochs: f64,
    /// Precision of activations.
    pub precision: Precision,
    /// Pictures whose batch-norm statistics are taken together; 0 = the whole batch.
    pub bn_group: usize,
    /// Parts that a batch is split into to save memory; gradients are summed.
    pub accum: usize,
    /// Whether batch norms and biases are exempt from weight decay.
    pub decay_exempt: bool,
}

/// `moco.*`: MoCo's constants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moco {
    /// Negatives kept.
    pub queue: usize,
    /// Temperature τ of InfoNCE.
    pub tau: f64,
    /// Momentum m of the teacher's moving average.
    pub ema: f64,
    /// Numbers of an embedding z.
    pub dim: usize,
    /// Hidden units of the projection head.
    pub hidden: usize,
    /// Whether the projection head has batch norms: one after the first linear layer, one
    /// without affine parameters after the last; its linear layers then have no biases.
    pub head_norm: bool,
    /// What the queue holds before the first step.
    pub queue_fill: QueueFill,
    /// Whether each view of an image is once the student's and once the teacher's, which makes
    /// a step twice as large.
    pub symmetric: bool,
}

/// `sampling.*`: how students are drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Which three architectures a step trains.
    pub policy: Policy,
}

/// `teacher.*`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Teacher {
    /// Its architecture.
    pub arch: TeacherArch,
}

/// `views.*`: augmentation; the defaults are MoCo v2's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Views {
    /// Least share of the picture's area that a crop takes.
    pub crop_min: f64,
    /// Greatest share.
    pub crop_max: f64,
    /// Probability of the colour jitter.
    pub jitter_p: f64,
    /// Strength of the jitter of brightness: a factor from 1 − b to 1 + b.
    pub brightness: f64,
    /// Of contrast.
    pub contrast: f64,
    /// Of saturation.
    pub saturation: f64,
    /// Of hue, in turns of the colour circle: −h to h.
    pub hue: f64,
    /// Probability of becoming grey.
    pub grey_p: f64,
    /// Probability of the Gaussian blur.
    pub blur_p: f64,
    /// Least σ of the blur, in pixels.
    pub blur_sigma_min: f64,
    /// Greatest σ.
    pub blur_sigma_max: f64,
    /// Probability of the horizontal flip.
    pub flip_p: f64,
}

/// `data.*`: reading pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Threads that decode and augment; 0 = one a core.
    pub workers: usize,
    /// What happens when a picture cannot be read.
    pub on_corrupt: OnCorrupt,
    /// Share of unreadable pictures past which the run stops (never at fewer than 10).
    pub max_corrupt: f64,
}

/// `ckpt.*`: checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ckpt {
    /// How often one is written.
    pub every: CkptEvery,
    /// How many are kept, beside that of step 0.
    pub keep: usize,
}

/// `log.*`: progress and metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Steps between lines of progress where there is no terminal.
    pub every: usize,
}

/// `probe.*`: nearest neighbours during training, where `--probe` asks for them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// How often, beside step 0 and the end.
    pub every: ProbeEvery,
    /// Images at most: half of them neighbours, half queries.
    pub images: usize,
}

/// `guard.*`: what stops a run that goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guard {
    /// Whether collapsed features stop the run.
    pub collapse: bool,
}

/// `search.*`: the search's constants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// Temperature τ of the relation metric.
    pub tau: f64,
}

impl Config {
    /// Rows that a student sees in a step: an image for each of the batch, or both views of each.
    pub fn rows(&self) -> usize {
        self.train.batch * if self.moco.symmetric { 2 } else { 1 }
    }
}

impl Views {
    /// How a picture's two views are made: MoCo's are made alike.
    pub fn pair(&self) -> [data::Views; 2] {
        let [scale, sigma] =
            [[self.crop_min, self.crop_max], [self.blur_sigma_min, self.blur_sigma_max]];
        let view = data::Views {
            crop_scale: scale.map(|x| x as f32),
            jitter_p: self.jitter_p as f32,
            brightness: self.brightness as f32,
            contrast: self.contrast as f32,
            saturation: self.saturation as f32,
            hue: self.hue as f32,
            grey_p: self.grey_p as f32,
            blur_p: self.blur_p as f32,
            blur_sigma: sigma.map(|x| x as f32),
            flip_p: self.flip_p as f32,
            ..data::Views::moco_v2()
        };
        [view.clone(), view]
    }
}
