//! All keys of a run's settings, each defined once: its type, its meaning, its unit, which values
//! it may have, and where its default comes from. The structs that hold the values, the checks of
//! the parser, `engine config show --explain` and `docs/settings.md` are made from this list.

use serde::{Deserialize, Serialize};

use super::allowed::Allowed::{
    File, HalfOpen, Id, Interval, PositiveUpTo, Preset, SameOr, Switch, Within, Words,
};
use super::allowed::Key;
use super::{
    Body, BoxHead, CkptEvery, DenseLevel, Falls, Filter, HeadInit, LossMean, Method, OnCorrupt,
    OrNone, OrSame, Precision, ProbeEvery, QueueFill, Recipe, Rule, Select, SizePer, TeacherArch,
    TestMode, TunedBn, TunedView,
};
use crate::space::{Arch, Policy, Space};

/// The key with this name.
pub(super) fn key(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Declares the keys: a struct for each section, [`Config`] which holds them all, [`SECTIONS`] and
/// [`KEYS`]. A key is `name: type, allowed values, unit, source;` below its meaning.
macro_rules! settings {
    (
        {
            $(
                $(#[doc = $about:literal])+
                $key:ident: $type:ty, $allowed:expr, $unit:literal, $source:expr;
            )+
        }
        $(
            $(#[doc = $section_about:literal])+
            $section:ident: $Section:ident {
                $(
                    $(#[doc = $inner_about:literal])+
                    $inner:ident: $inner_type:ty, $inner_allowed:expr, $inner_unit:literal,
                        $inner_source:expr;
                )+
            }
        )+
    ) => {
        /// All settings of a run.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Config {
            $($(#[doc = $about])+ pub $key: $type,)+
            $($(#[doc = $section_about])+ pub $section: $Section,)+
        }

        $(
            $(#[doc = $section_about])+
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            #[serde(deny_unknown_fields)]
            pub struct $Section {
                $($(#[doc = $inner_about])+ pub $inner: $inner_type,)+
            }
        )+

        /// The sections with what they are about, in order.
        pub const SECTIONS: &[(&str, &str)] = &[
            $((stringify!($section), concat!($($section_about),+))),+
        ];

        /// All keys, in the order in which they are shown.
        pub const KEYS: &[Key] = &[
            $(Key {
                name: stringify!($key),
                about: concat!($($about),+),
                unit: $unit,
                allowed: $allowed,
                source: $source,
            },)+
            $($(Key {
                name: concat!(stringify!($section), ".", stringify!($inner)),
                about: concat!($($inner_about),+),
                unit: $inner_unit,
                allowed: $inner_allowed,
                source: $inner_source,
            },)+)+
        ];
    };
}

const NONE: &str = "";
const DATA: &str = "DATA (CVPR 2022)";
const DATA_TENTH: &str = "data: DATA's released settings for a tenth of ImageNet; others: \
                          docs/training.md";
const MOCO: &str = "MoCo v2 (arXiv:2003.04297)";
const MOCO_AND_OURS: &str = "data: MoCo v2 (arXiv:2003.04297); others: docs/training.md";
const BYOL: &str = "BYOL (arXiv:2006.07733)";
const BYOL_AND_OURS: &str = "data: BYOL (arXiv:2006.07733); others: docs/training.md";
const RESSL: &str = "ReSSL (arXiv:2107.09282)";
const RESSL_AND_OURS: &str = "data: ReSSL (arXiv:2107.09282); others: docs/training.md";
const DENSECL: &str = "DenseCL (arXiv:2011.09157)";
const OF_METHODS: &str = "that of the method";
const OURS: &str = "docs/training.md";
const TUNING: &str = "the recipe: docs/finetuning.md";

settings! {
    {
        /// Seed of every random draw.
        seed: u64, Within(0.0, i64::MAX as f64), "", NONE;
        /// The search space, which decides many defaults.
        preset: Space, Preset, "", "data: DATA (CVPR 2022), Table 1";
        /// Self-supervised method.
        method: Method, Words(Method::NAMES, Method::ABOUT), "", DATA;
    }

    /// The optimisation.
    train: Train {
        /// Images of an optimizer step, over all parts of it.
        batch: usize, Within(2.0, 65_536.0), "images", DATA_TENTH;
        /// Passes over the data; may have a fraction.
        epochs: f64, PositiveUpTo(1e6), "epochs", DATA_TENTH;
        /// Learning rate at the top of the cosine.
        lr: f64, Within(0.0, 1000.0), "", DATA_TENTH;
        /// The optimizer.
        optimizer: Rule, Words(Rule::NAMES, Rule::ABOUT), "", OF_METHODS;
        /// LARS's η: the length of a weight's step over the length of the weight.
        trust: f64, PositiveUpTo(1.0), "", BYOL;
        /// Momentum μ.
        momentum: f64, HalfOpen(0.0, 1.0), "", DATA;
        /// Weight decay λ.
        weight_decay: f64, Within(0.0, 1.0), "", DATA_TENTH;
        /// Epochs during which the learning rate rises linearly from 0.
        warmup_epochs: f64, Within(0.0, 1e6), "epochs", OURS;
        /// Precision of activations and their gradients.
        precision: Precision, Words(Precision::NAMES, Precision::ABOUT), "", NONE;
        /// Images whose batch-norm statistics are taken together; 0 is the whole batch. Never 1.
        bn_group: usize, Within(0.0, 65_536.0), "images", "DATA (CVPR 2022): its share of a GPU";
        /// Parts that a batch is split into to save memory, of at least 2 images each; gradients
        /// are summed. Divides train.batch.
        accum: usize, Within(1.0, 32_768.0), "parts", NONE;
        /// Whether batch norms and biases are exempt from weight decay; LARS also takes its plain
        /// steps for them.
        decay_exempt: bool, Switch, "", OF_METHODS;
    }

    /// MoCo's constants, which DenseCL has too.
    moco: Moco {
        /// Negatives kept.
        queue: usize, Within(1.0, 1_048_576.0), "embeddings", MOCO_AND_OURS;
        /// Temperature τ of InfoNCE.
        tau: f64, PositiveUpTo(100.0), "", MOCO_AND_OURS;
        /// Momentum m of the teacher's moving average.
        ema: f64, Within(0.0, 1.0), "", MOCO_AND_OURS;
        /// Numbers of an embedding z.
        dim: usize, Within(1.0, 65_536.0), "numbers", MOCO;
        /// Hidden units of the projection head.
        hidden: usize, Within(1.0, 65_536.0), "units", MOCO_AND_OURS;
        /// Whether the projection head has batch norms: one after the first linear layer, one
        /// without affine parameters after the last; its linear layers then have no biases.
        head_norm: bool, Switch, "", OURS;
        /// What the queue holds before the first step.
        queue_fill: QueueFill, Words(QueueFill::NAMES, QueueFill::ABOUT), "", MOCO_AND_OURS;
        /// Whether each view of an image is once the student's and once the teacher's, which makes
        /// a step twice as large.
        symmetric: bool, Switch, "", MOCO;
    }

    /// BYOL's constants.
    byol: Byol {
        /// Momentum m₀ of the teacher's moving average at the start, from which it rises to 1 along
        /// half a cosine.
        ema: f64, Within(0.0, 1.0), "", BYOL_AND_OURS;
        /// Numbers of an embedding z and of its prediction.
        dim: usize, Within(1.0, 65_536.0), "numbers", BYOL_AND_OURS;
        /// Hidden units of projector and predictor.
        hidden: usize, Within(1.0, 65_536.0), "units", BYOL_AND_OURS;
    }

    /// ReSSL's constants.
    ressl: Ressl {
        /// Embeddings kept, to which images are related.
        queue: usize, Within(1.0, 1_048_576.0), "embeddings", RESSL_AND_OURS;
        /// Temperature τt of the teacher's relations.
        tau_teacher: f64, PositiveUpTo(100.0), "", RESSL;
        /// Temperature τs of the student's relations.
        tau_student: f64, PositiveUpTo(100.0), "", RESSL;
        /// Momentum m of the teacher's moving average.
        ema: f64, Within(0.0, 1.0), "", RESSL_AND_OURS;
        /// Numbers of an embedding z.
        dim: usize, Within(1.0, 65_536.0), "numbers", RESSL_AND_OURS;
        /// Hidden units of the projection head.
        hidden: usize, Within(1.0, 65_536.0), "units", RESSL_AND_OURS;
        /// Whether the projection head has batch norms, as moco.head_norm.
        head_norm: bool, Switch, "", OURS;
        /// What the queue holds before the first step.
        queue_fill: QueueFill, Words(QueueFill::NAMES, QueueFill::ABOUT), "", RESSL_AND_OURS;
    }

    /// What DenseCL has beside MoCo's constants.
    densecl: Densecl {
        /// Share λ of the loss that compares positions; that of the images' is 1 − λ.
        weight: f64, Within(0.0, 1.0), "", DENSECL;
        /// The level whose positions are compared.
        level: DenseLevel, Words(DenseLevel::NAMES, DenseLevel::ABOUT), "", DENSECL;
    }

    /// How students are drawn.
    sampling: Sampling {
        /// Which architectures a step trains.
        policy: Policy, Words(Policy::NAMES, Policy::ABOUT), "", "DATA (CVPR 2022), Algorithm 1";
        /// The architecture of a net that is trained by itself, at its true size, instead of a
        /// supernet.
        arch: OrNone<Arch>, Id, "", NONE;
    }

    /// The teacher.
    teacher: Teacher {
        /// Its architecture.
        arch: TeacherArch, Words(TeacherArch::NAMES, TeacherArch::ABOUT), "", DATA;
    }

    /// How the views of an image are made: the first, and the second but for what `views2` says.
    views: Views {
        /// Filter by which a crop is resized.
        filter: Filter, Words(Filter::NAMES, Filter::ABOUT), "", OF_METHODS;
        /// Least share of the image's area that a crop takes. At most views.crop_max.
        crop_min: f64, PositiveUpTo(1.0), "share", MOCO;
        /// Greatest share.
        crop_max: f64, PositiveUpTo(1.0), "share", MOCO;
        /// Probability of the colour jitter.
        jitter_p: f64, Within(0.0, 1.0), "probability", MOCO;
        /// Strength b of the jitter of brightness: a factor from 1 − b to 1 + b.
        brightness: f64, Within(0.0, 1.0), "", MOCO;
        /// Strength of the jitter of contrast, likewise.
        contrast: f64, Within(0.0, 1.0), "", MOCO;
        /// Strength of the jitter of saturation, likewise.
        saturation: f64, Within(0.0, 1.0), "", MOCO;
        /// Greatest shift h of the hue: −h to h.
        hue: f64, Within(0.0, 0.5), "turns of the colour circle", MOCO;
        /// Probability of becoming grey.
        grey_p: f64, Within(0.0, 1.0), "probability", MOCO;
        /// Probability of the Gaussian blur.
        blur_p: f64, Within(0.0, 1.0), "probability", MOCO_AND_OURS;
        /// Least σ of the blur. At most views.blur_sigma_max.
        blur_sigma_min: f64, PositiveUpTo(32.0), "pixels", MOCO;
        /// Greatest σ.
        blur_sigma_max: f64, PositiveUpTo(32.0), "pixels", MOCO;
        /// Probability of solarisation: values from half of the range on are inverted.
        solarise_p: f64, Within(0.0, 1.0), "probability", OF_METHODS;
        /// Probability of the horizontal flip.
        flip_p: f64, Within(0.0, 1.0), "probability", MOCO;
    }

    /// What is different about the second view of an image.
    views2: Views2 {
        /// Least share of the image's area that a crop takes.
        crop_min: OrSame, SameOr(&PositiveUpTo(1.0)), "share", OF_METHODS;
        /// Probability of the colour jitter.
        jitter_p: OrSame, SameOr(&Within(0.0, 1.0)), "probability", OF_METHODS;
        /// Probability of becoming grey.
        grey_p: OrSame, SameOr(&Within(0.0, 1.0)), "probability", OF_METHODS;
        /// Probability of the Gaussian blur.
        blur_p: OrSame, SameOr(&Within(0.0, 1.0)), "probability", OF_METHODS;
        /// Probability of solarisation.
        solarise_p: OrSame, SameOr(&Within(0.0, 1.0)), "probability", OF_METHODS;
    }

    /// Reading images.
    data: Data {
        /// Threads that decode and augment; 0 is one a core.
        workers: usize, Within(0.0, 1024.0), "threads", NONE;
        /// What happens when an image cannot be read.
        on_corrupt: OnCorrupt, Words(OnCorrupt::NAMES, OnCorrupt::ABOUT), "", NONE;
        /// Share of unreadable images past which the run stops (never at fewer than 10 of them).
        max_corrupt: f64, Within(0.0, 1.0), "share", NONE;
    }

    /// Checkpoints.
    ckpt: Ckpt {
        /// How often one is written.
        every: CkptEvery, Interval { auto: false }, "", NONE;
        /// How many are kept, beside that of step 0.
        keep: usize, Within(1.0, 1e6), "checkpoints", NONE;
    }

    /// Progress and metrics.
    log: Log {
        /// Steps between lines of progress where there is no terminal.
        every: usize, Within(1.0, 1e9), "steps", NONE;
        /// Whether these steps are written for TensorBoard, too, into the folder `tb` of the run's.
        tensorboard: bool, Switch, "", NONE;
        /// A file, `….prom`, for the text-file collector of Prometheus's node exporter.
        prometheus: OrNone<String>, File, "", NONE;
    }

    /// Nearest neighbours during training, where `--probe` asks for them.
    probe: Probe {
        /// How often, beside step 0 and the end; auto is each epoch, or each twentieth of the
        /// run's steps where that is longer.
        every: ProbeEvery, Interval { auto: true }, "", NONE;
        /// Images at most: half of them neighbours, half queries.
        images: usize, Within(4.0, 1e6), "images", NONE;
    }

    /// What stops a run that goes wrong.
    guard: Guard {
        /// Whether collapsed features stop the run (exit 4).
        collapse: bool, Switch, "", NONE;
    }

    /// The search's constants.
    search: Search {
        /// Temperature τ of the relation metric.
        tau: f64, PositiveUpTo(100.0), "", "DATA (CVPR 2022), Eq. 4 and 5";
    }

    /// Fine-tuning with labels, of which the recipe decides the defaults, and those of `train` too.
    finetune: Finetune {
        /// The recipe that the other settings are from.
        recipe: Recipe, Words(Recipe::NAMES, Recipe::ABOUT), "", TUNING;
        /// Learning rate of the head; that of the body is train.lr.
        lr_head: f64, Within(0.0, 1000.0), "", TUNING;
        /// Steps of the run; 0: train.epochs decide.
        steps: usize, Within(0.0, 1e9), "steps", TUNING;
        /// Steps of the run at least, where train.epochs decide: few images make few steps an epoch.
        least_steps: usize, Within(0.0, 1e9), "steps", TUNING;
        /// Share of the steps during which the rates rise linearly from 0.
        warmup: f64, Within(0.0, 1.0), "share", TUNING;
        /// How the rates fall.
        falls: Falls, Words(Falls::NAMES, Falls::ABOUT), "", TUNING;
        /// Factor of each drop.
        drop: f64, PositiveUpTo(1.0), "", TUNING;
        /// Exponent of falls=poly.
        poly_power: f64, PositiveUpTo(10.0), "", TUNING;
        /// Learning rate that falls=poly ends at.
        least_lr: f64, Within(0.0, 1000.0), "", TUNING;
        /// The views that are trained on.
        view: TunedView, Words(TunedView::NAMES, TunedView::ABOUT), "", TUNING;
        /// Least share of the image's area that a crop takes; at most all of it.
        crop_min: f64, PositiveUpTo(1.0), "share", TUNING;
        /// Height and width of the net's input, in training and in tests; 0: the preset's.
        resolution: usize, Within(0.0, 4096.0), "pixels", TUNING;
        /// α of CutMix: a window of each image is another one's, with λ ~ Beta(α, α) of the image left
        /// and that share of the loss; 0: without.
        cutmix: f64, Within(0.0, 1.0), "", TUNING;
        /// Values of the head before training.
        head: HeadInit, Words(HeadInit::NAMES, HeadInit::ABOUT), "", TUNING;
        /// What becomes of the body.
        body: Body, Words(Body::NAMES, Body::ABOUT), "", TUNING;
        /// Which statistics the body's batch norms use in training.
        bn: TunedBn, Words(TunedBn::NAMES, TunedBn::ABOUT), "", TUNING;
        /// Whether weight decay is also for the scales and shifts of batch norms.
        decay_norms: bool, Switch, "", TUNING;
        /// Steps between tests on the test images during training (of seg, det-c4 and det-fpn); 0: it is
        /// tested at the end alone.
        eval_every: usize, Within(0.0, 1e9), "steps", NONE;
        /// Which images the rates are chosen on, where neither train.lr nor finetune.lr_head is set.
        select: Select, Words(Select::NAMES, Select::ABOUT), "", TUNING;
    }

    /// Segmentation by an FCN: the net, its training images and its tests.
    seg: Seg {
        /// Channels of the head's convolutions; the auxiliary head has half as many.
        channels: usize, Within(2.0, 8192.0), "channels", TUNING;
        /// Pixels of the input for one of the last stage: stages beyond it have dilated convolutions
        /// instead of strides.
        output_stride: usize, Within(1.0, 64.0), "pixels", TUNING;
        /// Weight of the auxiliary head's loss; 0: without that head.
        aux_weight: f64, Within(0.0, 10.0), "", TUNING;
        /// Share of channels that dropout sets to 0 before the classifier.
        dropout: f64, HalfOpen(0.0, 1.0), "share", TUNING;
        /// How logits are resized to the labels: corners on corners, or pixels as squares.
        align_corners: bool, Switch, "", TUNING;
        /// Which pixels the loss is a mean over.
        loss_mean: LossMean, Words(LossMean::NAMES, LossMean::ABOUT), "", TUNING;
        /// Images are resized until their longer edge is at most so long, and the other at most
        /// seg.short; 0: they keep their size.
        long: usize, Within(0.0, 16_384.0), "pixels", TUNING;
        /// Most of the shorter edge.
        short: usize, Within(0.0, 16_384.0), "pixels", TUNING;
        /// Least factor by which training images are then resized. At most seg.scale_max.
        scale_min: f64, PositiveUpTo(16.0), "", TUNING;
        /// Greatest factor.
        scale_max: f64, PositiveUpTo(16.0), "", TUNING;
        /// Height and width of a training crop, and of a window of test=slide.
        crop: usize, Within(8.0, 8192.0), "pixels", TUNING;
        /// Crops in which a class has more than this share of the pixels are drawn again, ten times.
        most_of_class: f64, PositiveUpTo(1.0), "share", TUNING;
        /// Whether training images change in brightness, contrast, saturation and hue.
        photometric: bool, Switch, "", TUNING;
        /// How images are tested.
        test: TestMode, Words(TestMode::NAMES, TestMode::ABOUT), "", TUNING;
        /// Pixels from one window of test=slide to the next.
        slide: usize, Within(1.0, 8192.0), "pixels", TUNING;
        /// Label of pixels that belong to no class.
        ignore: usize, Within(0.0, 255.0), "", TUNING;
    }

    /// Detection by Faster and Mask R-CNN: the net, its training images and its tests.
    det: Det {
        /// Least length of the shorter edge that training images are resized to.
        short_min: usize, Within(32.0, 8192.0), "pixels", TUNING;
        /// Greatest length.
        short_max: usize, Within(32.0, 8192.0), "pixels", TUNING;
        /// Lengths are det.short_min and so many pixels more, again and again.
        short_step: usize, Within(1.0, 8192.0), "pixels", TUNING;
        /// Length of the shorter edge in tests.
        short_test: usize, Within(32.0, 8192.0), "pixels", TUNING;
        /// Most of the longer edge.
        long: usize, Within(32.0, 16_384.0), "pixels", TUNING;
        /// What has a length of its own in training.
        size_per: SizePer, Words(SizePer::NAMES, SizePer::ABOUT), "", TUNING;
        /// Side of the smallest anchors.
        anchor: usize, Within(1.0, 1024.0), "pixels", TUNING;
        /// Channels of FPN, RPN and mask head.
        channels: usize, Within(2.0, 4096.0), "channels", TUNING;
        /// Units of the box head's linear layers.
        fc: usize, Within(2.0, 16_384.0), "units", TUNING;
        /// Layers of the box head.
        box_head: BoxHead, Words(BoxHead::NAMES, BoxHead::ABOUT), "", TUNING;
        /// Whether the convolutions of box and mask head have batch norms.
        head_norm: bool, Switch, "", TUNING;
        /// Whether masks are learnt beside boxes (det-fpn).
        mask: bool, Switch, "", TUNING;
        /// Anchors of an image that the RPN learns from, at most half of them objects.
        rpn_batch: usize, Within(2.0, 65_536.0), "anchors", TUNING;
        /// Proposals of a level before NMS, in training.
        rpn_pre: usize, Within(1.0, 1e6), "boxes", TUNING;
        /// Proposals of an image after NMS, in training.
        rpn_post: usize, Within(1.0, 1e6), "boxes", TUNING;
        /// Proposals of a level before NMS, in tests.
        rpn_pre_test: usize, Within(1.0, 1e6), "boxes", TUNING;
        /// Proposals of an image after NMS, in tests.
        rpn_post_test: usize, Within(1.0, 1e6), "boxes", TUNING;
        /// Overlap above which NMS drops the proposal with the lower score.
        rpn_nms: f64, PositiveUpTo(1.0), "", TUNING;
        /// Regions of an image that the heads learn from.
        roi_batch: usize, Within(2.0, 65_536.0), "regions", TUNING;
        /// Share of them that are objects, at most.
        roi_fg: f64, PositiveUpTo(1.0), "share", TUNING;
        /// Least score of a detection.
        score: f64, Within(0.0, 1.0), "", TUNING;
        /// Overlap above which NMS drops the detection of the same class with the lower score.
        nms: f64, PositiveUpTo(1.0), "", TUNING;
        /// Detections of an image, at most.
        top_k: usize, Within(1.0, 1e6), "detections", TUNING;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_its_key() {
        for preset in crate::space::presets::NAMES {
            let entries = Config::for_preset(preset).unwrap().entries();
            let names: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, KEYS.iter().map(|key| key.name).collect::<Vec<_>>());
        }
    }

    #[test]
    fn words_are_explained_and_defaults_are_allowed() {
        for key in KEYS {
            assert!(key.about.trim_start().ends_with('.'), "{}", key.name);
            if let Some((names, about)) = key.allowed.explained() {
                assert_eq!(names.len(), about.len(), "{}", key.name);
                assert!(about.iter().all(|text| text.ends_with('.')), "{}: {about:?}", key.name);
            }
        }
    }
}
