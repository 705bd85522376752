//! The views of each training step: what the loader prepares, brought to where the nets compute.

use std::sync::Arc;

use crate::data::{
    Contents, Dataset, Decoded, Deliver, LoaderOptions, Normalise, Pictures, Pixels, TrainLoader,
    ViewFormat, ViewParams,
};
use crate::device::{Arriving, Cx, Landing};
use crate::error::Result;
use crate::ops::gather;
use crate::tensor::{Shape, Tensor};

/// Feeds the steps of a run, one after the other. The same views on every device, and in f32
/// the same bits.
///
/// On the CPU the loader's threads render the views. For a device they decode alone; the
/// pictures are copied there while the step before computes, and two kernels make the views.
///
/// Beside the views this takes device memory for the decoded pictures of one batch: an eighth
/// more than the largest so far needed when it came, so that it seldom grows (256 of ImageNet:
/// 150 MB, hence 170). There is no second piece, as a batch is in use only until its views are
/// made, at the start of its step; the next one lands where it lay while the step computes.
/// Pictures travel whole, 3 bytes a pixel: large photographs are better packed smaller first.
pub struct Feed {
    loader: TrainLoader,
    side: usize,
    normalise: [Normalise; 2],
    /// Where the next batch lands, and how much fits.
    landing: Option<Landing>,
    room_bytes: usize,
    /// What was taken ahead, or why it could not be.
    ahead: Option<Result<Ahead>>,
}

/// What a step gets.
pub struct Fed {
    /// View 0 and view 1 of every picture, N×R×R×3, normalised.
    pub views: [Tensor; 2],
    /// How long the loader was waited for.
    pub wait_ms: f64,
}

impl Fed {
    /// The students' and the teacher's view: view 0 and view 1 or, `symmetric`, both after each
    /// other and in the other order, 2N×R×R×3, so that every view is once the student's and once
    /// the teacher's.
    pub fn pair(self, cx: &Cx, symmetric: bool) -> Result<[Tensor; 2]> {
        if !symmetric {
            return Ok(self.views);
        }
        let n = self.views[0].shape().n();
        let both: Vec<usize> = (0..2 * n).collect();
        let swapped: Vec<usize> = (n..2 * n).chain(0..n).collect();
        Ok([gather::rows_of(cx, &self.views, &both)?, gather::rows_of(cx, &self.views, &swapped)?])
    }
}

/// A batch before its views are there.
struct Ahead {
    wait_ms: f64,
    coming: Coming,
}

enum Coming {
    Views([Pixels; 2]),
    Pictures { rgb: Arriving, sizes: Vec<(usize, usize)>, params: [Vec<ViewParams>; 2] },
}

impl Feed {
    /// Starts a loader that delivers what `cx` needs, whatever `options.deliver` says. Errors as
    /// those of [`TrainLoader::new`].
    pub fn new(cx: &Cx, dataset: Arc<Dataset>, options: LoaderOptions) -> Result<Self> {
        let deliver = if cx.is_device() { Deliver::Pictures } else { Deliver::Views };
        let side = options.resolution;
        let normalise = [options.views[0].normalise(), options.views[1].normalise()];
        let loader = TrainLoader::new(dataset, LoaderOptions { deliver, ..options })?;
        Ok(Self { loader, side, normalise, landing: None, room_bytes: 0, ahead: None })
    }

    /// Steps of an epoch, at least 1.
    pub fn steps_per_epoch(&self) -> usize {
        self.loader.steps_per_epoch()
    }

    /// A line for each picture that was replaced since the last call.
    pub fn replaced(&self) -> Vec<String> {
        self.loader.replaced()
    }

    /// Bytes of device memory for decoded pictures: 0 before the first batch, and on the CPU.
    pub fn room_bytes(&self) -> usize {
        self.room_bytes
    }

    /// Starts the next batch's copy to the device, if it has not begun: best called when the
    /// device has work to do. On the CPU the loader alone works ahead. Whatever goes wrong is
    /// reported by the [`Feed::next`] of the step that it belongs to.
    pub fn prefetch(&mut self, cx: &Cx) {
        if cx.is_device() && self.ahead.is_none() {
            self.ahead = Some(self.start(cx));
        }
    }

    /// The next step's views. Errors: those of [`TrainLoader::next`], and of the device.
    #[allow(clippy::should_implement_trait)] // It has no end, so it is no iterator.
    pub fn next(&mut self, cx: &Cx) -> Result<Fed> {
        let Ahead { wait_ms, coming } = match self.ahead.take() {
            Some(ahead) => ahead?,
            None => self.start(cx)?,
        };
        let views = match coming {
            Coming::Views(views) => {
                let n = views[0].len() / (self.side * self.side * 3);
                let shape = Shape::nhwc(n, self.side, self.side, 3);
                let one = |v: &[f32]| cx.upload(shape, cx.dtype(), v);
                [one(&views[0])?, one(&views[1])?]
            }
            Coming::Pictures { rgb, sizes, params } => {
                let pictures = Pictures::on_device(&sizes, rgb.arrive()?)?;
                let [a, b] = [0, 1].map(|v| {
                    let (side, dtype, normalise) = (self.side, cx.dtype(), self.normalise[v]);
                    let format = ViewFormat { side, channels: 3, dtype, normalise };
                    pictures.views(cx, &params[v], &format)
                });
                drop(pictures);
                self.landing = Some(cx.landing(self.room_bytes)?);
                [a?, b?]
            }
        };
        Ok(Fed { views, wait_ms })
    }

    /// Takes the loader's next batch, and sends it on its way.
    fn start(&mut self, cx: &Cx) -> Result<Ahead> {
        let batch = self.loader.next()?;
        let coming = match batch.contents {
            Contents::Views(views) => Coming::Views(views),
            Contents::Pictures(Decoded { rgb, sizes, params }) => {
                let fits = |landing: &Landing| landing.capacity_bytes() >= rgb.len();
                let landing = match self.landing.take().filter(fits) {
                    Some(landing) => landing,
                    None => {
                        self.room_bytes = rgb.len() + rgb.len() / 8;
                        cx.landing(self.room_bytes)?
                    }
                };
                Coming::Pictures { rgb: landing.upload(&rgb)?, sizes, params }
            }
        };
        Ok(Ahead { wait_ms: batch.wait_ms, coming })
    }
}
