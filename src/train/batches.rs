//! The batches of training steps: what the loader prepares, brought to where the nets compute.

use std::sync::Arc;

use super::objective::StepBatch;
use crate::cx::{Cx, PendingCopy, StagingRoom};
use crate::data::{
    Batch, Dataset, Decoded, Deliver, Images, LoaderOptions, Normalise, Pixels, RgbImages,
    TrainLoader, ViewFormat, ViewParams, Views,
};
use crate::error::Result;
use crate::tensor::{Shape, Tensor};

/// Where the batches of a run come from, one after the other.
pub trait Feed {
    /// Steps of an epoch, at least 1.
    fn steps_per_epoch(&self) -> usize;
    /// The next step's batch, where the nets compute.
    ///
    /// # Errors
    /// [`crate::Kind::Data`]: more unreadable images than are allowed; those of the device.
    fn next(&mut self, cx: &Cx) -> Result<StepBatch>;
    /// Starts to bring the next batch to the device, where that can be done ahead: best called when
    /// the device has work to do. What goes wrong is reported by [`Feed::next`].
    fn prefetch(&mut self, cx: &Cx);
    /// A line for each image that was replaced since the last call.
    fn replaced(&self) -> Vec<String>;
    /// Bytes of device memory for decoded images.
    fn room_bytes(&self) -> usize;
}

/// The batches of views of images. The same views on every device, and in f32 the
/// same bits.
///
/// On the CPU, and of images that are not RGB, the loader's threads render the views. For a device they decode alone; the
/// images are copied there while the step before computes, and a kernel makes each view.
///
/// Beside the views this takes device memory for the decoded images of one batch: an eighth
/// more than the largest so far needed when it came, so that it seldom grows (256 of ImageNet:
/// 150 MB, hence 170). There is no second piece, as a batch is in use only until its views are
/// made, at the start of its step; the next one lands where it lay while the step computes.
/// Images travel whole, 3 bytes a pixel: large photographs are better packed smaller first.
pub struct Batches {
    loader: TrainLoader,
    side: usize,
    channels: usize,
    /// Of each view.
    normalise: Vec<Normalise>,
    /// Where the next batch lands.
    room: StagingRoom,
    /// What was taken ahead, or why it could not be.
    ahead: Option<Result<Batch<Pending>>>,
}

/// Views that are not where the nets compute yet.
enum Pending {
    /// They are in host memory.
    Rendered(Vec<Pixels>),
    /// They are to be made of images of these sizes, which are on their way to the device.
    Copied { rgb: PendingCopy, sizes: Vec<(usize, usize)>, params: Vec<Vec<ViewParams>> },
}

impl Batches {
    /// Starts a loader that delivers what `cx` needs, whatever `options.deliver` says. Errors as
    /// those of [`TrainLoader::new`].
    pub fn new(cx: &Cx, dataset: Arc<Dataset>, options: LoaderOptions) -> Result<Self> {
        // The kernel makes views of RGB images alone.
        let channels = options.channels();
        let kernel = cx.is_device() && channels == 3;
        let deliver = if kernel { Deliver::Decoded } else { Deliver::Views };
        let side = options.resolution;
        let normalise = options.views.iter().map(Views::normalise).collect();
        let loader = TrainLoader::new(dataset, LoaderOptions { deliver, ..options })?;
        Ok(Self { loader, side, channels, normalise, room: StagingRoom::default(), ahead: None })
    }

    fn upload(&self, cx: &Cx, views: &[Pixels]) -> Result<Vec<Tensor>> {
        let (side, channels) = (self.side, self.channels);
        let one = |v: &Pixels| {
            let images = v.len() / (side * side * channels);
            let shape = Shape::nhwc(images, side, side, channels);
            cx.upload(shape, cx.dtype(), v)
        };
        views.iter().map(one).collect()
    }

    fn render(
        &self,
        cx: &Cx,
        images: &RgbImages,
        params: &[Vec<ViewParams>],
    ) -> Result<Vec<Tensor>> {
        let one = |(params, normalise): (&Vec<ViewParams>, &Normalise)| {
            let (side, dtype, normalise) = (self.side, cx.dtype(), normalise.clone());
            images.views(cx, params, &ViewFormat { side, channels: 3, dtype, normalise })
        };
        params.iter().zip(&self.normalise).map(one).collect()
    }

    /// Takes the loader's next batch, and sends it on its way.
    fn start(&mut self, cx: &Cx) -> Result<Batch<Pending>> {
        self.loader.next()?.try_map(|images| match images {
            Images::Views(views) => Ok(Pending::Rendered(views)),
            Images::Decoded(Decoded { rgb, sizes, params }) => {
                Ok(Pending::Copied { rgb: self.room.upload(cx, &rgb)?, sizes, params })
            }
        })
    }
}

impl Feed for Batches {
    fn steps_per_epoch(&self) -> usize {
        self.loader.steps_per_epoch()
    }

    /// Each view N×R×R×C, normalised.
    fn next(&mut self, cx: &Cx) -> Result<StepBatch> {
        let batch = match self.ahead.take() {
            Some(ahead) => ahead?,
            None => self.start(cx)?,
        };
        batch.try_map(|pending| match pending {
            Pending::Rendered(views) => self.upload(cx, &views),
            Pending::Copied { rgb, sizes, params } => {
                let images = RgbImages::on_device(&sizes, rgb.arrive()?)?;
                let views = self.render(cx, &images, &params);
                drop(images);
                self.room.take(cx)?;
                views
            }
        })
    }

    /// On the CPU the loader alone works ahead.
    fn prefetch(&mut self, cx: &Cx) {
        if cx.is_device() && self.ahead.is_none() {
            self.ahead = Some(self.start(cx));
        }
    }

    fn replaced(&self) -> Vec<String> {
        self.loader.replaced()
    }

    /// 0 before the first batch, and on the CPU.
    fn room_bytes(&self) -> usize {
        self.room.bytes()
    }
}
