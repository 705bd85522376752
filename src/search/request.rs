//! What is asked of a search, and what decides its result.

use std::path::PathBuf;

use serde::Serialize;

use super::plan::{Group, Selection};
use super::score;
pub use crate::config::Task;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::nn::Feature;
use crate::space::{Arch, Space};
use crate::train::Checkpoint;

impl Task {
    /// The features that its head reads.
    pub fn features(self) -> &'static [Feature] {
        match self {
            Task::Cls => &[Feature::Z],
            Task::DetC4 => &[Feature::C5],
            Task::DetFpn => &[Feature::C2, Feature::C3, Feature::C4, Feature::C5],
            Task::Seg => &[Feature::C4, Feature::C5],
        }
    }
}

crate::choice! {
    /// Which statistics batch norms use in a search.
    pub enum Bn("batch norm mode") {
        /// Computed again for every candidate.
        Recalibrate = "recalibrate",
        /// Each batch's own (the authors' released code).
        Batch = "batch",
    }
}

/// A search to be made.
#[derive(Clone, Debug)]
pub struct Request {
    /// The target's images as the user named them.
    pub data: Vec<String>,
    /// What the subnet is for, where that is known.
    pub task: Option<Task>,
    /// The features to compare, the task's or others.
    pub features: Vec<Feature>,
    /// The candidates.
    pub selection: Selection,
    /// Batch norm statistics.
    pub bn: Bn,
    /// Images that statistics are computed from, at most.
    pub bn_images: usize,
    /// Images to compare features on; `None` for all.
    pub images: Option<usize>,
    /// How many of a budget's best are named.
    pub top: usize,
    /// Temperature of the relation.
    pub tau: f64,
    /// Seed of candidates, images and bootstrap.
    pub seed: u64,
    /// Threads that decode images.
    pub workers: usize,
    /// The search's folder.
    pub out: PathBuf,
    /// Go on with the search in the folder.
    pub resume: bool,
    /// Replace the search in the folder.
    pub overwrite: bool,
    /// Search even where the teacher has collapsed.
    pub force: bool,
}

/// What decides a search's result: a search goes on only with the same.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    pub(crate) preset: Space,
    pub(crate) step: u64,
    /// BLAKE3 of the weights.
    pub(crate) student: String,
    pub(crate) teacher: String,
    pub(crate) data: Vec<String>,
    /// Images in the data.
    #[serde(rename = "pictures")]
    pub(crate) data_images: usize,
    /// Digest of the data.
    pub(crate) digest: String,
    pub(crate) task: Option<Task>,
    pub(crate) features: Vec<Feature>,
    pub(crate) tau: f64,
    pub(crate) bn: Bn,
    pub(crate) bn_images: usize,
    pub(crate) images: usize,
    pub(crate) seed: u64,
    /// The groups, and a digest of their candidates.
    pub(crate) groups: Vec<String>,
    pub(crate) candidates: String,
}

impl Settings {
    /// What the request comes to on this checkpoint and data.
    ///
    /// # Errors
    /// [`crate::Kind::Usage`] for features that cannot be compared, [`crate::Kind::Data`] for
    /// fewer than two images.
    pub(super) fn new(
        checkpoint: &Checkpoint,
        dataset: &Dataset,
        request: &Request,
        groups: &[Group],
    ) -> Result<Self> {
        score::check(&request.features, request.tau)?;
        let images = request.images.unwrap_or(dataset.len()).min(dataset.len());
        if images < 2 {
            return Err(Error::data(format!(
                "{} gives {images} image(s) to compare features on: expected at least 2, better \
                 some hundreds",
                request.data.join(" ")
            )));
        }
        let hash = |stem: &str| checkpoint.state.hashes.get(stem).cloned().unwrap_or_default();
        let ids: Vec<String> = groups.iter().flat_map(|g| &g.archs).map(Arch::to_string).collect();
        Ok(Self {
            preset: checkpoint.state.preset.clone(),
            step: checkpoint.state.step,
            student: hash("student"),
            teacher: hash("teacher"),
            data: request.data.clone(),
            data_images: dataset.len(),
            digest: dataset.digest()?,
            task: request.task,
            features: request.features.clone(),
            tau: request.tau,
            bn: request.bn,
            bn_images: match request.bn {
                Bn::Recalibrate => request.bn_images.clamp(1, dataset.len()),
                Bn::Batch => 0,
            },
            images,
            seed: request.seed,
            groups: groups.iter().map(|g| g.budget.clone()).collect(),
            candidates: blake3::hash(ids.join("\n").as_bytes()).to_hex().to_string(),
        })
    }
}
