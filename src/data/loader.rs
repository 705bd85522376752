//! Batches for training: views of every image, or what a device makes them of, and the labels
//! where a task learns from them, prepared ahead of time by a pool of threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rayon::prelude::*;

use super::annotated::ImageTargets;
use super::augment::with_scratch;
use super::limits::BATCH_BYTES;
use super::loaded::Loaded;
use super::pipeline::{Pipeline, Stop};
use super::pixels::{Bytes, Normalise, Pixels, Recycled};
use super::policy::Reader;
use super::{AnyImage, CorruptPolicy, Dataset, Image, OnCorrupt, ViewParams, Views};
use crate::error::{Error, Result};
use crate::outside::printable;
use crate::rng::{Philox, Purpose};

/// What a [`TrainLoader`] needs to know.
#[derive(Clone, Debug)]
pub struct LoaderOptions {
    /// How each view of an image is made; at least one.
    pub views: Vec<Views>,
    /// Whether batches hold the images' classes, which every image must have.
    pub labels: bool,
    /// Side of a view in pixels.
    pub resolution: usize,
    /// Images of a step.
    pub batch: usize,
    /// Threads that decode and augment; 0: one a core.
    pub workers: usize,
    /// Seed of order, augmentation and substitutes.
    pub seed: u64,
    /// First step to deliver: 0, or where a resumed run goes on.
    pub start_step: u64,
    /// What to do with images that cannot be read.
    pub on_corrupt: OnCorrupt,
    /// Share of them that is allowed, see [`CorruptPolicy::max_corrupt`].
    pub max_corrupt: f64,
    /// What its batches hold.
    pub deliver: Deliver,
}

impl LoaderOptions {
    /// Channels of the views.
    pub(crate) fn channels(&self) -> usize {
        self.views.first().map_or(3, |views| views.mean.len())
    }

    /// MoCo v2's views from the first step on, under the default [`CorruptPolicy`]; `workers`
    /// threads, 0 meaning one a core.
    pub fn moco_v2(resolution: usize, batch: usize, workers: usize) -> Self {
        let CorruptPolicy { on_corrupt, max_corrupt, seed, .. } = CorruptPolicy::default();
        Self {
            views: vec![Views::moco_v2(); 2],
            labels: false,
            resolution,
            batch,
            workers,
            seed,
            start_step: 0,
            on_corrupt,
            max_corrupt,
            deliver: Deliver::default(),
        }
    }
}

/// How far a loader prepares its images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deliver {
    /// It renders the views.
    #[default]
    Views,
    /// It decodes the images and draws what a device is to make of them.
    Decoded,
}

/// The images of a batch, as the loader hands them over.
#[derive(Debug)]
pub enum Images {
    /// Each view, N×R×R×C, normalised.
    Views(Vec<Pixels>),
    /// What the views are made of.
    Decoded(Decoded),
}

/// The decoded images of a batch, and the parameters of their views.
#[derive(Debug)]
pub struct Decoded {
    /// One image after the other, 3·width·height bytes each, as [`Image::rgb`] has them.
    pub rgb: Bytes,
    /// Width and height of every image.
    pub sizes: Vec<(usize, usize)>,
    /// Of each view, for every image.
    pub params: Vec<Vec<ViewParams>>,
}

/// What a task learns from, for every image of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    /// Its class.
    Classes(Vec<usize>),
    /// The class of each of its pixels, row by row, all images of one size;
    /// [`NO_CLASS`](super::annotated::NO_CLASS) for none.
    Labels(Vec<u8>),
    /// Its objects.
    Objects(Vec<ImageTargets>),
}

/// The images of one step. `V` is where their views are: with the loader [`Images`], in a step
/// tensors.
#[derive(Debug)]
pub struct Batch<V> {
    /// Step they belong to.
    pub step: u64,
    /// Epoch they belong to, from 0.
    pub epoch: u64,
    /// Index of every image; where one could not be read, that of its substitute.
    pub indices: Vec<usize>,
    /// What is learnt from, where [`LoaderOptions::labels`] asks for it.
    pub targets: Option<Targets>,
    /// The views.
    pub views: V,
    /// How long [`TrainLoader::next`] waited for it.
    pub wait_ms: f64,
}

impl<V> Batch<V> {
    /// The same batch with its views somewhere else.
    pub fn try_map<W>(self, bring: impl FnOnce(V) -> Result<W>) -> Result<Batch<W>> {
        let Self { step, epoch, indices, targets, views, wait_ms } = self;
        Ok(Batch { step, epoch, indices, targets, views: bring(views)?, wait_ms })
    }
}

/// Delivers batches, step after step, without end.
///
/// Image `i` of step `s` is a function of the seed, `s` and `i`, whatever the number of
/// workers. Every epoch has an order of its own and drops the last images that fill no batch.
/// A data set smaller than a batch is gone through again, in the same order, until the batch is
/// full; its images then appear more than once, with different views.
///
/// Memory is bounded: two batches are ready or in the making, and one is in use. Decoded
/// images take 3 bytes a pixel, 150 MB for 256 of ImageNet, and in the making twice that;
/// [`Limits`](super::Limits) say how much at most.
/// Dropping the loader stops its threads.
pub struct TrainLoader {
    pipeline: Pipeline<Batch<Images>>,
    reader: Arc<Reader>,
    steps_per_epoch: usize,
}

/// Steps of an epoch over so many images, at least 1.
pub fn steps_per_epoch(images: usize, batch: usize) -> usize {
    (images / batch).max(1)
}

impl TrainLoader {
    /// Starts its threads. Errors: settings out of range, labels that are wanted and not there,
    /// threads that cannot be started.
    pub fn new(dataset: Arc<Dataset>, options: LoaderOptions) -> Result<Self> {
        if options.batch == 0 || options.resolution == 0 {
            return Err(Error::usage(format!(
                "batch and resolution must be at least 1, found {} and {}",
                options.batch, options.resolution
            )));
        }
        if options.views.is_empty() {
            return Err(Error::usage("a loader without views: expected at least 1"));
        }
        for views in &options.views {
            views.check()?;
            if views.mean.len() != options.channels() {
                return Err(Error::usage("views of one image have the same channels"));
            }
        }
        if options.labels {
            expect_labels(&dataset)?;
        }
        let steps_per_epoch = steps_per_epoch(dataset.len(), options.batch);
        let start = options.start_step;
        let workers = options.workers;
        let maker = Maker::new(dataset, options, steps_per_epoch);
        let reader = maker.reader.clone();
        let pipeline = Pipeline::start(workers, start, move |step, stop| maker.make(step, stop))?;
        Ok(Self { pipeline, reader, steps_per_epoch })
    }

    /// The next step's batch. Errors ([`Kind::Data`](crate::Kind::Data)): more unreadable
    /// images than are allowed; after an error there are no more batches.
    #[allow(clippy::should_implement_trait)] // It has no end, so it is no iterator.
    pub fn next(&mut self) -> Result<Batch<Images>> {
        let began = Instant::now();
        let ended = || Error::data("the loader has stopped after an error");
        let mut batch = self.pipeline.next().unwrap_or_else(|| Err(ended()))?;
        batch.wait_ms = began.elapsed().as_secs_f64() * 1e3;
        Ok(batch)
    }

    /// A line for each image that was replaced since the last call.
    pub fn replaced(&self) -> Vec<String> {
        self.reader.replaced()
    }

    /// Steps of an epoch, at least 1.
    pub fn steps_per_epoch(&self) -> usize {
        self.steps_per_epoch
    }
}

/// Errors: an image without a class.
fn expect_labels(dataset: &Dataset) -> Result<()> {
    match (0..dataset.len()).find(|&i| dataset.label(i).is_none()) {
        None => Ok(()),
        Some(i) => Err(Error::data(format!(
            "{}: expected a class for every image, found none for {}; put images into a folder for \
             each class",
            printable(dataset.title()),
            dataset.describe(i)
        ))),
    }
}

/// Makes batches; shared by the loader's threads.
struct Maker {
    dataset: Arc<Dataset>,
    reader: Arc<Reader>,
    options: LoaderOptions,
    normalise: Vec<Normalise>,
    steps_per_epoch: usize,
    orders: Orders,
    pixels: Buffers<f32>,
    bytes: Buffers<u8>,
}

/// An image of a batch, whatever is done with it then.
struct Sample<I = Loaded<AnyImage>> {
    /// Index of what was read.
    index: usize,
    image: I,
    /// Of each view.
    params: Vec<ViewParams>,
}

/// The indices of what was read, and what became of it; `None` where nobody waits for it.
type Made = Result<Option<(Vec<usize>, Images)>>;

impl Maker {
    fn new(dataset: Arc<Dataset>, options: LoaderOptions, steps_per_epoch: usize) -> Self {
        let policy = CorruptPolicy {
            on_corrupt: options.on_corrupt,
            leave_out: false,
            max_corrupt: options.max_corrupt,
            seed: options.seed,
        };
        Self {
            normalise: options.views.iter().map(Views::normalise).collect(),
            orders: Orders::new(dataset.len(), options.seed),
            pixels: Buffers::default(),
            bytes: Buffers::default(),
            reader: Arc::new(Reader::new(dataset.clone(), options.channels(), policy)),
            dataset,
            options,
            steps_per_epoch,
        }
    }

    fn make(&self, step: u64, stop: &Stop) -> Option<Result<Batch<Images>>> {
        let batch = self.options.batch;
        let epoch = step / self.steps_per_epoch as u64;
        let order = self.orders.of(epoch);
        let first = (step % self.steps_per_epoch as u64) as usize * batch;
        let image = |i: usize| {
            if stop.is_set() {
                return Ok(None);
            }
            let index = order[(first + i) % order.len()] as usize;
            self.image(index, step * batch as u64 + i as u64).map(Some)
        };
        let made = match self.options.deliver {
            Deliver::Views => self.views(image),
            Deliver::Decoded => self.decoded(image),
        };
        let batch = |(indices, views): (Vec<usize>, Images)| {
            let targets = self.options.labels.then(|| self.classes(&indices));
            Batch { step, epoch, indices, targets, views, wait_ms: 0.0 }
        };
        made.transpose().map(|made| made.map(batch))
    }

    /// The classes of images, all of which have one ([`expect_labels`]).
    fn classes(&self, indices: &[usize]) -> Targets {
        Targets::Classes(indices.iter().filter_map(|&i| self.dataset.label(i)).collect())
    }

    /// The image at `position` of the run, and its views.
    fn image(&self, index: usize, position: u64) -> Result<Sample> {
        let (index, image) = self.reader.load(index)?;
        let LoaderOptions { views, seed, .. } = &self.options;
        let (width, height) = image.size();
        let draw = |(v, view): (usize, &Views)| view.draw(*seed, position, v as u16, width, height);
        let params = views.iter().enumerate().map(draw).collect();
        Ok(Sample { index, image, params })
    }

    /// Renders the views of `batch` images.
    fn views(&self, image: impl Fn(usize) -> Result<Option<Sample>> + Send + Sync) -> Made {
        let LoaderOptions { batch, resolution, .. } = self.options;
        let elems = resolution * resolution * self.options.channels();
        let mut views: Vec<Pixels> =
            self.normalise.iter().map(|_| self.pixels.take(batch * elems)).collect();
        // Of each image, where each of its views goes.
        let mut places: Vec<Vec<&mut [f32]>> = (0..batch).map(|_| Vec::new()).collect();
        for view in &mut views {
            let images = view.chunks_exact_mut(elems);
            places.iter_mut().zip(images).for_each(|(places, image)| places.push(image));
        }
        let render_all = |p: Sample, places: Vec<&mut [f32]>| {
            with_scratch(|scratch| {
                for ((params, normalise), out) in p.params.iter().zip(&self.normalise).zip(places) {
                    p.image.view(params, normalise, resolution, scratch, out);
                }
            });
            p.index
        };
        let indices: Vec<Option<usize>> = places
            .into_par_iter()
            .enumerate()
            .with_max_len(1)
            .map(|(i, places)| Ok(image(i)?.map(|p| render_all(p, places))))
            .collect::<Result<_>>()?;
        let indices: Option<Vec<usize>> = indices.into_iter().collect();
        Ok(indices.map(|indices| (indices, Images::Views(views))))
    }

    /// Lays `batch` images out in one piece of memory.
    fn decoded(&self, image: impl Fn(usize) -> Result<Option<Sample>> + Send + Sync) -> Made {
        let held = AtomicU64::new(0);
        let kept = |i: usize| {
            let Some(Sample { index, image, params }) = image(i)? else { return Ok(None) };
            // From here on it counts as part of the batch.
            let (AnyImage::Rgb(image), _) = image.into_parts() else {
                return Err(Error::usage("only RGB images are handed over as they are decoded"));
            };
            let bytes = image.bytes();
            self.expect_room(held.fetch_add(bytes, Ordering::Relaxed) + bytes)?;
            Ok(Some(Sample { index, image, params }))
        };
        let all = (0..self.options.batch).into_par_iter().with_max_len(1).map(kept);
        let all: Vec<Option<Sample<Image>>> = all.collect::<Result<_>>()?;
        let Some(all) = all.into_iter().collect::<Option<Vec<Sample<Image>>>>() else {
            return Ok(None);
        };
        let mut rgb = self.bytes.take(all.iter().map(|p| p.image.rgb.len()).sum());
        let (mut rest, mut places) = (&mut rgb[..], Vec::with_capacity(all.len()));
        for p in &all {
            let (place, after) = rest.split_at_mut(p.image.rgb.len());
            places.push(place);
            rest = after;
        }
        places.into_par_iter().zip(&all).for_each(|(to, p)| to.copy_from_slice(&p.image.rgb));
        let indices = all.iter().map(|p| p.index).collect();
        let sizes = all.iter().map(|p| (p.image.width, p.image.height)).collect();
        let mut params: Vec<Vec<ViewParams>> = self.normalise.iter().map(|_| Vec::new()).collect();
        for p in all {
            params.iter_mut().zip(p.params).for_each(|(of_view, params)| of_view.push(params));
        }
        Ok(Some((indices, Images::Decoded(Decoded { rgb, sizes, params }))))
    }
}

impl Maker {
    /// Errors: more than the decoded images of a batch may take.
    fn expect_room(&self, bytes: u64) -> Result<()> {
        let most = self.reader.limits().batch_bytes;
        if bytes <= most {
            return Ok(());
        }
        Err(Error::data(format!(
            "expected the {} decoded images of a batch to take at most {most} bytes, found more: \
             make them smaller (`engine data pack --max-side`), take a smaller batch, or set \
             {BATCH_BYTES} higher",
            self.options.batch
        )))
    }
}

/// The order of each epoch's images. The last two are kept: two steps are made at a time.
pub(crate) struct Orders {
    len: usize,
    seed: u64,
    recent: Mutex<Vec<(u64, Arc<Vec<u32>>)>>,
}

impl Orders {
    pub(crate) fn new(len: usize, seed: u64) -> Self {
        Self { len, seed, recent: Mutex::new(Vec::new()) }
    }

    pub(crate) fn of(&self, epoch: u64) -> Arc<Vec<u32>> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, order)) = recent.iter().find(|(e, _)| *e == epoch) {
            return order.clone();
        }
        let mut order: Vec<u32> = (0..self.len as u32).collect();
        Philox::new(self.seed, Purpose::Shuffle, epoch, 0).shuffle(&mut order);
        let order = Arc::new(order);
        if recent.len() == 2 {
            recent.remove(0);
        }
        recent.push((epoch, order.clone()));
        order
    }
}

/// Memory of batches, handed out and taken back.
pub(super) struct Buffers<T> {
    home: Sender<Vec<T>>,
    returned: Mutex<Receiver<Vec<T>>>,
}

impl<T> Default for Buffers<T> {
    fn default() -> Self {
        let (home, returned) = channel();
        Self { home, returned: Mutex::new(returned) }
    }
}

impl<T: Clone + Default> Buffers<T> {
    /// `len` values: of a batch that came back, with what was in there, or new ones.
    pub(super) fn take(&self, len: usize) -> Recycled<T> {
        let returned = self.returned.lock().unwrap_or_else(PoisonError::into_inner).try_recv();
        let mut values = returned.unwrap_or_default();
        values.resize(len, T::default());
        Recycled::new(values, self.home.clone())
    }
}
