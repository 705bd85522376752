//! Images of a data set as frozen nets see them: resized, centre-cropped, normalised, in
//! batches that depend on nothing but their number.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::store::{MEMORY_LIMIT_BYTES, Store};
use crate::cx::Cx;
use crate::data::{CorruptPolicy, Dataset, EvalBatches, Input, eval_batches_with};
use crate::error::{Error, Result};
use crate::ops::index_select;
use crate::rng::{Philox, Purpose};
use crate::signals;
use crate::tensor::{Meta, Shape, Tensor};

/// Prepared images that take more than this are not kept.
const CACHE_LIMIT_BYTES: usize = 32 << 30;

/// Pixels of a batch that is enough to fill a device: 128 images of 224 by 224.
const DEVICE_BATCH_PIXELS: usize = 128 * 224 * 224;
/// Most images of such a batch.
const DEVICE_BATCH: usize = 2048;

/// Splits `n` images into as few batches of at most `most` as possible, of nearly equal
/// sizes, so that no batch is left with too few for its statistics.
pub fn spans(n: usize, most: usize) -> Vec<Range<usize>> {
    let batches = n.div_ceil(most);
    let (size, larger) = (n / batches.max(1), n % batches.max(1));
    let starts = |i: usize| i * size + i.min(larger);
    (0..batches).map(|i| starts(i)..starts(i + 1)).collect()
}

/// Images in a batch at a resolution, chosen so that the largest net's activations stay
/// below a few hundred megabytes.
pub fn batch_size(resolution: usize) -> usize {
    if resolution > 64 { 32 } else { 256 }
}

/// `count` of `n` images (all where `None` or more), drawn from a seed, in random order.
pub fn draw(n: usize, count: Option<usize>, seed: u64) -> Vec<usize> {
    Philox::new(seed, Purpose::Subset, 0, 0).sample(n, count.unwrap_or(n))
}

/// Indices of at most `count` labelled images in two halves, neighbours and queries, that hold
/// every class alike: images are drawn from a seed, in rounds of one image of each class, and the
/// rounds go to the halves in turn.
pub fn halves_by_class(dataset: &Dataset, count: usize, seed: u64) -> [Vec<usize>; 2] {
    let mut classes = vec![Vec::new(); dataset.classes().len()];
    for i in 0..dataset.len() {
        if let Some(label) = dataset.label(i) {
            classes[label].push(i);
        }
    }
    for (class, images) in classes.iter_mut().enumerate() {
        let mut rng = Philox::new(seed, Purpose::Subset, class as u64, 1);
        let order = rng.sample(images.len(), images.len());
        *images = order.into_iter().map(|i| images[i]).collect();
    }
    let rounds = classes.iter().map(Vec::len).max().unwrap_or(0);
    let one = |round: usize| classes.iter().filter_map(move |c| Some((round, *c.get(round)?)));
    let mut halves = [Vec::new(), Vec::new()];
    for (round, image) in (0..rounds).flat_map(one).take(count) {
        halves[round % 2].push(image);
    }
    halves
}

/// Some images of a data set, in a fixed order.
pub struct Images {
    dataset: Arc<Dataset>,
    indices: Vec<usize>,
    input: Input,
    workers: usize,
    /// Images of a batch at most.
    batch: usize,
    /// Likewise, if a device would rather have more.
    large_batch: usize,
    policy: CorruptPolicy,
    cache: Option<Cache>,
    /// All images on the device; none if they are not there.
    resident: Vec<Tensor>,
}

/// Prepared images, and which ones they are.
struct Cache {
    values: Store,
    shown: Vec<usize>,
}

/// A batch of images.
pub struct Batch {
    /// Their positions in the order.
    pub span: Range<usize>,
    /// Their indices in the data set; where one could not be read, that of its substitute.
    pub shown: Vec<usize>,
    /// The images [n, H, W, C].
    pub x: Tensor,
    /// The same values on the host.
    pub values: Vec<f32>,
}

impl Images {
    /// The images with these indices, prepared as `input` by `workers` threads.
    pub fn new(dataset: Arc<Dataset>, indices: Vec<usize>, input: Input, workers: usize) -> Self {
        let (batch, policy) = (batch_size(input.side), CorruptPolicy::default());
        let large_batch = (DEVICE_BATCH_PIXELS / input.side.pow(2)).clamp(batch, DEVICE_BATCH);
        Self {
            dataset,
            indices,
            input,
            workers,
            batch,
            large_batch,
            policy,
            cache: None,
            resident: Vec::new(),
        }
    }

    /// Without substitutes for images that cannot be read: batches have fewer images than their
    /// spans, and those with none are passed over.
    pub fn readable_only(mut self) -> Self {
        self.policy.leave_out = true;
        self
    }

    /// In batches of at most `batch` images (at least 1) where that is less than usual.
    pub fn in_batches_of(self, batch: usize) -> Self {
        let most = batch.max(1);
        Self { batch: self.batch.min(most), large_batch: self.large_batch.min(most), ..self }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// Their indices in the data set.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// The data set they are from.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// What they are prepared as.
    pub fn input(&self) -> &Input {
        &self.input
    }

    fn elems(&self) -> usize {
        self.input.elems()
    }

    /// The first `count` images, read and prepared now, in batches of at most `most`.
    fn decode(&self, count: usize, most: usize) -> Result<Decoded> {
        let indices = &self.indices[..count.min(self.len())];
        let spans = spans(indices.len(), most);
        let batch = spans.first().map_or(1, Range::len);
        let (dataset, input, workers) = (self.dataset.clone(), &self.input, self.workers);
        Ok(Decoded {
            source: eval_batches_with(dataset, indices, input, batch, workers, self.policy)?,
            spans: spans.into_iter(),
            elems: self.elems(),
            values: Vec::new(),
            shown: Vec::new(),
        })
    }

    /// Prepares all images once and keeps them, in memory or in a file in `dir` without a name:
    /// worth it where they are read again and again. Too many for that are decoded each time.
    pub fn cached(mut self, dir: &Path) -> Result<Self> {
        let bytes = self.len() * self.elems() * size_of::<f32>();
        if bytes > CACHE_LIMIT_BYTES {
            tracing::info!(
                "{} images are decoded again for every net: prepared they would take {} GiB",
                self.len(),
                bytes >> 30
            );
            return Ok(self);
        }
        let mut values = Store::new(dir, MEMORY_LIMIT_BYTES);
        let mut shown = Vec::with_capacity(self.len());
        for part in self.decode(self.len(), self.batch)? {
            signals::go_on()?;
            let part = part?;
            values.push(&part.values)?;
            shown.extend(part.shown);
        }
        self.cache = Some(Cache { values, shown });
        Ok(self)
    }

    /// As [`Images::cached`], but on the device, in the type that nets compute in, if there is one
    /// and they take at most a quarter of its free memory.
    pub fn cached_for(mut self, cx: &Cx, dir: &Path) -> Result<Self> {
        let meta = Meta::new(Shape::vector(self.len() * self.elems()), cx.dtype());
        let room = cx.available_bytes()?.map_or(MEMORY_LIMIT_BYTES, |bytes| bytes / 4);
        if !cx.is_device() || self.policy.leave_out || meta.size_bytes() > room {
            return self.cached(dir);
        }
        let mut resident = Vec::new();
        for batch in self.batches(cx, self.len())? {
            signals::go_on()?;
            resident.push(batch?.x);
        }
        self.resident = resident;
        Ok(self)
    }

    /// The first `count` images on the host, in batches of at most `most`.
    fn parts(&self, count: usize, most: usize) -> Result<BoxedParts<'_>> {
        let elems = self.elems();
        let Some(cache) = &self.cache else {
            return Ok(Box::new(self.decode(count, most)?));
        };
        let read = move |span: Range<usize>| -> Result<Part> {
            let values = cache.values.read(span.start * elems..span.end * elems)?;
            let shown = cache.shown[span.clone()].to_vec();
            Ok(Part { span, shown, values })
        };
        Ok(Box::new(spans(count.min(self.len()), most).into_iter().map(read)))
    }

    /// Batches of the first `count` images.
    pub fn batches<'a>(
        &'a self,
        cx: &'a Cx,
        count: usize,
    ) -> Result<impl Iterator<Item = Result<Batch>> + 'a> {
        self.batches_of(cx, count, self.batch)
    }

    fn batches_of<'a>(
        &'a self,
        cx: &'a Cx,
        count: usize,
        most: usize,
    ) -> Result<impl Iterator<Item = Result<Batch>> + 'a> {
        let (side, channels) = (self.input.side, self.input.channels());
        let upload = move |part: Result<Part>| -> Option<Result<Batch>> {
            let batch = part.and_then(|mut part| {
                if self.policy.leave_out {
                    part.drop_substitutes(&self.indices[part.span.clone()]);
                }
                let Part { span, shown, values } = part;
                if shown.is_empty() {
                    return Ok(None);
                }
                let shape = Shape::nhwc(shown.len(), side, side, channels);
                let x = cx.upload(shape, cx.dtype(), &values)?;
                Ok(Some(Batch { span, shown, x, values }))
            });
            batch.transpose()
        };
        Ok(self.parts(count, most)?.filter_map(upload))
    }

    /// Batches as [`Images::batches`] gives them, the images alone.
    pub fn tensors<'a>(&'a self, cx: &'a Cx, count: usize) -> Result<BoxedTensors<'a>> {
        self.tensors_of(cx, count, self.batch)
    }

    /// As [`Images::tensors`], for nets that look at every image by itself: in batches that fill a
    /// device.
    pub fn large_tensors<'a>(&'a self, cx: &'a Cx, count: usize) -> Result<BoxedTensors<'a>> {
        self.tensors_of(cx, count, if cx.is_device() { self.large_batch } else { self.batch })
    }

    fn tensors_of<'a>(&'a self, cx: &'a Cx, count: usize, most: usize) -> Result<BoxedTensors<'a>> {
        if self.resident.is_empty() {
            let batches = self.batches_of(cx, count, most)?;
            return Ok(Box::new(batches.map(|batch| batch.map(|b| b.x))));
        }
        let batch = |span: Range<usize>| {
            index_select::rows_of(cx, &self.resident, &span.collect::<Vec<_>>())
        };
        Ok(Box::new(spans(count.min(self.len()), most).into_iter().map(batch)))
    }
}

type BoxedParts<'a> = Box<dyn Iterator<Item = Result<Part>> + 'a>;
type BoxedTensors<'a> = Box<dyn Iterator<Item = Result<Tensor>> + 'a>;

/// A batch that is not on the device yet.
struct Part {
    span: Range<usize>,
    shown: Vec<usize>,
    values: Vec<f32>,
}

impl Part {
    /// Keeps only the images that are those of `wanted`, row by row.
    fn drop_substitutes(&mut self, wanted: &[usize]) {
        let elems = self.values.len() / self.shown.len().max(1);
        for row in (0..self.shown.len()).rev() {
            if wanted[row] != self.shown[row] {
                self.shown.remove(row);
                self.values.drain(row * elems..(row + 1) * elems);
            }
        }
    }
}

/// Cuts what the loader gives, batches of the largest span's size, into spans.
struct Decoded {
    source: EvalBatches,
    spans: std::vec::IntoIter<Range<usize>>,
    elems: usize,
    /// Left over from the loader's last batch.
    values: Vec<f32>,
    shown: Vec<usize>,
}

impl Decoded {
    fn part(&mut self, span: Range<usize>) -> Result<Part> {
        while self.shown.len() < span.len() {
            let batch = self.source.next().unwrap_or_else(|| {
                Err(Error::data("images ended early: they changed while they were read"))
            })?;
            self.shown.extend(batch.indices);
            if self.values.is_empty() {
                self.values = batch.x.into_vec();
            } else {
                self.values.extend_from_slice(&batch.x.into_vec());
            }
        }
        let (later_values, later_shown) =
            (self.values.split_off(span.len() * self.elems), self.shown.split_off(span.len()));
        let values = std::mem::replace(&mut self.values, later_values);
        let shown = std::mem::replace(&mut self.shown, later_shown);
        Ok(Part { span, shown, values })
    }
}

impl Iterator for Decoded {
    type Item = Result<Part>;
    fn next(&mut self) -> Option<Self::Item> {
        let span = self.spans.next()?;
        Some(self.part(span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_hold_every_class_alike() {
        let dir = tempfile::tempdir().unwrap();
        // Rounds of a, b, c; then of a and b; then of a alone.
        for (class, count) in [("a", 9), ("b", 4), ("c", 2)] {
            std::fs::create_dir(dir.path().join(class)).unwrap();
            for i in 0..count {
                let path = dir.path().join(class).join(format!("{i}.png"));
                image::RgbImage::new(2, 2).save(path).unwrap();
            }
        }
        let dataset = Dataset::open(&[dir.path().display().to_string()]).unwrap();
        let classes = |half: &[usize]| -> Vec<usize> {
            let mut counts = vec![0; 3];
            half.iter().for_each(|&i| counts[dataset.label(i).unwrap()] += 1);
            counts
        };
        let halves = halves_by_class(&dataset, 100, 1);
        assert_eq!(halves.each_ref().map(|half| classes(half)), [vec![5, 2, 1], vec![4, 2, 1]]);
        let mut all = halves.concat();
        all.sort_unstable();
        assert_eq!(all, (0..15).collect::<Vec<_>>());
        assert_eq!(halves_by_class(&dataset, 100, 1), halves);
        assert_ne!(halves_by_class(&dataset, 100, 2), halves);
        let few = halves_by_class(&dataset, 6, 1);
        assert_eq!(few.each_ref().map(|half| classes(half)), [vec![1; 3], vec![1; 3]]);
    }

    #[test]
    fn spans_are_nearly_equal_and_cover_all() {
        for n in 0..40 {
            for most in 1..9 {
                let spans = spans(n, most);
                assert_eq!(spans.len(), n.div_ceil(most));
                assert_eq!(
                    spans.iter().flat_map(Clone::clone).collect::<Vec<_>>(),
                    (0..n).collect::<Vec<_>>()
                );
                let sizes = || spans.iter().map(Range::len);
                let (least, largest) = (sizes().min().unwrap_or(0), sizes().max().unwrap_or(0));
                assert!(largest <= most && largest - least <= 1, "{n} {most}");
            }
        }
    }
}
