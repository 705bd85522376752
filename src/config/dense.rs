//! Segmentation and detection: settings that are words, and recipes.

use super::{Recipe, Task};

crate::choice! {
    /// Statistics of the body's batch norms in fine-tuning.
    pub enum TunedBn("batch norm of the body") {
        /// Those of the batch.
        Batch = "batch",
        /// Those of the net that is fine-tuned, taken from the training images before the first step.
        Frozen = "frozen",
    }
}

crate::choice! {
    /// Pixels that a loss is a mean over.
    pub enum LossMean("mean of the loss") {
        /// All of them, as in MMSegmentation's recipes: ignored ones count as 0.
        All = "all",
        /// Those that belong to a class.
        Valid = "valid",
    }
}

crate::choice! {
    /// How images are tested.
    pub enum TestMode("test") {
        /// Whole.
        Whole = "whole",
        /// In windows of seg.crop pixels that overlap, whose logits are averaged.
        Slide = "slide",
    }
}

crate::choice! {
    /// What has a size of its own.
    pub enum SizePer("size per") {
        /// Each image.
        Image = "image",
        /// Each batch, which wastes less on padding.
        Batch = "batch",
    }
}

crate::choice! {
    /// Layers of a box head.
    pub enum BoxHead("box head") {
        /// Two linear layers.
        TwoFc = "2fc",
        /// Four convolutions and a linear layer.
        FourConvOneFc = "4conv1fc",
    }
}

/// Settings of a recipe for one of these tasks.
pub(super) fn words(recipe: Recipe, task: Task) -> Vec<&'static str> {
    let own: &[&str] = match (recipe, task) {
        (Recipe::CityscapesFcn, _) => &[
            "finetune.steps=40000",
            "seg.long=2049",
            "seg.short=1025",
            "seg.crop=769",
            "seg.align_corners=true",
            "seg.test=slide",
            "seg.slide=513",
        ],
        (Recipe::VocFcn, _) => &["finetune.steps=20000", "seg.long=2048", "seg.short=512"],
        (Recipe::VocC4, _) => &[
            "finetune.steps=24000",
            "finetune.warmup=0.004166666666666667",
            "finetune.falls=voc",
            "det.short_min=480",
            "det.rpn_pre=12000",
            "det.rpn_post=2000",
            "det.rpn_pre_test=6000",
        ],
        (Recipe::CocoFpn, _) => {
            &["finetune.steps=90000", "finetune.warmup=0.011111111111111112", "finetune.falls=coco"]
        }
        (_, Task::Seg) => &[
            "train.batch=8",
            "train.lr=0.05",
            "finetune.lr_head=0.05",
            "finetune.steps=3600",
            "seg.channels=64",
            "seg.crop=128",
            "seg.scale_min=0.75",
            "seg.scale_max=1.5",
        ],
        _ => &[
            "train.batch=4",
            "train.lr=0.02",
            "finetune.lr_head=0.02",
            "finetune.steps=3000",
            "finetune.warmup=0.1",
            "finetune.falls=coco",
            "det.short_min=128",
            "det.short_max=128",
            "det.short_test=128",
            "det.long=214",
            "det.anchor=16",
            "det.channels=64",
            "det.fc=256",
            "det.rpn_batch=64",
            "det.rpn_pre=500",
            "det.rpn_post=200",
            "det.rpn_pre_test=500",
            "det.rpn_post_test=200",
            "det.roi_batch=64",
        ],
    };
    let common: &[&str] = match task {
        Task::Seg => &[
            "train.batch=16",
            "train.lr=0.01",
            "finetune.lr_head=0.01",
            "train.weight_decay=0.0005",
            "finetune.falls=poly",
        ],
        _ => &[
            "train.batch=16",
            "train.lr=0.02",
            "finetune.lr_head=0.02",
            "train.weight_decay=0.0001",
            "finetune.decay_norms=false",
            "finetune.drop=0.1",
        ],
    };
    [common, own].concat()
}
