//! What a run learns from: images, alone or with a class each, or images that are annotated.

use std::path::Path;
use std::sync::Arc;

use super::batches::{Batches, Feed};
use super::examples;
use super::objective::Objective;
use super::start::loader_options;
use crate::config::Config;
use crate::cx::Cx;
use crate::data::Dataset;
use crate::error::Result;
use crate::tensor::Meta;

/// Images with annotations, for a task that learns from them.
pub trait Annotated: Send + Sync {
    /// How many they are.
    fn images(&self) -> usize;
    /// What they are called in messages.
    fn title(&self) -> String;
    /// Number of their classes.
    fn classes(&self) -> usize;
    /// Digest of images and annotations.
    ///
    /// # Errors
    /// [`crate::Kind::Data`] where they cannot be read.
    fn digest(&self) -> Result<String>;
    /// Their batches from a step on: functions of settings and step alone. The images of none are larger
    /// than `largest`.
    ///
    /// # Errors
    /// Threads that cannot be started.
    fn feed(
        &self,
        cx: &Cx,
        largest: Meta,
        config: &Config,
        first_step: u64,
    ) -> Result<Box<dyn Feed>>;
    /// Writes a few of them, as training sees them, into a folder for the report.
    ///
    /// # Errors
    /// A folder that cannot be written.
    fn write_examples(&self, dir: &Path, config: &Config) -> Result<()>;
}

/// What a run learns from.
#[derive(Clone)]
pub enum Source {
    /// Images, perhaps with classes.
    Images(Arc<Dataset>),
    /// Images with annotations.
    Annotated(Arc<dyn Annotated>),
}

impl Source {
    /// Number of images.
    pub fn images(&self) -> usize {
        match self {
            Self::Images(dataset) => dataset.len(),
            Self::Annotated(set) => set.images(),
        }
    }

    /// What it is called in messages.
    pub fn title(&self) -> String {
        match self {
            Self::Images(dataset) => dataset.title().to_owned(),
            Self::Annotated(set) => set.title(),
        }
    }

    /// Number of classes; 0 without labels.
    pub fn classes(&self) -> usize {
        match self {
            Self::Images(dataset) => dataset.classes().len(),
            Self::Annotated(set) => set.classes(),
        }
    }

    /// A digest of all that decides what is learnt.
    ///
    /// # Errors
    /// [`crate::Kind::Data`] where it cannot be read.
    pub fn digest(&self) -> Result<String> {
        match self {
            Self::Images(dataset) => dataset.digest(),
            Self::Annotated(set) => set.digest(),
        }
    }

    /// The batches from a step on, as an objective wants them.
    ///
    /// # Errors
    /// Those of the loader.
    pub fn feed(
        &self,
        cx: &Cx,
        objective: &dyn Objective,
        config: &Config,
        first_step: u64,
    ) -> Result<Box<dyn Feed>> {
        match self {
            Self::Images(dataset) => {
                let options = loader_options(config, objective, first_step);
                Ok(Box::new(Batches::new(cx, dataset.clone(), options)?))
            }
            Self::Annotated(set) => {
                let blank = objective.blank_batch(&cx.planning(), config.train.batch)?;
                set.feed(cx, blank.views[0].meta(), config, first_step)
            }
        }
    }

    /// Writes a few images, as training sees them, into the folder `examples` of a run's.
    pub(super) fn write_examples(
        &self,
        run: &Path,
        objective: &dyn Objective,
        config: &Config,
    ) -> Result<()> {
        let dir = run.join("examples");
        match self {
            Self::Images(dataset) => {
                let side = objective.net().space().resolution;
                examples::write(&dir, dataset, objective.views(), config.seed, side)
            }
            Self::Annotated(set) => set.write_examples(&dir, config),
        }
    }
}
