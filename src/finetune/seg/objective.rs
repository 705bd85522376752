//! The objective of segmentation: cross-entropy of the pixels' classes, of the head's scores and,
//! with its weight, of the auxiliary head's.

use crate::config::{Config, LossMean};
use crate::cx::Cx;
use crate::data::annotated::NO_CLASS;
use crate::data::{Batch, Targets};
use crate::error::{Error, Result};
use crate::finetune::learner::{Learner, download};
use crate::nn::dense::{Dropout, Fcn, SegNet};
use crate::nn::{BnMode, Params, RunningStats, Supernet};
use crate::ops::add::Add;
use crate::ops::index_select;
use crate::ops::seg_loss::SegLoss;
use crate::ssl::Outlook;
use crate::tape::{Tape, Var};
use crate::tensor::{Meta, Shape, Tensor};
use crate::train::checkpoint::Checkpoint;
use crate::train::dump::Dump;
use crate::train::objective::{At, Dense, Saved, StepBatch, micro_batches};
use crate::train::{Objective, Report, Setup};

/// Segmentation of images.
pub struct Segment {
    net: SegNet,
    learner: Learner,
    config: Config,
}

/// Labels of a batch, where the nets compute, and the weight of each pixel's loss.
struct Labels {
    of_pixels: Tensor,
    weight: f64,
}

impl Segment {
    /// As an [`Objective`] of the settings.
    pub fn make(cx: &Cx, setup: &Setup) -> Result<Box<dyn Objective>> {
        Ok(Box::new(Self::new(cx, setup)?))
    }

    /// Freshly initialised.
    ///
    /// # Errors
    /// Settings that do not fit the space, as an output stride.
    pub fn new(cx: &Cx, setup: &Setup) -> Result<Self> {
        let (config, classes) = (setup.config, setup.expect_classes()?);
        let seg = &config.seg;
        let fcn = Fcn { classes, channels: seg.channels, aux: seg.aux_weight > 0.0 };
        let net = SegNet::new(setup.space, fcn, seg.output_stride)
            .map_err(|e| e.context("seg.output_stride"))?;
        let learner = Learner::of_dense(cx, net.net(), config)?;
        Ok(Self { net, learner, config: config.clone() })
    }

    /// The losses by name, and their sum. `at` is the place of the first image in the run.
    fn losses(
        &self,
        tape: &mut Tape,
        params: &Params,
        images: &Tensor,
        labels: &Labels,
        at: u64,
    ) -> Result<(Vec<(&'static str, Tensor)>, Var)> {
        let seg = &self.config.seg;
        let dropout = Dropout { p: seg.dropout, seed: self.config.seed, at };
        let x = tape.constant(images.clone());
        let mut norm = BnMode::Batch { group: self.learner.bn_group };
        let frozen = self.learner.frozen();
        let scores = self.net.forward(tape, params, x, &mut norm, frozen, Some(dropout))?;
        let of_pixels = tape.constant(labels.of_pixels.clone());
        let mut loss = |scores: &Var, weight: f64| {
            let op = SegLoss { align_corners: seg.align_corners, weight: weight * labels.weight };
            tape.apply(op, &[scores, &of_pixels])
        };
        let main = loss(&scores.main, 1.0)?;
        let mut named = vec![("seg", main.value().clone())];
        let Some(aux) = &scores.aux else { return Ok((named, main)) };
        let aux = loss(aux, seg.aux_weight)?;
        named.push(("aux", aux.value().clone()));
        let sum = tape.apply(Add, &[&main, &aux])?;
        Ok((named, sum))
    }

    /// Labels of some images of a batch.
    fn labels(&self, cx: &Cx, batch: &StepBatch, rows: std::ops::Range<usize>) -> Result<Labels> {
        let Some(Targets::Labels(all)) = &batch.targets else {
            return Err(Error::usage("segmentation needs batches with labels of pixels"));
        };
        let [n, h, w, _] = batch.views[0].shape().0;
        let pixels = h * w;
        let counted = match self.config.seg.loss_mean {
            LossMean::All => n * pixels,
            LossMean::Valid => all.iter().filter(|label| **label != NO_CLASS).count().max(1),
        };
        let values: Vec<i32> = all[rows.start * pixels..rows.end * pixels]
            .iter()
            .map(|&label| if label == NO_CLASS { -1 } else { i32::from(label) })
            .collect();
        let of_pixels = cx.upload_i32(Shape::nhwc(rows.len(), h, w, 1), &values)?;
        Ok(Labels { of_pixels, weight: 1.0 / counted as f64 })
    }
}

impl Objective for Segment {
    fn labels(&self) -> bool {
        true
    }

    fn blank_batch(&self, cx: &Cx, n: usize) -> Result<StepBatch> {
        let (side, channels) = (self.config.seg.crop, self.net.net().space().channels());
        let shape = Shape::nhwc(n, side, side, channels);
        Ok(Batch {
            step: 0,
            epoch: 0,
            indices: (0..n).collect(),
            targets: Some(Targets::Labels(vec![0; n * side * side])),
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
            .warm_up(cx, next, |tape, params, x, norm| net.body(tape, params, x, norm).map(drop))
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
        let images = &batch.views[0];
        let n = images.shape().n();
        let place = |first: usize| at.step * n as u64 + first as u64;
        let mut losses = Vec::new();
        for rows in micro_batches(n, self.learner.accum) {
            let labels = self.labels(cx, &batch, rows.clone())?;
            let part = index_select::range(cx, images, &rows)?;
            let mut tape = Tape::recording(cx);
            let params = &self.learner.params;
            let (named, sum) = self.losses(&mut tape, params, &part, &labels, place(rows.start))?;
            losses.extend(named);
            self.learner.backward(tape, sum, 1.0)?;
        }
        report.record(cx, "net")?;
        meanwhile();
        report.losses = download(cx, &losses)?;
        report.loss = report.losses.iter().map(|(_, loss)| loss).sum();
        if let Some(dump) = dump {
            self.dump(cx, at, &batch, &report, dump)?;
        }
        let find = |params: &Params| {
            let labels = self.labels(cx, &batch, 0..n)?;
            let mut tape = Tape::recording(cx).checking();
            self.losses(&mut tape, params, images, &labels, place(0)).map(drop)
        };
        let found = self.learner.expect_finite(cx, at.step, &report.losses, find)?;
        report.grad_norm = found;
        self.learner.update(cx, at)?;
        report.record(cx, "optimizer")?;
        Ok(report)
    }

    fn rehearse(&mut self, cx: &Cx, batch: StepBatch) -> Result<()> {
        self.step(cx, &At { step: 0, steps: 1, lr: 0.0 }, batch, None, &mut || {}).map(drop)
    }

    fn nets(&self) -> usize {
        1
    }

    fn outlook(&self, _images: usize) -> Outlook {
        let weights = 1.0 + self.config.seg.aux_weight;
        let even_loss = weights * (self.net.fcn().classes as f64).ln();
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

impl Dense for Segment {
    fn calibrate(&self, cx: &Cx, mut batch: StepBatch, norm: &mut BnMode) -> Result<()> {
        let mut tape = Tape::inference(cx);
        let x = tape.constant(batch.views.swap_remove(0));
        let none = Dropout { p: 0.0, seed: 0, at: 0 };
        let frozen = self.learner.frozen();
        self.net.forward(&mut tape, &self.learner.params, x, norm, frozen, Some(none)).map(drop)
    }

    fn frozen(&self) -> Option<&RunningStats> {
        self.learner.frozen()
    }
}

impl Segment {
    /// Keeps what went into a step and came out of it, for a replay elsewhere.
    fn dump(
        &self,
        cx: &Cx,
        at: &At,
        batch: &StepBatch,
        report: &Report,
        dump: &mut Dump,
    ) -> Result<()> {
        let images = &batch.views[0];
        let [n, h, w, _] = images.shape().0;
        dump.images(cx, "x", images)?;
        if let Some(Targets::Labels(labels)) = &batch.targets {
            let values = labels.iter().map(|label| f32::from(*label)).collect();
            dump.values("labels", vec![n, h, w], values);
        }
        let seg = &self.config.seg;
        if seg.dropout > 0.0 {
            for (which, channels) in [(0, seg.channels), (1, seg.channels / 2)] {
                for rows in micro_batches(n, self.learner.accum) {
                    let dropout = Dropout {
                        p: seg.dropout,
                        seed: self.config.seed,
                        at: at.step * n as u64 + rows.start as u64,
                    };
                    let mask = dropout.mask(which, rows.len(), channels);
                    let name = format!("dropout.{which}.{}", rows.start);
                    dump.values(&name, vec![rows.len(), channels], mask);
                }
            }
        }
        self.learner.dump(cx, self.net.net(), &report.losses, dump)?;
        for (key, value) in [
            ("task", "seg".to_owned()),
            ("align_corners", seg.align_corners.to_string()),
            ("loss_mean", seg.loss_mean.to_string()),
            ("aux_weight", seg.aux_weight.to_string()),
            ("output_stride", seg.output_stride.to_string()),
            ("classes", self.net.fcn().classes.to_string()),
        ] {
            dump.note(key, value);
        }
        Ok(())
    }
}
