//! The objective of detection: the losses of the region proposal net and of the heads, all with
//! weight 1, as detectron2 defines them.

use std::ops::Range;

use super::detector;
use super::grid::Grid;
use crate::config::{Config, Task};
use crate::cx::Cx;
use crate::data::annotated::ImageTargets;
use crate::data::{Batch, Targets};
use crate::error::{Error, Result};
use crate::finetune::learner::{Learner, download};
use crate::geometry::AnchorSample;
use crate::nn::dense::DetNet;
use crate::nn::{BnMode, Params, RunningStats, Supernet};
use crate::ops::index_select;
use crate::ssl::{Outlook, Sign};
use crate::tape::Tape;
use crate::tensor::{Meta, Shape};
use crate::train::checkpoint::Checkpoint;
use crate::train::dump::Dump;
use crate::train::objective::{At, Dense, Saved, StepBatch, micro_batches};
use crate::train::{Objective, Report, Setup};

/// Detection of objects.
pub struct Detect {
    pub(super) net: DetNet,
    pub(super) learner: Learner,
    pub(super) config: Config,
    pub(super) grid: Grid,
}

impl Detect {
    /// As an [`Objective`] of the settings, with a feature pyramid.
    pub fn make_fpn(cx: &Cx, setup: &Setup) -> Result<Box<dyn Objective>> {
        Ok(Box::new(Self::new(cx, setup, Task::DetFpn)?))
    }

    /// The same on C4.
    pub fn make_c4(cx: &Cx, setup: &Setup) -> Result<Box<dyn Objective>> {
        Ok(Box::new(Self::new(cx, setup, Task::DetC4)?))
    }

    /// Freshly initialised.
    ///
    /// # Errors
    /// Settings that do not fit the space.
    pub fn new(cx: &Cx, setup: &Setup, task: Task) -> Result<Self> {
        let (config, classes) = (setup.config, setup.expect_classes()?);
        if config.train.bn_group != 0 {
            return Err(Error::usage(format!(
                "train.bn_group = {}: expected 0 with --task {task}, whose heads normalise regions, not \
                 images",
                config.train.bn_group
            )));
        }
        let net = DetNet::new(setup.space, detector(config, task, classes))?;
        let learner = Learner::of_dense(cx, net.net(), config)?;
        let grid = Grid::of(&net);
        Ok(Self { net, learner, config: config.clone(), grid })
    }
}

/// What is learnt of a batch.
fn of(batch: &StepBatch) -> Result<&[ImageTargets]> {
    match &batch.targets {
        Some(Targets::Objects(targets)) => Ok(targets),
        _ => Err(Error::usage("detection needs batches with objects")),
    }
}

impl Objective for Detect {
    fn labels(&self) -> bool {
        true
    }

    fn blank_batch(&self, cx: &Cx, n: usize) -> Result<StepBatch> {
        let det = &self.config.det;
        let longest = det.long.max(det.short_max);
        let [h, w] = self.grid.padded([det.short_max, longest]);
        let anchor = |index: usize| AnchorSample { level: 0, index, deltas: Some([0.0; 4]) };
        let targets = ImageTargets {
            size: [h, w],
            anchors: (0..det.rpn_batch).map(anchor).collect(),
            ..ImageTargets::default()
        };
        let shape = Shape::nhwc(n, h, w, self.net.net().space().channels());
        Ok(Batch {
            step: 0,
            epoch: 0,
            indices: (0..n).collect(),
            targets: Some(Targets::Objects(vec![targets; n])),
            views: vec![cx.alloc(Meta::new(shape, cx.dtype()))?],
            wait_ms: 0.0,
        })
    }

    fn net(&self) -> &Supernet {
        self.net.net()
    }

    fn params(&self) -> &Params {
        &self.learner.params
    }

    fn start_from(&mut self, cx: &Cx, params: Params) -> Result<()> {
        self.learner.start_from(cx, params)
    }

    fn state_elems(&self) -> usize {
        self.learner.state_elems()
    }

    fn warm_up_images(&self) -> usize {
        self.learner.warm_up_images()
    }

    /// Takes the statistics that a frozen backbone is normalised with.
    fn warm_up(&mut self, cx: &Cx, next: &mut dyn FnMut() -> Result<StepBatch>) -> Result<()> {
        let net = &self.net;
        self.learner
            .warm_up(cx, next, |tape, params, x, norm| net.whole_body(tape, params, x, norm))
    }

    fn step(
        &mut self,
        cx: &Cx,
        at: &At,
        batch: StepBatch,
        dump: Option<&mut Dump>,
        meanwhile: &mut dyn FnMut(),
    ) -> Result<Report> {
        let mut report = Report { archs: vec![*self.net.arch()], ..Report::default() };
        report.record(cx, "")?;
        let (images, targets) = (&batch.views[0], of(&batch)?);
        let n = targets.len();
        let (mut losses, mut regions, mut positives) = (Vec::new(), Vec::new(), 0);
        for Range { start, end } in micro_batches(n, self.learner.accum) {
            let some = index_select::range(cx, images, &(start..end))?;
            let mut tape = Tape::recording(cx);
            let mut norm = BnMode::Batch { group: self.learner.bn_group };
            let params = &self.learner.params;
            let part = self.part(&mut tape, params, &some, &targets[start..end], n, &mut norm)?;
            let sum = part.sum(&mut tape)?;
            losses.extend(part.losses.iter().map(|(name, loss)| (*name, loss.value().clone())));
            positives += part.positives;
            regions.extend(part.regions.into_iter().map(|mut region| {
                region.place[0] += start;
                region
            }));
            self.learner.backward(tape, sum, 1.0)?;
        }
        report.record(cx, "net")?;
        meanwhile();
        report.losses = download(cx, &losses)?;
        report.loss = report.losses.iter().map(|(_, loss)| loss).sum();
        if let Some(dump) = dump {
            self.dump(cx, images, targets, &regions, &report.losses, dump)?;
        }
        let find = |params: &Params| {
            let mut tape = Tape::recording(cx).checking();
            let mut norm = BnMode::Batch { group: self.learner.bn_group };
            self.part(&mut tape, params, images, targets, n, &mut norm).map(drop)
        };
        report.grad_norm = self.learner.expect_finite(cx, at.step, &report.losses, find)?;
        self.learner.update(cx, at)?;
        let objects = regions.iter().filter(|region| region.object.is_some()).count();
        let [_, h, w, _] = images.shape().0;
        let used: usize = targets.iter().map(|t| t.size[0] * t.size[1]).sum();
        let sign = |name, value| Sign { name, value, warning: None };
        report.signs = vec![
            sign("fg_rois", objects as f64),
            sign("pos_anchors", positives as f64),
            sign("padding", 1.0 - used as f64 / (n * h * w) as f64),
        ];
        report.record(cx, "optimizer")?;
        Ok(report)
    }

    fn rehearse(&mut self, cx: &Cx, batch: StepBatch) -> Result<()> {
        self.step(cx, &At { step: 0, steps: 1, lr: 0.0 }, batch, None, &mut || {}).map(drop)
    }

    fn nets(&self) -> usize {
        1
    }

    /// Every anchor and region says that it cannot tell.
    fn outlook(&self, _images: usize) -> Outlook {
        let guess = 2f64.ln();
        let masks = if self.net.mask_side().is_some() { guess } else { 0.0 };
        let even_loss = guess + ((self.net.detector().classes + 1) as f64).ln() + masks;
        Outlook { even_loss, even: "guessing", lines: Vec::new() }
    }

    fn dense(&self) -> Option<&dyn Dense> {
        Some(self)
    }

    fn state(&self, cx: &Cx) -> Result<Saved> {
        self.learner.state(cx, self.net.net())
    }

    fn restore(&mut self, cx: &Cx, checkpoint: &Checkpoint) -> Result<()> {
        self.learner.restore(cx, self.net.net(), checkpoint)
    }
}

impl Dense for Detect {
    fn calibrate(&self, cx: &Cx, batch: StepBatch, norm: &mut BnMode) -> Result<()> {
        let targets = of(&batch)?;
        let mut tape = Tape::inference(cx);
        let all = targets.len();
        let params = &self.learner.params;
        self.part(&mut tape, params, &batch.views[0], targets, all, norm).map(drop)
    }

    fn frozen(&self) -> Option<&RunningStats> {
        self.learner.frozen()
    }
}
