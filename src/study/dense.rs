//! Dense tasks: annotated images, and nets that learn from them and are tested on them.

use super::cells::{Kind, Made, RUN, Source, absolute, value_of};
use super::lab::{Column, Lab};
use super::sizes::Sizes;
use crate::config::{self, Recipe, Task};
use crate::data::annotated::{ImageFiles, LabelImages, NO_CLASS, Objects};
use crate::error::Result;
use crate::eval::dense::score::Metric;
use crate::space::Arch;

/// Annotated images.
#[derive(Clone, Debug)]
pub struct AnnotatedSet {
    /// Images and annotations to learn from.
    pub train: Source,
    /// Images and annotations to test on.
    pub test: Source,
    /// The folder of the images to learn from, for searches: no annotation is read.
    pub images: Source,
    /// What can be learnt from it.
    pub tasks: &'static [Task],
    /// Whether objects have masks.
    pub have_masks: bool,
    /// Whether they are label images in Cityscapes' layout.
    pub are_cityscapes: bool,
}

impl AnnotatedSet {
    /// Opens images with boxes, and perhaps masks.
    ///
    /// # Errors
    /// Those of annotations and images; images that do not lie beside the annotations.
    pub fn boxes(name: &str, train: &str, test: &str) -> Result<Self> {
        let open = |source: &str| -> Result<(Source, String, bool)> {
            let objects = Objects::open(source)?;
            let files = ImageFiles::find(&objects, source, None)
                .map_err(|e| e.and("engine study has no --images: put or link them there"))?;
            let source = annotated(name, source, files.digest(&objects)?, files.len())?;
            Ok((source, files.folder(), objects.have_masks()))
        };
        let (train, folder, have_masks) = open(train)?;
        Ok(Self {
            train,
            test: open(test)?.0,
            images: Source::open(name, &[folder])?,
            tasks: &[Task::DetC4, Task::DetFpn],
            have_masks,
            are_cityscapes: false,
        })
    }

    /// Opens images with label images.
    ///
    /// # Errors
    /// Those of images and label images.
    pub fn pixels(name: &str, train: &str, test: &str) -> Result<Self> {
        let open = |source: &str| -> Result<(Source, LabelImages)> {
            let labels = LabelImages::open(source, NO_CLASS)?;
            Ok((annotated(name, source, labels.digest()?, labels.len())?, labels))
        };
        let (train, labels) = open(train)?;
        Ok(Self {
            train,
            test: open(test)?.0,
            images: Source::open(name, &[labels.folder()])?,
            tasks: &[Task::Seg],
            have_masks: false,
            are_cityscapes: labels.are_cityscapes(),
        })
    }
}

/// Annotated images as a command names them.
fn annotated(name: &str, source: &str, digest: String, images: usize) -> Result<Source> {
    let paths = vec![absolute(source)?];
    Ok(Source { name: name.to_owned(), paths, digest, images, classes: 0 })
}

/// What a search for a task compares.
pub fn compared(task: Task) -> &'static str {
    match task {
        Task::Cls => "z",
        Task::DetC4 => "C5",
        Task::DetFpn => "C2 to C5",
        Task::Seg => "C4 and C5",
    }
}

/// A dense task on a set of images.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The task.
    pub task: Task,
    /// The images.
    pub set: &'a AnnotatedSet,
}

impl Target<'_> {
    /// `det-c4 on signs`.
    pub fn title(&self) -> String {
        format!("{} on {}", self.task, self.set.train.name)
    }

    /// The numbers of a test, the one that says most first.
    pub fn columns(&self) -> &'static [Column] {
        match self.task {
            Task::DetC4 => &BOXES,
            Task::DetFpn => &BOXES_AND_MASKS,
            _ => &PIXELS,
        }
    }

    /// The number that nets are ranked by, in the paper's Table 2 too, and what people call it.
    pub fn ranked_by(&self) -> (Column, &'static str) {
        match self.task {
            Task::DetC4 => (BOXES[1], "AP50"),
            Task::DetFpn => (BOXES[0], "AP"),
            _ => (PIXELS[0], "mIoU"),
        }
    }

    /// Recipe of fine-tuning: small, or the paper's.
    fn recipe(&self, sizes: &Sizes) -> Recipe {
        match self.task {
            _ if sizes.dense_steps.is_some() => Recipe::Small,
            Task::DetC4 => Recipe::VocC4,
            Task::DetFpn => Recipe::CocoFpn,
            _ if self.set.are_cityscapes => Recipe::CityscapesFcn,
            _ => Recipe::VocFcn,
        }
    }

    /// How boxes are scored: by the metric that the recipe's numbers are quoted in.
    fn metric(&self, sizes: &Sizes) -> Option<Metric> {
        (self.recipe(sizes) == Recipe::VocC4).then_some(Metric::Voc07)
    }

    /// Settings above the recipe's, below the user's.
    fn settings(&self, sizes: &Sizes) -> Vec<String> {
        let mut words: Vec<String> =
            sizes.dense_steps.map(|n| format!("finetune.steps={n}")).into_iter().collect();
        if let Some(side) = sizes.dense_side {
            let keys: &[&str] = match self.task {
                Task::Seg => &["seg.crop"],
                _ => &["det.short_min", "det.short_max", "det.short_test", "det.long"],
            };
            words.push("train.batch=2".into());
            words.extend(keys.iter().map(|key| format!("{key}={side}")));
            if self.task != Task::Seg {
                // Stage 4 runs on each region.
                words.push("det.roi_batch=8".into());
            }
        }
        if self.task == Task::DetFpn && !self.set.have_masks {
            words.push("det.mask=false".into());
        }
        words
    }
}

/// Numbers of boxes.
const BOXES: [Column; 3] = [("ap", &["AP"]), ("ap50", &["AP50"]), ("ap75", &["AP75"])];
/// The same, and those of masks, where objects have some.
const BOXES_AND_MASKS: [Column; 6] = [
    BOXES[0],
    BOXES[1],
    BOXES[2],
    ("mask_ap", &["mask", "AP"]),
    ("mask_ap50", &["mask", "AP50"]),
    ("mask_ap75", &["mask", "AP75"]),
];

/// The number of classes of pixels.
const PIXELS: [Column; 1] = [("miou", &["miou"])];

impl Lab<'_> {
    /// All dense tasks on all annotated images.
    pub fn targets(&self) -> Vec<Target<'_>> {
        let mut all = Vec::new();
        for set in self.annotated {
            all.extend(set.tasks.iter().map(|&task| Target { task, set }));
        }
        all
    }

    /// Those of one task.
    pub fn targets_of(&self, task: Task) -> Vec<Target<'_>> {
        self.targets().into_iter().filter(|target| target.task == task).collect()
    }

    /// A net that learns a dense task and is tested; without a run, from random weights.
    pub fn dense(
        &self,
        run: Option<&Made>,
        arch: &Arch,
        target: &Target,
        seed: u64,
    ) -> Result<Made> {
        let parents: Vec<&Made> = run.into_iter().collect();
        self.after(&parents, || {
            let AnnotatedSet { train, test, .. } = target.set;
            let cell = self.tuning(Kind::Dense, target.task, run, arch, (train, test));
            let metric = target.metric(self.sizes);
            let metric = metric.map_or(String::new(), |metric| format!("--metric {metric}"));
            let recipe = target.recipe(self.sizes);
            let cell =
                cell.words(&format!("{metric} --recipe {recipe} --seed {seed} --out {RUN} --json"));
            let cell = cell.settings(&target.settings(self.sizes));
            let users = match target.task {
                Task::Seg => &self.settings.segmentation,
                _ => &self.settings.detection,
            };
            cell.settings(&self.settings.tuning).settings(users)
        })
    }
}

/// Steps of a dense cell's command: those of its settings, else of its recipe.
///
/// # Errors
/// Exit 2 for words that are no such command.
pub(super) fn steps(arguments: &[String]) -> Result<usize> {
    let word = |flag: &str| value_of(arguments, flag).unwrap_or_default();
    let (task, recipe): (Task, Recipe) = (word("--task").parse()?, word("--recipe").parse()?);
    let mut settings = recipe.settings(task, 1.0)?;
    for word in arguments.iter().filter(|word| word.starts_with("finetune.steps=")) {
        settings.push(config::word(word)?);
    }
    Ok(config::resolve(&settings)?.config.finetune.steps)
}
