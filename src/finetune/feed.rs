//! Batches of annotated images that a pool of threads has made, brought to where the nets compute.

use std::time::Instant;

use crate::cx::Cx;
use crate::data::{Batch, Pipeline, Stop};
use crate::error::{Error, Result};
use crate::tensor::Shape;
use crate::train::Feed;
use crate::train::objective::StepBatch;

/// RGB images of one size, normalised.
pub(super) struct Padded {
    /// N×H×W×3 numbers.
    pub values: Vec<f32>,
    /// Height and width.
    pub size: [usize; 2],
}

/// Batch after batch, each a function of its step. What cannot be read ends the run.
pub(super) struct DenseFeed {
    pipeline: Pipeline<Batch<Padded>>,
    steps_per_epoch: usize,
}

impl DenseFeed {
    /// Starts `workers` threads, which `make` the batches from a step on; none where nobody waits any
    /// more.
    ///
    /// # Errors
    /// Threads that cannot be started.
    pub(super) fn start(
        workers: usize,
        first_step: u64,
        steps_per_epoch: usize,
        make: impl Fn(u64, &Stop) -> Result<Option<Batch<Padded>>> + Send + Sync + 'static,
    ) -> Result<Self> {
        let make = move |step, stop: &Stop| make(step, stop).transpose();
        Ok(Self { pipeline: Pipeline::start(workers, first_step, make)?, steps_per_epoch })
    }
}

impl Feed for DenseFeed {
    fn steps_per_epoch(&self) -> usize {
        self.steps_per_epoch
    }

    fn next(&mut self, cx: &Cx) -> Result<StepBatch> {
        let began = Instant::now();
        let ended = || Err(Error::data("the loader has stopped after an error"));
        let mut batch = self.pipeline.next().unwrap_or_else(ended)?;
        batch.wait_ms = began.elapsed().as_secs_f64() * 1e3;
        let n = batch.indices.len();
        batch.try_map(|Padded { values, size: [h, w] }| {
            Ok(vec![cx.upload(Shape::nhwc(n, h, w, 3), cx.dtype(), &values)?])
        })
    }

    /// The threads alone work ahead.
    fn prefetch(&mut self, _: &Cx) {}

    fn replaced(&self) -> Vec<String> {
        Vec::new()
    }

    fn room_bytes(&self) -> usize {
        0
    }
}
