//! Defaults, some of which depend on the preset.

use std::time::Duration;

use super::*;
use crate::error::Result;
use crate::space::Space;

impl Config {
    /// The defaults for a preset; exit 2 where there is no such preset.
    pub fn for_preset(preset: &str) -> Result<Self> {
        let name = Space::preset(preset)?.name;
        let data = Self::for_imagenet(name);
        // Measured on small images, see `docs/training.md`. Small steps, many of them, are what
        // serves a CPU; blurring leaves little of 32×32 pixels; the rest keeps embeddings of
        // images that look alike from falling together.
        let small = |epochs, batch, lr, queue, hidden| Self {
            train: Train { batch, epochs, lr, ..data.train.clone() },
            moco: Moco {
                queue,
                tau: 0.1,
                ema: 0.99,
                hidden,
                head_norm: true,
                queue_fill: QueueFill::Teacher,
                ..data.moco.clone()
            },
            views: Views { blur_p: 0.0, ..data.views.clone() },
            ..data.clone()
        };
        Ok(match preset {
            "cifar" => small(200.0, 256, 0.06, 4096, 512),
            "tiny" => Self {
                ckpt: Ckpt { every: CkptEvery::Steps(500), ..data.ckpt.clone() },
                ..small(10.0, 32, 0.01, 512, 256)
            },
            _ => data,
        })
    }

    /// What the released configuration for a tenth of ImageNet says: batch 256, learning rate
    /// 0.03, weight decay 1e-4.
    fn for_imagenet(preset: String) -> Self {
        Self {
            seed: 0,
            preset,
            method: Method::Moco,
            train: Train {
                batch: 256,
                epochs: 200.0,
                lr: 0.03,
                momentum: 0.9,
                weight_decay: 1e-4,
                warmup_epochs: 0.0,
                precision: Precision::Auto,
                bn_group: 64,
                accum: 1,
                decay_exempt: false,
            },
            moco: Moco {
                queue: 65_536,
                tau: 0.2,
                ema: 0.999,
                dim: 128,
                hidden: 2048,
                head_norm: false,
                queue_fill: QueueFill::Random,
                symmetric: false,
            },
            sampling: Sampling { policy: Policy::Paper },
            teacher: Teacher { arch: TeacherArch::Max },
            views: Views {
                crop_min: 0.2,
                crop_max: 1.0,
                jitter_p: 0.8,
                brightness: 0.4,
                contrast: 0.4,
                saturation: 0.4,
                hue: 0.1,
                grey_p: 0.2,
                blur_p: 0.5,
                blur_sigma_min: 0.1,
                blur_sigma_max: 2.0,
                flip_p: 0.5,
            },
            data: Data { workers: 0, on_corrupt: OnCorrupt::Replace, max_corrupt: 0.001 },
            ckpt: Ckpt { every: CkptEvery::Time(Duration::from_secs(30 * 60)), keep: 3 },
            log: Log { every: 50 },
            probe: Probe { every: ProbeEvery::Auto, images: 2000 },
            guard: Guard { collapse: true },
            search: Search { tau: 0.2 },
            finetune: Finetune {
                recipe: Recipe::Small,
                lr_head: 0.2,
                steps: 0,
                least_steps: 0,
                warmup: 0.0,
                falls: Falls::Cosine,
                drop: 0.1,
                view: TunedView::Crop,
                crop_min: 0.08,
                head: HeadInit::Normal,
                body: Body::Trained,
                select: Select::Off,
            },
        }
    }
}
