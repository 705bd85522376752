//! Batches for search, recalibration and evaluation: the centre of every image, in order.

use std::sync::Arc;

use super::augment::{Scratch, with_scratch, write_normalised};
use super::loader::Buffers;
use super::pipeline::Pipeline;
use super::pixels::{Normalise, Pixels};
use super::policy::Reader;
use super::resample::{Crop, Filter, Window, resize};
use super::{CorruptPolicy, Dataset, Image, Input};
use crate::error::{Error, Result};
use rayon::prelude::*;

/// Images as a net sees them when it is not trained.
#[derive(Debug)]
pub struct EvalBatch {
    /// Index of every image; where one could not be read, that of its substitute.
    pub indices: Vec<usize>,
    /// N×R×R×C, normalised.
    pub x: Pixels,
}

/// An iterator over [`EvalBatch`]es, made ahead of time; it ends after the last image or
/// after an error.
pub struct EvalBatches {
    pipeline: Pipeline<EvalBatch>,
    batches: usize,
}

/// The images `indices` of a data set, in that order, in batches of `batch` (the last may be
/// smaller), resized so that the shorter side is `input.side`·256/224 and cut to the centre;
/// images that are of that size already stay as they are. Unreadable images
/// are replaced under the default [`CorruptPolicy`].
///
/// Errors: an index out of range, a batch or resolution of 0, threads that cannot be started;
/// later, from the iterator, more unreadable images than are allowed.
pub fn eval_batches(
    dataset: Arc<Dataset>,
    indices: &[usize],
    input: &Input,
    batch: usize,
    workers: usize,
) -> Result<EvalBatches> {
    eval_batches_with(dataset, indices, input, batch, workers, CorruptPolicy::default())
}

/// [`eval_batches`] under a policy of the caller's.
pub fn eval_batches_with(
    dataset: Arc<Dataset>,
    indices: &[usize],
    input: &Input,
    batch: usize,
    workers: usize,
    policy: CorruptPolicy,
) -> Result<EvalBatches> {
    let side = input.side;
    if batch == 0 || side == 0 {
        return Err(Error::usage(format!(
            "batch and resolution must be at least 1, found {batch} and {side}"
        )));
    }
    if let Some(out) = indices.iter().find(|&&i| i >= dataset.len()) {
        return Err(Error::usage(format!("no image {out}: there are {}", dataset.len())));
    }
    let elems = input.elems();
    let batches = indices.len().div_ceil(batch);
    let indices = indices.to_vec();
    let reader = Reader::new(dataset, input.channels(), policy);
    let normalise = input.normalise();
    let buffers = Buffers::default();
    let pipeline = Pipeline::start(workers, 0, move |job, stop| {
        let wanted = indices.chunks(batch).nth(job as usize)?;
        let mut x = buffers.take(wanted.len() * elems);
        let shown: Result<Vec<Option<usize>>> = x
            .par_chunks_exact_mut(elems)
            .zip_eq(wanted)
            .with_max_len(1)
            .map(|(out, &index)| {
                if stop.is_set() {
                    return Ok(None);
                }
                let (index, image) = reader.load(index)?;
                with_scratch(|scratch| image.centre_into(&normalise, side, scratch, out));
                Ok(Some(index))
            })
            .collect();
        match shown {
            Err(e) => Some(Err(e)),
            Ok(shown) => {
                let indices: Option<Vec<usize>> = shown.into_iter().collect();
                Some(Ok(EvalBatch { indices: indices?, x }))
            }
        }
    })?;
    Ok(EvalBatches { pipeline, batches })
}

impl EvalBatches {
    /// How many batches there are in all.
    pub fn batches(&self) -> usize {
        self.batches
    }
}

impl Iterator for EvalBatches {
    type Item = Result<EvalBatch>;
    fn next(&mut self) -> Option<Self::Item> {
        self.pipeline.next()
    }
}

/// Torchvision's `Resize` (of the shorter side) and `CenterCrop`, in one: only what is kept is
/// computed.
pub(super) fn centre(
    image: &Image,
    normalise: &Normalise,
    side: usize,
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    let (width, height) = (image.width, image.height);
    let (whole, window) = (whole(width, height), centre_window(width, height, side));
    resize(
        image,
        whole,
        Filter::Bilinear,
        window,
        [side; 2],
        &mut scratch.resize,
        &mut scratch.planes,
    );
    write_normalised(&mut scratch.planes, normalise, side, false, out);
}

/// All of an image.
pub(super) fn whole(width: usize, height: usize) -> Crop {
    Crop { x: 0, y: 0, width, height }
}

/// The part of the resized image that is kept.
pub(super) fn centre_window(w: usize, h: usize, side: usize) -> Window {
    let shorter =
        if (w, h) == (side, side) { side } else { (side as f64 * 256.0 / 224.0).round() as usize };
    let longer = |long: usize, short: usize| (shorter as u64 * long as u64 / short as u64) as usize;
    let (width, height) = if w <= h { (shorter, longer(h, w)) } else { (longer(w, h), shorter) };
    // Torchvision rounds half to even, as Python does.
    let start = |long: usize| ((long - side) as f64 / 2.0).round_ties_even() as usize;
    Window { width, height, x: start(width), y: start(height) }
}
