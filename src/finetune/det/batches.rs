//! Batches of images with objects, made ahead of time by a pool of threads. A batch holds images
//! that are wider than high, or none of these, so that little of it is padding.

use rayon::prelude::*;

use super::set::{DetSet, views};
use crate::config::{Config, SizePer};
use crate::data::annotated::ImageTargets;
use crate::data::annotated::transforms::{DetectionViews, Sample, normalise_padded};
use crate::data::{Batch, Normalise, Orders, Stop, Targets};
use crate::error::Result;
use crate::finetune::feed::{DenseFeed, Padded, Room};
use crate::geometry::{Coder, Corners, Matcher, Sampler};
use crate::rng::{Philox, Purpose};

/// Makes batches; shared by the threads.
struct Maker {
    set: DetSet,
    views: DetectionViews,
    size_per: SizePer,
    normalise: Normalise,
    sampler: Sampler,
    orders: Orders,
    /// Whether each image that is learnt from is wider than high.
    is_wide: Vec<bool>,
    batch: usize,
    seed: u64,
}

/// The batches of a set from a step on, each a function of seed and step.
///
/// # Errors
/// Threads that cannot be started.
pub(super) fn feed(set: DetSet, room: Room, config: &Config, first_step: u64) -> Result<DenseFeed> {
    let wide = |&i: &usize| set.size(i).is_none_or(|(height, width)| width > height);
    let rpn_batch = config.det.rpn_batch;
    let maker = Maker {
        is_wide: set.learnt.iter().map(wide).collect(),
        orders: Orders::new(set.learnt.len(), config.seed),
        set,
        views: views(config),
        size_per: config.det.size_per,
        normalise: config.preset.input().normalise(),
        sampler: Sampler { boxes: rpn_batch, positives: rpn_batch / 2 },
        batch: config.train.batch,
        seed: config.seed,
    };
    let (workers, per_epoch) = (config.data.workers, maker.steps_per_epoch());
    let make = move |step, stop: &Stop| maker.make(step, stop);
    DenseFeed::start(room, workers, first_step, per_epoch, make)
}

/// Places of an epoch's order, cut into batches of one orientation each, in the order in which they
/// are full. What is left fills no batch; where that is all, batches repeat images.
fn cut(order: &[u32], is_wide: &[bool], batch: usize) -> Vec<Vec<usize>> {
    let (mut full, mut queues) = (Vec::new(), [Vec::new(), Vec::new()]);
    for &i in order {
        let queue = &mut queues[usize::from(is_wide[i as usize])];
        queue.push(i as usize);
        if queue.len() == batch {
            full.push(std::mem::take(queue));
        }
    }
    if full.is_empty() {
        let longer = queues.into_iter().max_by_key(Vec::len).unwrap_or_default();
        full.push(longer.into_iter().cycle().take(batch).collect());
    }
    full
}

impl Maker {
    /// Every epoch has as many.
    fn steps_per_epoch(&self) -> usize {
        let wide = self.is_wide.iter().filter(|wide| **wide).count();
        let of = |images: usize| images / self.batch;
        (of(wide) + of(self.is_wide.len() - wide)).max(1)
    }

    fn make(&self, step: u64, stop: &Stop) -> Result<Option<Batch<Padded>>> {
        let per_epoch = self.steps_per_epoch() as u64;
        let epoch = step / per_epoch;
        let batches = cut(&self.orders.of(epoch), &self.is_wide, self.batch);
        let indices: Vec<usize> =
            batches[(step % per_epoch) as usize].iter().map(|&i| self.set.learnt[i]).collect();
        let first = step * self.batch as u64;
        let position = |i: usize| first + i as u64;
        let samples: Vec<Option<Sample>> = indices
            .par_iter()
            .enumerate()
            .with_max_len(1)
            .map(|(i, &index)| match stop.is_set() {
                true => Ok(None),
                false => self.sample(index, first, position(i)).map(Some),
            })
            .collect::<Result<_>>()?;
        let Some(samples) = samples.into_iter().collect::<Option<Vec<Sample>>>() else {
            return Ok(None);
        };
        let most = |side: fn(&Sample) -> usize| samples.iter().map(side).max().unwrap_or(1);
        let size = self.set.grid.padded([most(|s| s.image.height), most(|s| s.image.width)]);
        let anchors = self.set.grid.anchors(size);
        let elems = size[0] * size[1] * 3;
        let mut values = vec![0.0; samples.len() * elems];
        let targets = values
            .par_chunks_mut(elems)
            .zip(samples)
            .enumerate()
            .with_max_len(1)
            .map(|(i, (values, sample))| {
                normalise_padded(&sample.image, &self.normalise, size[1], values);
                let truths: Vec<Corners> =
                    sample.targets.iter().map(|target| target.bbox.corners()).collect();
                let mut rng = Philox::new(self.seed, Purpose::Anchors, position(i), 0);
                let rule = (Matcher::RPN, Coder::RPN);
                ImageTargets {
                    size: [sample.image.height, sample.image.width],
                    position: position(i),
                    anchors: self.sampler.anchors(&anchors, &truths, rule, &mut rng),
                    objects: sample.targets,
                }
            })
            .collect();
        let targets = Some(Targets::Objects(targets));
        let views = Padded { values, size };
        Ok(Some(Batch { step, epoch, indices, targets, views, wait_ms: 0.0 }))
    }

    /// An image at `position` of the run, in a batch whose first one has position `first`.
    fn sample(&self, index: usize, first: u64, position: u64) -> Result<Sample> {
        let mut sample = self.set.sample(index)?;
        match self.size_per {
            SizePer::Image => self.views.apply(&mut sample, self.seed, position)?,
            SizePer::Batch => {
                let size = [sample.image.width, sample.image.height];
                let (size, _) = self.views.draw(size, self.seed, first);
                let (_, flip) = self.views.draw(size, self.seed, position);
                sample.resize(size)?;
                if flip {
                    sample.flip()?;
                }
            }
        }
        Ok(sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_have_one_orientation_and_are_as_many_in_each_epoch() {
        let is_wide: Vec<bool> = (0..23).map(|i| i % 3 > 0).collect();
        let wide = is_wide.iter().filter(|wide| **wide).count();
        for seed in 0..5 {
            let mut order: Vec<u32> = (0..23).collect();
            Philox::new(seed, Purpose::Check, 0, 0).shuffle(&mut order);
            let batches = cut(&order, &is_wide, 4);
            assert_eq!(batches.len(), wide / 4 + (23 - wide) / 4);
            for batch in &batches {
                assert_eq!(batch.len(), 4);
                assert!(batch.iter().all(|&i| is_wide[i] == is_wide[batch[0]]));
            }
            let mut all: Vec<usize> = batches.concat();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), 4 * batches.len(), "no image twice");
        }
        let few = cut(&[1, 0, 2], &[true, false, true], 4);
        assert_eq!(few, [vec![0, 2, 0, 2]], "too few are repeated");
    }
}
