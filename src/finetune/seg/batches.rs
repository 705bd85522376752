//! Batches of crops with the labels of their pixels, made ahead of time by a pool of threads.

use std::time::Instant;

use rayon::prelude::*;

use super::set::{SegSet, views};
use crate::config::{Config, Seg};
use crate::cx::Cx;
use crate::data::annotated::NO_CLASS;
use crate::data::annotated::transforms::normalise_padded;
use crate::data::{Batch, Normalise, Orders, Pipeline, Stop, Targets};
use crate::error::{Error, Result};
use crate::tensor::Shape;
use crate::train::Annotated;
use crate::train::Feed;
use crate::train::objective::StepBatch;

/// Batch after batch, each a function of seed and step.
pub(super) struct SegBatches {
    pipeline: Pipeline<Batch<Vec<f32>>>,
    steps_per_epoch: usize,
    side: usize,
}

/// Makes batches; shared by the threads.
struct Maker {
    set: SegSet,
    seg: Seg,
    normalise: Normalise,
    orders: Orders,
    batch: usize,
    seed: u64,
    steps_per_epoch: usize,
}

impl SegBatches {
    pub(super) fn start(
        set: SegSet,
        config: &Config,
        steps_per_epoch: usize,
        first_step: u64,
    ) -> Result<Self> {
        let maker = Maker {
            orders: Orders::new(set.images(), config.seed),
            set,
            seg: config.seg.clone(),
            normalise: config.preset.input().normalise(),
            batch: config.train.batch,
            seed: config.seed,
            steps_per_epoch,
        };
        let make = move |step, stop: &Stop| maker.make(step, stop).transpose();
        let pipeline = Pipeline::start(config.data.workers, first_step, make)?;
        Ok(Self { pipeline, steps_per_epoch, side: config.seg.crop })
    }
}

impl Maker {
    fn make(&self, step: u64, stop: &Stop) -> Result<Option<Batch<Vec<f32>>>> {
        let (batch, pixels) = (self.batch, self.seg.crop * self.seg.crop);
        let epoch = step / self.steps_per_epoch as u64;
        let order = self.orders.of(epoch);
        let first = (step % self.steps_per_epoch as u64) as usize * batch;
        let index = |i: usize| order[(first + i) % order.len()] as usize;
        let mut values = vec![0.0; batch * pixels * 3];
        let mut labels = vec![NO_CLASS; batch * pixels];
        let places = values.par_chunks_mut(pixels * 3).zip(labels.par_chunks_mut(pixels));
        places.enumerate().with_max_len(1).try_for_each(|(i, (values, labels))| {
            if stop.is_set() {
                return Ok(());
            }
            let position = step * batch as u64 + i as u64;
            self.crop(index(i), position, values, labels)
        })?;
        if stop.is_set() {
            return Ok(None);
        }
        let (indices, targets) = ((0..batch).map(index).collect(), Some(Targets::Labels(labels)));
        Ok(Some(Batch { step, epoch, indices, targets, views: values, wait_ms: 0.0 }))
    }

    /// The image at `position` of the run; what is beyond a small one is 0 and of no class.
    fn crop(
        &self,
        index: usize,
        position: u64,
        values: &mut [f32],
        labels: &mut [u8],
    ) -> Result<()> {
        let side = self.seg.crop;
        let (image, of_pixels) = self.set.load(index)?;
        let views = views(&self.seg, &image);
        let (image, of_pixels) = views.apply((image, of_pixels), self.seed, position);
        normalise_padded(&image, &self.normalise, side, values);
        let rows = of_pixels.labels.chunks_exact(of_pixels.width);
        for (out, row) in labels.chunks_exact_mut(side).zip(rows) {
            out[..row.len()].copy_from_slice(row);
        }
        Ok(())
    }
}

impl Feed for SegBatches {
    fn steps_per_epoch(&self) -> usize {
        self.steps_per_epoch
    }

    fn next(&mut self, cx: &Cx) -> Result<StepBatch> {
        let began = Instant::now();
        let ended = || Err(Error::data("the loader has stopped after an error"));
        let mut batch = self.pipeline.next().unwrap_or_else(ended)?;
        batch.wait_ms = began.elapsed().as_secs_f64() * 1e3;
        let shape = Shape::nhwc(batch.indices.len(), self.side, self.side, 3);
        batch.try_map(|values| Ok(vec![cx.upload(shape, cx.dtype(), &values)?]))
    }

    /// The threads alone work ahead.
    fn prefetch(&mut self, _: &Cx) {}

    /// None: what cannot be read ends the run.
    fn replaced(&self) -> Vec<String> {
        Vec::new()
    }

    fn room_bytes(&self) -> usize {
        0
    }
}
