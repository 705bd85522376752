//! What a run drives: something that learns, step by step, and keeps its state in checkpoints.

use std::collections::BTreeMap;
use std::ops::Range;

use super::checkpoint::{Checkpoint, Contents};
use super::dump::Dump;
use super::health::Scatter;
use crate::config::Config;
use crate::cx::Cx;
use crate::data::{Batch, Views};
use crate::device::Event;
use crate::error::{Error, Result};
use crate::nn::{BnMode, Params, RunningStats, Supernet};
use crate::space::{Arch, Space};
use crate::ssl::{Begin, Outlook, Sign};
use crate::tensor::Tensor;

/// A batch whose views, each [N, R, R, 3], lie where the nets compute.
pub type StepBatch = Batch<Vec<Tensor>>;

/// What an objective is made of.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    /// The settings.
    pub config: &'a Config,
    /// The search space.
    pub space: &'a Space,
    /// Classes of the data set; 0 without labels.
    pub classes: usize,
    /// What its state holds at first.
    pub begin: Begin,
}

impl Setup<'_> {
    /// The classes of the data set, for an objective that learns them.
    ///
    /// # Errors
    /// [`crate::Kind::Data`] without classes.
    pub fn expect_classes(&self) -> Result<usize> {
        match self.classes {
            0 => Err(Error::data(
                "expected a class for every image, found none; put images into a folder for each \
                 class",
            )),
            classes => Ok(classes),
        }
    }
}

/// Makes an objective.
pub type Make = dyn Fn(&Cx, &Setup) -> Result<Box<dyn Objective>>;

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct At {
    /// Index of the step, from 0.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Learning rate of the step.
    pub lr: f64,
}

/// Something that learns: pretraining ([`Pretrain`](super::Pretrain)) or a supervised task.
pub trait Objective {
    /// How the loader makes each view of an image; none of images that are annotated.
    fn views(&self) -> &[Views] {
        &[]
    }
    /// Whether it learns from labels.
    fn labels(&self) -> bool;
    /// A batch of `n` images without values, as large as any.
    ///
    /// # Errors
    /// Those of the device.
    fn blank_batch(&self, cx: &Cx, n: usize) -> Result<StepBatch>;
    /// The net that is trained.
    fn net(&self) -> &Supernet;
    /// Its weights.
    fn params(&self) -> &Params;
    /// Takes weights to start from, instead of fresh ones.
    fn start_from(&mut self, cx: &Cx, params: Params) -> Result<()>;
    /// Numbers that a checkpoint holds.
    fn state_elems(&self) -> usize;
    /// Images that [`Objective::warm_up`] wants to see.
    fn warm_up_images(&self) -> usize;
    /// Looks at images that training will not see before the first step of a new run.
    fn warm_up(&mut self, cx: &Cx, next: &mut dyn FnMut() -> Result<StepBatch>) -> Result<()>;
    /// One step. With `dump`, keeps what an outsider needs to replay it. On a device everything up
    /// to the gradients is queued without waiting; `meanwhile` is called while that is computed.
    ///
    /// # Errors
    /// [`crate::Kind::Diverged`] where a number is not finite, with its place.
    fn step(
        &mut self,
        cx: &Cx,
        at: &At,
        batch: StepBatch,
        dump: Option<&mut Dump>,
        meanwhile: &mut dyn FnMut(),
    ) -> Result<Report>;
    /// Runs the step that takes most memory, on a context that plans.
    fn rehearse(&mut self, cx: &Cx, batch: StepBatch) -> Result<()>;
    /// How many nets a step trains; the sum of the losses is shown divided by it.
    fn nets(&self) -> usize;
    /// What the log says of the loss of one net, on a data set of so many images.
    fn outlook(&self, images: usize) -> Outlook;
    /// The same as one whose net is tested with statistics of batch norms that [`Dense`] can take; none
    /// of others.
    fn dense(&self) -> Option<&dyn Dense> {
        None
    }
    /// All that a checkpoint keeps of it.
    fn state(&self, cx: &Cx) -> Result<Saved>;
    /// Takes up what [`Objective::state`] gave.
    ///
    /// # Errors
    /// [`crate::Kind::Data`] for a damaged or another net's checkpoint.
    fn restore(&mut self, cx: &Cx, checkpoint: &Checkpoint) -> Result<()>;
}

/// An objective on annotated images.
pub trait Dense: Objective {
    /// Adds what batch norms see in training, those of the backbone where they are not frozen.
    ///
    /// # Errors
    /// Those of the ops.
    fn calibrate(&self, cx: &Cx, batch: StepBatch, norm: &mut BnMode) -> Result<()>;
    /// Statistics of the backbone, where they stay as they are.
    fn frozen(&self) -> Option<&RunningStats>;
}

/// What a checkpoint keeps of an objective.
pub struct Saved {
    /// Files of tensors.
    pub contents: Contents,
    /// Places in them.
    pub pointers: BTreeMap<String, u64>,
}

/// What one step found.
#[derive(Default)]
pub struct Report {
    /// Sum of the losses.
    pub loss: f64,
    /// Each loss by its name; in pretraining those of the students.
    pub losses: Vec<(String, f64)>,
    /// The architectures that were trained.
    pub archs: Vec<Arch>,
    /// Norm of the summed gradient, before weight decay.
    pub grad_norm: f64,
    /// Moving-average momentum of the teacher, where there is one.
    pub ema: Option<f64>,
    /// How embeddings lie, where the objective has some.
    pub embeddings: Option<Embeddings>,
    /// What else tells whether it learns.
    pub signs: Vec<Sign>,
    /// The ends of its parts, by name; the first one is the beginning.
    pub events: Vec<(&'static str, Event)>,
}

/// How the embeddings of a batch lie.
#[derive(Clone, Copy, Debug, Default)]
pub struct Embeddings {
    /// The first student's.
    pub student: Scatter,
    /// The teacher's.
    pub teacher: Scatter,
}

impl Report {
    /// Milliseconds of the device's time that the parts of the step took, in order. Waits until
    /// the step is done.
    pub fn parts(&self, cx: &Cx) -> Result<Vec<(&'static str, f64)>> {
        let part = |pair: &[(&'static str, Event)]| {
            Ok((pair[1].0, cx.ms_between(&pair[0].1, &pair[1].1)?))
        };
        self.events.windows(2).map(part).collect()
    }

    /// Ends the part `name` here; the first call is where the step begins.
    pub fn record(&mut self, cx: &Cx, name: &'static str) -> Result<()> {
        self.events.push((name, cx.record_event()?));
        Ok(())
    }
}

/// Splits a batch into `accum` parts of nearly equal size.
pub fn micro_batches(n: usize, accum: usize) -> impl Iterator<Item = Range<usize>> {
    let parts = accum.clamp(1, n.max(1));
    (0..parts).map(move |i| i * n / parts..(i + 1) * n / parts)
}
