//! Defaults, some of which depend on the preset.

use std::time::Duration;

use super::*;
use crate::error::Result;
use crate::space::Space;

/// A method's share in the defaults of the large preset.
type OfMethod = fn(Config) -> Config;

impl Config {
    /// The defaults of MoCo v2 for a preset.
    ///
    /// # Errors
    /// Exit 2 where there is no such preset.
    pub fn for_preset(preset: &str) -> Result<Self> {
        Ok(Self::defaults(&Space::preset(preset)?, Method::Moco))
    }

    /// The defaults of a method for a space: those of the preset that it is like.
    pub fn defaults(space: &Space, method: Method) -> Self {
        let moco = Self::of_moco(space);
        let (large, small): (OfMethod, OfMethod) = match method {
            Method::Moco | Method::Densecl => (|c| c, |c| c),
            Method::Byol => (of_byol, of_byol_small),
            Method::Ressl => (of_ressl, of_ressl_small),
        };
        let of_method = if space.like == LARGE { large } else { small };
        let config = Self { method, ..of_method(moco) };
        if space.channels() == 3 { config } else { without_colours(config) }
    }

    fn of_moco(space: &Space) -> Self {
        let data = Self::for_imagenet(space.clone());
        // Measured on small images, see `docs/training.md`. Small steps, many of them, are what
        // serves a CPU; blurring leaves little of 32×32 pixels; the rest keeps embeddings of
        // images that look alike from falling together.
        let small = |epochs, batch, lr, queue, hidden| {
            let moco = Moco {
                queue,
                tau: 0.1,
                ema: 0.99,
                hidden,
                head_norm: true,
                queue_fill: QueueFill::Teacher,
                ..data.moco.clone()
            };
            Self {
                train: Train { batch, epochs, lr, ..data.train.clone() },
                byol: Byol { ema: 0.99, dim: hidden / 2, hidden: 2 * hidden },
                ressl: Ressl {
                    queue,
                    ema: moco.ema,
                    dim: moco.dim,
                    hidden,
                    head_norm: true,
                    queue_fill: QueueFill::Teacher,
                    ..data.ressl.clone()
                },
                moco,
                views: Views { blur_p: 0.0, ..data.views.clone() },
                ..data.clone()
            }
        };
        match space.like.as_str() {
            "cifar" => small(200.0, 256, 0.06, 4096, 512),
            "tiny" => Self {
                ckpt: Ckpt { every: CkptEvery::Steps(500), ..data.ckpt.clone() },
                ..small(10.0, 32, 0.01, 512, 256)
            },
            _ => data,
        }
    }

    /// What the released configuration for a tenth of ImageNet says: batch 256, learning rate
    /// 0.03, weight decay 1e-4.
    fn for_imagenet(preset: Space) -> Self {
        Self {
            seed: 0,
            preset,
            method: Method::Moco,
            train: Train {
                batch: 256,
                epochs: 200.0,
                lr: 0.03,
                optimizer: Rule::Sgd,
                trust: 1e-3,
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
            byol: Byol { ema: 0.99, dim: 256, hidden: 4096 },
            ressl: Ressl {
                queue: 131_072,
                tau_teacher: 0.04,
                tau_student: 0.1,
                ema: 0.999,
                dim: 512,
                hidden: 4096,
                head_norm: false,
                queue_fill: QueueFill::Random,
            },
            densecl: Densecl { weight: 0.5, level: DenseLevel::C5 },
            sampling: Sampling { policy: Policy::Paper, arch: OrNone(None) },
            teacher: Teacher { arch: TeacherArch::Max },
            views: Views {
                filter: Filter::Bilinear,
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
                solarise_p: 0.0,
                flip_p: 0.5,
            },
            views2: Views2 {
                crop_min: OrSame::Same,
                jitter_p: OrSame::Same,
                grey_p: OrSame::Same,
                blur_p: OrSame::Same,
                solarise_p: OrSame::Same,
            },
            data: Data { workers: 0, on_corrupt: OnCorrupt::Replace, max_corrupt: 0.001 },
            ckpt: Ckpt { every: CkptEvery::Time(Duration::from_secs(30 * 60)), keep: 3 },
            log: Log { every: 50, tensorboard: true, prometheus: OrNone(None) },
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
                poly_power: 0.9,
                least_lr: 1e-4,
                view: TunedView::Crop,
                crop_min: 0.08,
                resolution: 0,
                cutmix: 0.0,
                head: HeadInit::Normal,
                body: Body::Trained,
                bn: TunedBn::Batch,
                decay_norms: true,
                eval_every: 0,
                select: Select::Off,
            },
            seg: Seg {
                channels: 512,
                output_stride: 8,
                aux_weight: 0.4,
                dropout: 0.1,
                align_corners: false,
                loss_mean: LossMean::All,
                long: 0,
                short: 0,
                scale_min: 0.5,
                scale_max: 2.0,
                crop: 512,
                most_of_class: 0.75,
                photometric: true,
                test: TestMode::Whole,
                slide: 341,
                ignore: 255,
            },
            det: Det {
                short_min: 640,
                short_max: 800,
                short_step: 32,
                short_test: 800,
                long: 1333,
                size_per: SizePer::Image,
                anchor: 32,
                channels: 256,
                fc: 1024,
                box_head: BoxHead::TwoFc,
                head_norm: false,
                mask: true,
                rpn_batch: 256,
                rpn_pre: 2000,
                rpn_post: 1000,
                rpn_pre_test: 1000,
                rpn_post_test: 1000,
                rpn_nms: 0.7,
                roi_batch: 512,
                roi_fg: 0.25,
                score: 0.05,
                nms: 0.5,
                top_k: 100,
            },
        }
    }
}

/// Learning rate over MoCo's of the methods that push no images apart, on small images: measured, see
/// `docs/training.md`.
const WITHOUT_NEGATIVES: f64 = 3.0;

/// The preset that keeps the papers' settings.
const LARGE: &str = "data";

/// Only RGB images have a hue, a saturation and a grey that is not all of them.
fn without_colours(config: Config) -> Config {
    Config { views: Views { saturation: 0.0, hue: 0.0, grey_p: 0.0, ..config.views }, ..config }
}

/// BYOL's settings for 100 epochs, at batches of 256: its learning rate is 0.45 for each 256 images.
fn of_byol(moco: Config) -> Config {
    Config {
        train: Train {
            epochs: 100.0,
            lr: 0.45,
            optimizer: Rule::Lars,
            weight_decay: 1e-6,
            warmup_epochs: 10.0,
            bn_group: 0,
            decay_exempt: true,
            ..moco.train
        },
        views: Views {
            filter: Filter::Bicubic,
            crop_min: 0.08,
            saturation: 0.2,
            blur_p: 1.0,
            ..moco.views
        },
        views2: Views2 { blur_p: OrSame::Own(0.1), solarise_p: OrSame::Own(0.2), ..moco.views2 },
        ..moco
    }
}

/// On small images by SGD.
fn of_byol_small(moco: Config) -> Config {
    Config {
        train: Train { bn_group: 0, lr: WITHOUT_NEGATIVES * moco.train.lr, ..moco.train },
        ..moco
    }
}

/// ReSSL's settings for batches of 256.
fn of_ressl(moco: Config) -> Config {
    let train = Train { lr: 0.05, warmup_epochs: 5.0, decay_exempt: true, ..moco.train.clone() };
    Config { train, ..of_ressl_small(moco) }
}

/// The teacher's view is a crop and a flip.
fn of_ressl_small(moco: Config) -> Config {
    let train = Train { lr: WITHOUT_NEGATIVES * moco.train.lr, ..moco.train.clone() };
    let none = OrSame::Own(0.0);
    let views2 = Views2 { jitter_p: none, grey_p: none, blur_p: none, ..moco.views2.clone() };
    Config { train, views2, ..moco }
}
