//! Batches of crops with the labels of their pixels, made ahead of time by a pool of threads.

use rayon::prelude::*;

use super::set::{SegSet, views};
use crate::config::{Config, Seg};
use crate::data::annotated::NO_CLASS;
use crate::data::annotated::transforms::normalise_padded;
use crate::data::{Batch, Normalise, Orders, Stop, Targets, steps_per_epoch};
use crate::error::Result;
use crate::finetune::feed::{DenseFeed, Padded, Room};
use crate::train::Annotated;

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

/// The batches of a set from a step on, each a function of seed and step.
///
/// # Errors
/// Threads that cannot be started.
pub(super) fn feed(set: SegSet, room: Room, config: &Config, first_step: u64) -> Result<DenseFeed> {
    let per_epoch = steps_per_epoch(set.images(), config.train.batch);
    let maker = Maker {
        orders: Orders::new(set.images(), config.seed),
        set,
        seg: config.seg.clone(),
        normalise: config.preset.input().normalise(),
        batch: config.train.batch,
        seed: config.seed,
        steps_per_epoch: per_epoch,
    };
    let workers = config.data.workers;
    let make = move |step, stop: &Stop| maker.make(step, stop);
    DenseFeed::start(room, workers, first_step, per_epoch, make)
}

impl Maker {
    fn make(&self, step: u64, stop: &Stop) -> Result<Option<Batch<Padded>>> {
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
        let views = Padded { values, size: [self.seg.crop; 2] };
        Ok(Some(Batch { step, epoch, indices, targets, views, wait_ms: 0.0 }))
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
