//! Recipes of fine-tuning: settings under one name, above the defaults and below what the user sets.

use super::dense;
use super::setting::{Origin, Setting, word};
use crate::error::{Error, Result};

crate::choice! {
    /// What a net is wanted for: it decides what a search compares, and what fine-tuning learns.
    pub enum Task("task") {
        /// Classes of images; a search compares z.
        Cls = "cls",
        /// Boxes by Faster R-CNN on C4; a search compares C5.
        DetC4 = "det-c4",
        /// Boxes and masks by Mask R-CNN with a feature pyramid; a search compares C2 to C5.
        DetFpn = "det-fpn",
        /// Classes of pixels by an FCN; a search compares C4 and C5.
        Seg = "seg",
    }
}

crate::choice! {
    /// A recipe of fine-tuning.
    pub enum Recipe("recipe") {
        /// Few images and a CPU: body and head, a cosine.
        Small = "small",
        /// A share of ImageNet's labels, 20 epochs, rates from a grid of nine.
        Semi = "semi",
        /// SwAV's rates for a share of ImageNet's labels.
        Swav = "swav",
        /// SimCLR's: LARS for body and head, a cosine, a head of zeros.
        Simclr = "simclr",
        /// A linear classifier on the frozen body, all learning rates at once.
        Linear = "linear",
        /// VTAB-1k's 1,000 steps on 1,000 images.
        Vtab1k = "vtab1k",
        /// 10,000 steps at 128×128 pixels with CutMix, for whole data sets of VTAB.
        VtabFull = "vtab-full",
        /// Cityscapes' images in crops of 769 pixels, 40,000 steps: MMSegmentation's.
        CityscapesFcn = "cityscapes-fcn",
        /// Pascal VOC's label images in crops of 512 pixels, 20,000 steps: MMSegmentation's.
        VocFcn = "voc-fcn",
        /// Pascal VOC's boxes, 24,000 steps: MoCo's.
        VocC4 = "voc-c4",
        /// COCO's boxes and masks, 90,000 steps: MoCo's.
        CocoFpn = "coco-fpn",
    }
}

crate::choice! {
    /// How learning rates fall.
    pub enum Falls("fall of the learning rates") {
        /// To 0 along half a cosine.
        Cosine = "cosine",
        /// By finetune.drop after 60 % and 80 % of the steps.
        Late = "late",
        /// By finetune.drop after 30 %, 60 % and 90 % of the steps.
        Thirds = "thirds",
        /// By finetune.drop after 18 and 22 of 24 parts of the steps.
        Voc = "voc",
        /// By finetune.drop after 6 and 8 of 9 parts of the steps.
        Coco = "coco",
        /// To finetune.least_lr by (1 − t)^finetune.poly_power, t being the share of the steps.
        Poly = "poly",
        /// Not at all.
        Constant = "constant",
    }
}

crate::choice! {
    /// Views that fine-tuning sees of its images.
    pub enum TunedView("view") {
        /// Random crops, mirrored half of the time.
        Crop = "crop",
        /// The whole image, squeezed to the net's square.
        Whole = "whole",
        /// Parts of the squeezed image with finetune.crop_min of its area, mirrored half of the time.
        Part = "part",
    }
}

crate::choice! {
    /// Values of a classifier before training.
    pub enum HeadInit("values of the head") {
        /// Normal with deviation 0.01, biases 0.
        Normal = "normal",
        /// All 0.
        Zero = "zero",
    }
}

crate::choice! {
    /// What becomes of the body.
    pub enum Body("treatment of the body") {
        /// It is trained with train.lr; batch norms take the batch's statistics.
        Trained = "trained",
        /// It stays as it is; batch norms take statistics of the training images.
        Frozen = "frozen",
    }
}

crate::choice! {
    /// Which images learning rates are chosen on.
    pub enum Select("choice of rates") {
        /// None: the rates are those of the settings.
        Off = "off",
        /// A fifth of the labelled images, held out; then all are trained on.
        HeldOut = "held-out",
        /// The images that are tested on, as papers do; the result says so.
        Test = "test",
    }
}

/// Share of the labels up to which recipes that know two shares take what they have for 1 %.
const ONE_PER_CENT: f64 = 0.03;

/// What all recipes have in common, where they do not say otherwise.
const COMMON: [&str; 19] = [
    "train.optimizer=sgd",
    "train.momentum=0.9",
    "train.bn_group=0",
    "train.warmup_epochs=0",
    "train.decay_exempt=false",
    "train.weight_decay=0",
    "finetune.steps=0",
    "finetune.least_steps=0",
    "finetune.warmup=0",
    "finetune.falls=late",
    "finetune.view=crop",
    "finetune.crop_min=0.08",
    "finetune.resolution=0",
    "finetune.cutmix=0",
    "finetune.head=normal",
    "finetune.body=trained",
    "finetune.bn=batch",
    "finetune.decay_norms=true",
    "finetune.select=off",
];

impl Recipe {
    /// Those for a task.
    pub fn all(task: Task) -> &'static [Self] {
        match task {
            Task::Cls => &[
                Self::Small,
                Self::Semi,
                Self::Swav,
                Self::Simclr,
                Self::Linear,
                Self::Vtab1k,
                Self::VtabFull,
            ],
            Task::Seg => &[Self::Small, Self::CityscapesFcn, Self::VocFcn],
            Task::DetC4 => &[Self::Small, Self::VocC4],
            Task::DetFpn => &[Self::Small, Self::CocoFpn],
        }
    }

    /// Its settings for a task, where a share of the images is labelled.
    ///
    /// # Errors
    /// Exit 2 where it is for another task.
    pub fn settings(self, task: Task, share: f64) -> Result<Vec<Setting>> {
        if !Self::all(task).contains(&self) {
            let names: Vec<&str> = Self::all(task).iter().map(|recipe| recipe.as_str()).collect();
            return Err(Error::usage(format!(
                "--recipe {self} is not for --task {task}: expected {}",
                names.join(" or ")
            )));
        }
        let own = match task {
            Task::Cls => self.words(share <= ONE_PER_CENT),
            _ => dense::words(self, task),
        };
        let name = format!("finetune.recipe={self}");
        let all = COMMON.iter().copied().chain(own).chain([name.as_str()]).map(word);
        let named = |s: Setting| Setting { origin: Origin::Recipe(self.as_str()), ..s };
        all.map(|setting| setting.map(named)).collect()
    }

    fn words(self, few: bool) -> Vec<&'static str> {
        let imagenet = ["train.epochs=20", "train.batch=256", "finetune.drop=0.2"];
        let pick = |one: &'static str, ten: &'static str| if few { one } else { ten };
        match self {
            Self::Small => vec![
                "train.epochs=30",
                "train.batch=32",
                "train.lr=0.05",
                "train.weight_decay=0.0005",
                "finetune.lr_head=0.2",
                "finetune.least_steps=600",
                "finetune.falls=cosine",
                "finetune.crop_min=0.5",
            ],
            Self::Semi => [
                &imagenet[..],
                &[
                    pick("train.weight_decay=0.0005", "train.weight_decay=0.0001"),
                    "train.lr=0.01",
                    "finetune.lr_head=0.1",
                    "finetune.select=held-out",
                ],
            ]
            .concat(),
            Self::Swav => [
                &imagenet[..],
                &[
                    pick("train.lr=0.02", "train.lr=0.01"),
                    pick("finetune.lr_head=5", "finetune.lr_head=0.2"),
                ],
            ]
            .concat(),
            Self::Simclr => vec![
                pick("train.epochs=60", "train.epochs=30"),
                "train.batch=1024",
                // 0.005·√batch.
                "train.lr=0.16",
                "finetune.lr_head=0.16",
                "finetune.falls=cosine",
                "finetune.head=zero",
                "train.optimizer=lars",
                "train.trust=0.001",
                "train.decay_exempt=true",
            ],
            Self::Linear => vec![
                "train.epochs=100",
                "train.batch=256",
                "train.lr=0",
                "finetune.lr_head=30",
                "finetune.drop=0.1",
                "finetune.body=frozen",
                "guard.collapse=false",
                "finetune.select=held-out",
            ],
            Self::Vtab1k => vec![
                "train.batch=64",
                "train.lr=0.01",
                "finetune.lr_head=0.01",
                "finetune.steps=1000",
                "finetune.warmup=0.08",
                "finetune.falls=thirds",
                "finetune.drop=0.1",
                "finetune.view=whole",
                "finetune.head=zero",
            ],
            Self::VtabFull => vec![
                "train.batch=64",
                "train.lr=0.03",
                "finetune.lr_head=0.03",
                "finetune.steps=10000",
                "finetune.falls=thirds",
                "finetune.drop=0.1",
                "finetune.resolution=128",
                "finetune.view=part",
                // 128 of 160 pixels a side.
                "finetune.crop_min=0.64",
                "finetune.cutmix=0.1",
            ],
            Self::CityscapesFcn | Self::VocFcn | Self::VocC4 | Self::CocoFpn => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::resolve;

    #[test]
    fn recipes_are_settings_that_resolve_and_others_override() {
        let tasks = Task::NAMES.iter().map(|name| name.parse::<Task>().unwrap());
        for (task, &recipe) in
            tasks.flat_map(|task| Recipe::all(task).iter().map(move |r| (task, r)))
        {
            for share in [0.01, 0.1, 1.0] {
                let config = resolve(&recipe.settings(task, share).unwrap()).unwrap().config;
                assert_eq!((config.finetune.recipe, config.train.bn_group), (recipe, 0));
            }
        }
        let settings = |recipe: Recipe, share| recipe.settings(Task::Cls, share).unwrap();
        let of = |share| resolve(&settings(Recipe::Semi, share)).unwrap().config.train;
        assert_eq!((of(0.01).weight_decay, of(0.1).weight_decay), (5e-4, 1e-4));
        let mut settings = settings(Recipe::Swav, 0.01);
        settings.push(word("train.lr=0.5").unwrap());
        let made = resolve(&settings).unwrap();
        assert_eq!((made.config.train.lr, made.config.finetune.lr_head), (0.5, 5.0));
        assert_eq!(made.origin("finetune.lr_head").unwrap().to_string(), "recipe swav");
        assert!(made.is_set("train.lr") && !made.is_set("finetune.lr_head"));
    }

    #[test]
    fn each_recipe_is_for_a_task() {
        for name in Recipe::NAMES {
            let recipe: Recipe = name.parse().unwrap();
            let mut tasks = Task::NAMES.iter().map(|name| name.parse().unwrap());
            assert!(tasks.any(|task| Recipe::all(task).contains(&recipe)), "{name}");
        }
        let e = Recipe::VocC4.settings(Task::Seg, 1.0).unwrap_err().to_string();
        assert!(e.contains("small or cityscapes-fcn or voc-fcn"), "{e}");
    }
}
