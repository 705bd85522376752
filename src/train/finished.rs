//! What a run that fine-tuned a net to the end leaves beside its checkpoints: the classifier that
//! was chosen and the statistics of batch norms, by which the net is used.
//!
//! ```text
//! tuned.safetensors   fc.weight, fc.bias, bn1.running_mean, …
//! tuned.json          sealed: of which checkpoint they are, and how they came about
//! ```

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::eval::record::Learnt;
use crate::files::{self, Entry, Named, sealed};

const FACTS: &str = "tuned.json";
const TENSORS: &str = "tuned.safetensors";

/// `tuned.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// Steps of the checkpoint that the body is of.
    pub step: u64,
    /// BLAKE3 of that checkpoint's `student.safetensors`.
    pub student: String,
    /// BLAKE3 of `tuned.safetensors`.
    pub tensors: String,
    /// Images that the statistics are from.
    pub bn_images: usize,
    /// How it was learnt.
    #[serde(flatten)]
    pub learnt: Learnt,
}

impl Finished {
    /// Writes it into a run's folder, with the tensors. The facts come last: they say which tensors
    /// are theirs.
    pub fn write(mut self, run: &Path, tensors: &[Entry]) -> Result<Self> {
        let path = run.join(TENSORS);
        files::write_safetensors(&path, tensors, &[("step", self.step.to_string())])?;
        self.tensors = files::hash(&path)?;
        sealed::write_json(&run.join(FACTS), &self)?;
        Ok(self)
    }

    /// Reads it, with the tensors and the name of their file; none where the run has not ended, or
    /// ended at another checkpoint.
    ///
    /// # Errors
    /// [`crate::Kind::Data`] where a file is damaged.
    pub fn read(checkpoint: &Checkpoint) -> Result<Option<(Self, Named, String)>> {
        let run = checkpoint.run_dir().filter(|run| run.join(FACTS).is_file());
        let Some(run) = run else { return Ok(None) };
        let facts: Self = sealed::read_json(&run.join(FACTS))?;
        let is_of = facts.step == checkpoint.state.step
            && checkpoint.state.hashes.get("student") == Some(&facts.student);
        if !is_of {
            return Ok(None);
        }
        let path = run.join(TENSORS);
        let found = files::hash(&path)?;
        if found != facts.tensors {
            return Err(Error::data(format!(
                "{} is damaged: its hash is {found}, {FACTS} says {}; run engine finetune with \
                 --resume again, which writes both again",
                path.display(),
                facts.tensors
            )));
        }
        let (named, _) = files::read_safetensors(&path)?;
        Ok(Some((facts, named, path.display().to_string())))
    }
}
