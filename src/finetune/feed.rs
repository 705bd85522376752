//! Batches of annotated images that a pool of threads has made, brought to where the nets compute. To
//! a device the next one is copied while a step computes.

use std::time::Instant;

use half::bf16;

use crate::cx::{Cx, PendingCopy, StagingRoom};
use crate::data::{Batch, Pipeline, Stop};
use crate::error::{Error, Result};
use crate::tensor::{DType, Meta, Shape, Tensor};
use crate::train::Feed;
use crate::train::objective::StepBatch;

/// RGB images of one size, normalised.
pub(super) struct Padded {
    /// N×H×W×3 numbers.
    pub values: Vec<f32>,
    /// Height and width.
    pub size: [usize; 2],
}

/// What a device needs to know of batches before they are made.
#[derive(Clone, Copy)]
pub(super) struct Room {
    /// Bytes of the largest batch of images; 0 on the CPU.
    bytes: usize,
    /// Whether images are brought there in bf16.
    is_narrow: bool,
}

impl Room {
    /// For batches of images that are at most as large as `largest`.
    pub(super) fn of(cx: &Cx, largest: Meta) -> Self {
        let bytes = if cx.is_device() { largest.size_bytes() } else { 0 };
        Self { bytes, is_narrow: cx.is_device() && largest.dtype == DType::BF16 }
    }
}

/// Values as they travel.
enum Values {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
}

impl Values {
    fn of(values: Vec<f32>, is_narrow: bool) -> Self {
        match is_narrow {
            true => Self::Bf16(values.into_iter().map(bf16::from_f32).collect()),
            false => Self::F32(values),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::F32(values) => bytemuck::cast_slice(values),
            Self::Bf16(values) => bytemuck::cast_slice(values),
        }
    }
}

/// Images that threads have made.
struct Made {
    values: Values,
    size: [usize; 2],
}

/// Images that are where the nets compute, or on their way there.
enum Brought {
    There(Tensor),
    Copied(PendingCopy, Meta),
}

/// Batch after batch, each a function of its step. What cannot be read ends the run.
pub(super) struct DenseFeed {
    pipeline: Pipeline<Batch<Made>>,
    steps_per_epoch: usize,
    /// Where the next batch lands on a device: one lands while a step computes on another.
    room: StagingRoom,
    /// What was taken ahead, or why it could not be.
    ahead: Option<Result<Batch<Brought>>>,
}

impl DenseFeed {
    /// Starts `workers` threads, which `make` the batches from a step on; none where nobody waits any
    /// more.
    ///
    /// # Errors
    /// Threads that cannot be started.
    pub(super) fn start(
        room: Room,
        workers: usize,
        first_step: u64,
        steps_per_epoch: usize,
        make: impl Fn(u64, &Stop) -> Result<Option<Batch<Padded>>> + Send + Sync + 'static,
    ) -> Result<Self> {
        let made = move |Padded { values, size }| {
            Ok(Made { values: Values::of(values, room.is_narrow), size })
        };
        let make = move |step, stop: &Stop| {
            let batch = make(step, stop).transpose()?;
            Some(batch.and_then(|batch| batch.try_map(made)))
        };
        Ok(Self {
            pipeline: Pipeline::start(workers, first_step, make)?,
            steps_per_epoch,
            room: StagingRoom::of(room.bytes),
            ahead: None,
        })
    }

    /// Takes the next batch, and sends its images on their way.
    fn send(&mut self, cx: &Cx) -> Result<Batch<Brought>> {
        let ended = || Err(Error::data("the loader has stopped after an error"));
        let began = Instant::now();
        let mut batch = self.pipeline.next().unwrap_or_else(ended)?;
        batch.wait_ms = began.elapsed().as_secs_f64() * 1e3;
        let n = batch.indices.len();
        batch.try_map(|Made { values, size: [h, w] }| {
            let meta = Meta::new(Shape::nhwc(n, h, w, 3), cx.dtype());
            match &values {
                Values::F32(on_host) if !cx.is_device() => {
                    Ok(Brought::There(cx.upload(meta.shape, meta.dtype, on_host)?))
                }
                _ => Ok(Brought::Copied(self.room.upload(cx, values.bytes())?, meta)),
            }
        })
    }
}

impl Feed for DenseFeed {
    fn steps_per_epoch(&self) -> usize {
        self.steps_per_epoch
    }

    fn next(&mut self, cx: &Cx) -> Result<StepBatch> {
        let batch = match self.ahead.take() {
            Some(ahead) => ahead?,
            None => self.send(cx)?,
        };
        batch.try_map(|brought| match brought {
            Brought::There(images) => Ok(vec![images]),
            Brought::Copied(images, meta) => {
                let images = images.arrive_as(meta)?;
                self.room.take(cx)?;
                Ok(vec![images])
            }
        })
    }

    /// On the CPU the threads alone work ahead.
    fn prefetch(&mut self, cx: &Cx) {
        if cx.is_device() && self.ahead.is_none() {
            self.ahead = Some(self.send(cx));
        }
    }

    fn replaced(&self) -> Vec<String> {
        Vec::new()
    }

    fn room_bytes(&self) -> usize {
        self.room.bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::device::emulator::Emulator;

    /// Sizes that change from batch to batch.
    fn feed(cx: &Cx, first_step: u64) -> DenseFeed {
        let largest = Meta::new(Shape::nhwc(2, 9, 7, 3), cx.dtype());
        DenseFeed::start(Room::of(cx, largest), 2, first_step, 5, |step, _: &Stop| {
            let size = [3 + (2 * step as usize) % 7, 7];
            let value = |i| (step * 1000 + i) as f32 / 7.0;
            let values = (0..2 * 3 * size[0] as u64 * 7).map(value).collect();
            let indices = vec![step as usize, 0];
            let views = Padded { values, size };
            Ok(Some(Batch { step, epoch: 0, indices, targets: None, views, wait_ms: 0.0 }))
        })
        .unwrap()
    }

    fn fed(cx: &Cx, first_step: u64, steps: usize, prefetch: bool) -> Vec<(Shape, Vec<f32>)> {
        let mut feed = feed(cx, first_step);
        let mut batches = Vec::new();
        for _ in 0..steps {
            let images = feed.next(cx).unwrap().views.swap_remove(0);
            if prefetch {
                feed.prefetch(cx);
                feed.prefetch(cx);
            }
            batches.push((images.shape(), cx.download(&images).unwrap()));
        }
        batches
    }

    #[test]
    #[cfg_attr(not(feature = "emulator"), ignore = "needs the cargo feature emulator")]
    fn images_are_the_cpus_whatever_is_taken_ahead() {
        let expected = fed(&Cx::for_tests(), 0, 9, true);
        assert_ne!(expected[0].0, expected[1].0);
        let narrow = expected.iter().map(|(shape, values)| {
            (*shape, values.iter().map(|v| bf16::from_f32(*v).to_f32()).collect::<Vec<_>>())
        });
        let narrow: Vec<_> = narrow.collect();
        for dtype in [DType::F32, DType::BF16] {
            let expected = if dtype == DType::BF16 { &narrow } else { &expected };
            for prefetch in [false, true] {
                let cx = Cx::device(Arc::new(Emulator::new(1).unwrap()), 1).unwrap();
                let cx = cx.computing_in(dtype);
                assert!(fed(&cx, 0, 9, prefetch) == *expected, "{dtype:?}, {prefetch}");
                assert!(fed(&cx, 5, 4, prefetch) == expected[5..], "{dtype:?}, resumed");
                let memory = cx.memory();
                assert_eq!(memory.live_bytes, 0, "a feed that ends leaves nothing behind");
                // The batch in use and the one that comes.
                assert_eq!(memory.allocations, 2, "{dtype:?}, {prefetch}");
            }
        }
    }
}
