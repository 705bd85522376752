//! What happens when an image cannot be read: it is named, replaced and counted, and the run
//! stops where that happens too often.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::loaded::Loaded;
use super::{AnyImage, Dataset, Limits};
use crate::error::{Error, Result};
use crate::rng::{Philox, Purpose};

crate::choice! {
    /// What to do with an image that cannot be read (`data.on_corrupt`).
    #[derive(Default)]
    pub enum OnCorrupt("treatment of unreadable images") {
        /// Take another in its place, drawn from the seed and the image's index.
        #[default]
        Replace = "replace",
        /// Stop the run.
        Stop = "stop",
    }
}

/// How images that cannot be read are dealt with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CorruptPolicy {
    /// Replace or stop.
    pub on_corrupt: OnCorrupt,
    /// Whether the reader drops the rows of substitutes, whose index is not the one it asked for.
    /// Not for training, whose batches have one size.
    pub leave_out: bool,
    /// Share of the data set that may be unreadable (`data.max_corrupt`); ten images always
    /// may.
    pub max_corrupt: f64,
    /// Seed that substitutes are drawn from.
    pub seed: u64,
}

impl Default for CorruptPolicy {
    fn default() -> Self {
        Self { on_corrupt: OnCorrupt::Replace, leave_out: false, max_corrupt: 0.001, seed: 0 }
    }
}

/// How many images of `len` may be unreadable before the run stops.
pub fn allowed_corrupt(len: usize, max_corrupt: f64) -> usize {
    ((len as f64 * max_corrupt) as usize).max(10)
}

/// A data set read under a policy; shared by all workers of a loader.
pub(super) struct Reader {
    dataset: Arc<Dataset>,
    /// Channels that images are read as having.
    channels: usize,
    policy: CorruptPolicy,
    corrupt: Mutex<Corrupt>,
}

/// Unreadable images met so far.
#[derive(Default)]
struct Corrupt {
    all: HashSet<usize>,
    /// What was said of those that nobody has asked for yet.
    said: Vec<String>,
}

impl Reader {
    pub(super) fn new(dataset: Arc<Dataset>, channels: usize, policy: CorruptPolicy) -> Self {
        Self { dataset, channels, policy, corrupt: Mutex::default() }
    }

    /// What reading may take.
    pub(super) fn limits(&self) -> &Limits {
        self.dataset.limits()
    }

    /// A line for each image that was replaced since the last call.
    pub(super) fn replaced(&self) -> Vec<String> {
        std::mem::take(&mut self.corrupt().said)
    }

    /// Image `index`, or its substitute: the first readable one of the draws that belong to
    /// (seed, index). Returns the index of what was read. See [`Dataset::hold`].
    pub(super) fn load(&self, index: usize) -> Result<(usize, Loaded<AnyImage>)> {
        let mut rng = None;
        let mut candidate = index;
        loop {
            let (known, count) = {
                let corrupt = self.corrupt();
                (corrupt.all.contains(&candidate), corrupt.all.len())
            };
            if count == self.dataset.len() {
                return Err(Error::data(format!("none of the {count} images can be read")));
            }
            if !known {
                match self.dataset.hold(candidate, self.channels) {
                    Ok(image) => return Ok((candidate, image)),
                    Err(e) => self.note(candidate, e)?,
                }
            }
            let rng = rng.get_or_insert_with(|| {
                Philox::new(self.policy.seed, Purpose::Substitute, index as u64, 0)
            });
            candidate = rng.below(self.dataset.len());
        }
    }

    fn note(&self, index: usize, error: Error) -> Result<()> {
        let mut corrupt = self.corrupt();
        if !corrupt.all.insert(index) {
            return Ok(());
        }
        let (count, len) = (corrupt.all.len(), self.dataset.len());
        if self.policy.on_corrupt == OnCorrupt::Stop {
            return Err(error.context(
                "an image cannot be read and data.on_corrupt is \"stop\" (\"replace\" goes on \
                 with another in its place)",
            ));
        }
        if count == len {
            return Err(error.context(format!(
                "none of the {len} images can be read: run `engine data check`; the last reason"
            )));
        }
        let allowed = allowed_corrupt(len, self.policy.max_corrupt);
        if count > allowed {
            return Err(error.context(format!(
                "{count} of {len} images cannot be read, more than the {allowed} that \
                 data.max_corrupt={} allows: run `engine data check` for the list; the last reason",
                self.policy.max_corrupt
            )));
        }
        let done = if self.policy.leave_out { "left out" } else { "replaced" };
        let line = format!("{done} an image that cannot be read: {error} ({count} so far)");
        tracing::warn!("{line}");
        corrupt.said.push(line);
        Ok(())
    }

    fn corrupt(&self) -> MutexGuard<'_, Corrupt> {
        self.corrupt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
