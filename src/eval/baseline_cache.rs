//! What pixels and colour histograms are worth, kept in a run's folder: for a large set they take
//! minutes, and they are the same for every net of the run.
//!
//! A file is named by a digest of all that decides its content. It is written aside and renamed, so
//! that processes which do so at the same time leave one of their files; what is damaged, or of
//! other content than its name says, is computed again.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::baselines::{MOST_TEST, MOST_TRAIN, RawBaselines};
use super::evaluate::{Options, Protocol, Splits};
use super::images::Images;
use super::raw_features::{BINS, MOST_SIDE};
use crate::cx::Cx;
use crate::error::{Error, Result};
use crate::files::{self, sealed};

/// All that decides what pixels and colours are worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Question {
    engine: String,
    device: String,
    protocol: String,
    /// Epochs and seed of the linear classifier.
    linear: Option<(usize, u64)>,
    classes: usize,
    resolution: usize,
    mean: Vec<f32>,
    std: Vec<f32>,
    most_side: usize,
    bins: usize,
    train: Part,
    test: Part,
}

/// The images of one side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    /// Digest of the data set.
    data: String,
    images: usize,
    /// How many of them are looked at.
    most: usize,
    /// BLAKE3 of their indices and classes.
    chosen: String,
}

impl Part {
    fn of(images: &Images, most: usize) -> Result<Self> {
        let mut hasher = blake3::Hasher::new();
        for &i in images.indices() {
            let label = images.dataset().label(i).map_or(u64::MAX, |label| label as u64);
            hasher.update(&(i as u64).to_le_bytes()).update(&label.to_le_bytes());
        }
        let chosen = hasher.finalize().to_hex().to_string();
        Ok(Self { data: images.dataset().digest()?, images: images.len(), most, chosen })
    }
}

/// The content of a file.
#[derive(Serialize, Deserialize)]
struct Answer {
    question: Question,
    raw: RawBaselines,
}

/// The place in a run's folder for what pixels and colours are worth on some images.
pub struct BaselineCache {
    path: PathBuf,
    question: Question,
}

impl BaselineCache {
    /// Below `eval`, the folder of a run's evaluations. Reads as much of the images as their digests
    /// take.
    ///
    /// # Errors
    /// Those of [`crate::data::Dataset::digest`].
    pub fn new(eval: &Path, cx: &Cx, sets: &Splits, options: &Options) -> Result<Self> {
        let linear = options.protocol == Protocol::Linear;
        let question = Question {
            engine: env!("CARGO_PKG_VERSION").into(),
            device: cx.name().to_string(),
            protocol: options.protocol.to_string(),
            linear: linear.then_some((options.epochs, options.seed)),
            classes: sets.classes,
            resolution: sets.train.input().side,
            mean: sets.train.input().mean.clone(),
            std: sets.train.input().std.clone(),
            most_side: MOST_SIDE,
            bins: BINS,
            train: Part::of(&sets.train, MOST_TRAIN)?,
            test: Part::of(&sets.test, MOST_TEST)?,
        };
        let text = serde_json::to_vec(&question).map_err(|e| Error::write(eval, e))?;
        let name = format!("{}.json", &blake3::hash(&text).to_hex()[..16]);
        Ok(Self { path: eval.join("baselines").join(name), question })
    }

    /// What is kept; none where nothing is, or where it is damaged.
    pub fn read(&self) -> Option<RawBaselines> {
        if !self.path.exists() {
            return None;
        }
        match sealed::read_json::<Answer>(&self.path) {
            Ok(answer) if answer.question == self.question => {
                tracing::info!(
                    "raw pixels and colour histograms are those of {}",
                    self.path.display()
                );
                Some(answer.raw)
            }
            Ok(_) => {
                tracing::warn!("{} is of other images: computed again", self.path.display());
                None
            }
            Err(e) => {
                tracing::warn!("computed again, as it cannot be used: {e}");
                None
            }
        }
    }

    /// Keeps `raw`. Where that fails it is said: the next evaluation only takes longer.
    pub fn write(&self, raw: &RawBaselines) {
        let answer = Answer { question: self.question.clone(), raw: raw.clone() };
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let written =
            files::create_dir(folder).and_then(|()| sealed::write_json(&self.path, &answer));
        if let Err(e) = written {
            tracing::warn!("raw pixels and colour histograms are not kept: {e}");
        }
    }
}
