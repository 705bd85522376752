//! Settings of a run. Every key has a default that may depend on the preset; a TOML file and
//! then `key=value` words override it, and where each value came from is kept.

mod adapt;
mod allowed;
mod check;
mod defaults;
mod dense;
mod explain;
mod keys;
mod or_none;
mod recipe;
mod resolve;
mod same;
mod setting;
mod time;

pub use adapt::adapt;
pub use allowed::{Allowed, Key};
pub use dense::{BoxHead, LossMean, SizePer, TestMode, TunedBn};
pub use explain::{Explained, explain, markdown};
pub use keys::{
    Byol, Ckpt, Config, Data, Densecl, Det, Finetune, Guard, KEYS, Log, Moco, Probe, Ressl,
    SECTIONS, Sampling, Search, Seg, Teacher, Train, Views, Views2,
};
pub use or_none::OrNone;
pub use recipe::{Body, Falls, HeadInit, Recipe, Select, Task, TunedView};
pub use resolve::{Resolved, flat, resolve};
pub use same::OrSame;
pub use setting::{Origin, Setting, flag, looks_like_word, read_file, word};
pub use time::{CkptEvery, ProbeEvery, format_duration, parse_duration};

use crate::data;
pub use crate::data::{Filter, OnCorrupt};
use crate::error::Result;
use crate::optim::{Exempt, Sgd};
use crate::space::{Arch, Policy, Space};
use crate::tensor::DType;

crate::choice! {
    /// The self-supervised method.
    pub enum Method("method") {
        /// MoCo v2: InfoNCE against a queue of negatives.
        Moco = "moco",
        /// BYOL: predicts the teacher's embedding of the other view; no negatives.
        Byol = "byol",
        /// ReSSL: has the teacher's relations to a queue of embeddings.
        Ressl = "ressl",
        /// DenseCL: MoCo v2, and the same for positions that match each other.
        Densecl = "densecl",
    }
}

impl Method {
    /// The section with the constants that it has in common with others, of the same names in each:
    /// `ema`, `dim`, `hidden`, and with a queue also `queue`, `head_norm`, `queue_fill`.
    pub fn section(self) -> &'static str {
        match self {
            Self::Moco | Self::Densecl => "moco",
            Self::Byol => "byol",
            Self::Ressl => "ressl",
        }
    }
}

crate::choice! {
    /// How gradients become updates.
    pub enum Rule("optimizer") {
        /// Stochastic gradient descent with momentum, as PyTorch's.
        Sgd = "sgd",
        /// LARS: SGD whose step for each weight has a length in proportion to the weight's.
        Lars = "lars",
    }
}

crate::choice! {
    /// The level whose positions DenseCL compares.
    pub enum DenseLevel("level") {
        /// The last one, as in its paper.
        C5 = "c5",
        /// The one before, of twice the side.
        C4 = "c4",
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

impl Train {
    /// The optimizer.
    pub fn sgd(&self) -> Sgd {
        Sgd {
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            exempt: if self.decay_exempt { Exempt::NormsAndBiases } else { Exempt::Nothing },
            trust: (self.optimizer == Rule::Lars).then_some(self.trust),
        }
    }
}

impl Config {
    /// The optimizer of fine-tuning.
    pub fn tuned_sgd(&self) -> Sgd {
        let sgd = self.train.sgd();
        match sgd.exempt {
            Exempt::Nothing if !self.finetune.decay_norms => Sgd { exempt: Exempt::Norms, ..sgd },
            _ => sgd,
        }
    }

    /// The space whose nets are trained: the preset's, or that of one net.
    ///
    /// # Errors
    /// Exit 2 for a net that is not of it.
    pub fn space(&self) -> Result<Space> {
        let space = &self.preset;
        let Some(arch) = self.sampling.arch.0 else { return Ok(space.clone()) };
        space.check(&arch)?;
        Ok(Space { name: space.name.clone(), ..space.single(&arch) })
    }

    /// The space of a net that is fine-tuned, alone, at the resolution that it is fine-tuned at.
    ///
    /// # Errors
    /// Exit 2 for a net that is not of it.
    pub fn tuned_space(&self, arch: &Arch) -> Result<Space> {
        let space = &self.preset;
        space.check(arch)?;
        let resolution = match self.finetune.resolution {
            0 => space.resolution,
            pixels => pixels,
        };
        Ok(Space { resolution, ..space.single(arch) })
    }

    /// Rows that a student sees in a step: an image for each of the batch, or both views of each.
    pub fn rows(&self) -> usize {
        let both = self.moco.symmetric && self.method.section() == "moco";
        self.train.batch * if both { 2 } else { 1 }
    }

    /// Embeddings in the method's queue; 0 where it has none.
    pub fn queue(&self) -> usize {
        match self.method {
            Method::Moco | Method::Densecl => self.moco.queue,
            Method::Ressl => self.ressl.queue,
            Method::Byol => 0,
        }
    }

    /// The size of the method's queue, to change it; none where it has no queue.
    pub fn queue_mut(&mut self) -> Option<&mut usize> {
        match self.method {
            Method::Moco | Method::Densecl => Some(&mut self.moco.queue),
            Method::Ressl => Some(&mut self.ressl.queue),
            Method::Byol => None,
        }
    }

    /// Numbers of an embedding.
    pub fn dim(&self) -> usize {
        match self.method {
            Method::Moco | Method::Densecl => self.moco.dim,
            Method::Ressl => self.ressl.dim,
            Method::Byol => self.byol.dim,
        }
    }

    /// How an image's two views are made.
    pub fn views(&self) -> [data::Views; 2] {
        let (one, two) = (&self.views, &self.views2);
        let [scale, sigma] =
            [[one.crop_min, one.crop_max], [one.blur_sigma_min, one.blur_sigma_max]];
        let first = data::Views {
            crop_scale: scale.map(|x| x as f32),
            filter: one.filter,
            jitter_p: one.jitter_p as f32,
            brightness: one.brightness as f32,
            contrast: one.contrast as f32,
            saturation: one.saturation as f32,
            hue: one.hue as f32,
            grey_p: one.grey_p as f32,
            blur_p: one.blur_p as f32,
            blur_sigma: sigma.map(|x| x as f32),
            solarise_p: one.solarise_p as f32,
            flip_p: one.flip_p as f32,
            ..data::Views::moco_v2()
        };
        let second = data::Views {
            crop_scale: [two.crop_min.or(one.crop_min) as f32, one.crop_max as f32],
            jitter_p: two.jitter_p.or(one.jitter_p) as f32,
            grey_p: two.grey_p.or(one.grey_p) as f32,
            blur_p: two.blur_p.or(one.blur_p) as f32,
            solarise_p: two.solarise_p.or(one.solarise_p) as f32,
            ..first.clone()
        };
        [first, second].map(|views| views.of(&self.preset.input()))
    }
}
