//! Settings of a run. Every key has a default that may depend on the preset; a TOML file and
//! then `key=value` words override it, and where each value came from is kept.

mod adapt;
mod check;
mod defaults;
mod explain;
mod keys;
mod recipe;
mod resolve;
mod time;

pub use adapt::adapt;
pub use explain::{Explained, explain, markdown};
pub use keys::{
    Allowed, Ckpt, Config, Data, Finetune, Guard, KEYS, Key, Log, Moco, Probe, SECTIONS, Sampling,
    Search, Teacher, Train, Views,
};
pub use recipe::{Body, Falls, HeadInit, Recipe, Select, TunedView};
pub use resolve::{
    Origin, Resolved, Setting, flag, flat, looks_like_word, read_file, resolve, word,
};
pub use time::{CkptEvery, ProbeEvery, format_duration, parse_duration};

use crate::data;
pub use crate::data::OnCorrupt;
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
    /// The type that nets compute in, on a device that runs kernels or on the CPU.
    pub fn dtype(self, runs_kernels: bool) -> DType {
        match self {
            Self::Bf16 => DType::BF16,
            Self::Auto if runs_kernels => DType::BF16,
            Self::Auto | Self::Fp32 => DType::F32,
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

impl Config {
    /// Rows that a student sees in a step: an image for each of the batch, or both views of each.
    pub fn rows(&self) -> usize {
        self.train.batch * if self.moco.symmetric { 2 } else { 1 }
    }
}

impl Views {
    /// How an image's two views are made: MoCo's are made alike.
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
