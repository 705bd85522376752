//! The objective of classification: one net at its true size with a linear classifier on its pooled
//! features, or several classifiers at once on a body that stays as it is.

use std::collections::HashSet;
use std::ops::Range;

use super::heads::{Head, factors, is_of};
use super::mixing::Mixing;
use crate::config::{Body, Config, TunedView};
use crate::cx::Cx;
use crate::data::{Targets, Views};
use crate::error::{Error, Result};
use crate::files::Named;
use crate::finetune::learner::Learner;
use crate::nn::{BnMode, CLASSIFIER, Feature, Params, RunningStats, Subnet, Supernet};
use crate::ops::index_select;
use crate::space::{Arch, STAGES};
use crate::ssl::Outlook;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;
use crate::train::checkpoint::Checkpoint;
use crate::train::dump::Dump;
use crate::train::objective::{At, Saved, StepBatch, micro_batches};
use crate::train::plan::blank_batch;
use crate::train::{Objective, Report, Setup};

/// Draws of training views that batch norms' statistics are taken of.
pub const STATISTICS_IMAGES: usize = 2048;

/// Classification of images.
pub struct Classify {
    net: Supernet,
    arch: Arch,
    heads: Vec<Head>,
    learner: Learner,
    views: [Views; 1],
    held_out: HashSet<usize>,
    mixing: Mixing,
}

/// A part of a batch on its way.
struct Part {
    /// Which head.
    head: usize,
    /// Its share of the head's loss.
    weight: f64,
    loss: Tensor,
}

impl Classify {
    /// As an [`Objective`] of the settings.
    pub fn make(cx: &Cx, setup: &Setup) -> Result<Box<dyn Objective>> {
        Ok(Box::new(Self::new(cx, setup, &[])?))
    }

    /// Freshly initialised. Where the settings have several learning rates, there is a classifier
    /// for each that learns from all images, and one that does not see those `held_out`.
    pub fn new(cx: &Cx, setup: &Setup, held_out: &[usize]) -> Result<Self> {
        let classes = setup.expect_classes()?;
        let config = setup.config;
        let (net, heads) = Supernet::extended(setup.space, None, |builder, channels| {
            Head::all(builder, channels, classes, config, !held_out.is_empty())
        });
        let factors = factors(net.specs(), &heads, config);
        let is_frozen = config.finetune.body == Body::Frozen;
        let frozen_images = is_frozen.then_some(STATISTICS_IMAGES);
        Ok(Self {
            learner: Learner::new(cx, &net, config, factors, frozen_images)?,
            arch: setup.space.max(),
            heads,
            views: [view(config)],
            held_out: held_out.iter().copied().collect(),
            mixing: Mixing::of(config, setup.space.resolution),
            net,
        })
    }

    /// Names and learning rates of the classifiers that learn from all images, or of those that do not
    /// see what is held out.
    pub fn heads(&self, on_all: bool) -> Vec<(&str, f64)> {
        let some = self.heads.iter().filter(|head| head.on_all == on_all);
        some.map(|head| (head.name.as_str(), head.lr)).collect()
    }

    /// Numbers of pooled features.
    pub fn width(&self) -> usize {
        self.net.space().outputs(&self.arch, STAGES - 1)
    }

    /// Tensors of a classifier under the names of a net's only one.
    pub fn classifier(&self, cx: &Cx, name: &str) -> Result<Named> {
        let params = &self.learner.params;
        let all = params.specs().iter().zip(params.values());
        all.filter(|(spec, _)| is_of(&spec.name, name))
            .map(|(spec, value)| {
                let own = spec.name.replacen(name, CLASSIFIER, 1);
                Ok((own, (spec.torch_shape(), spec.to_torch(&cx.download(value)?))))
            })
            .collect()
    }

    /// The net with such statistics.
    pub fn subnet(&self, stats: RunningStats) -> Subnet<'_> {
        Subnet::with_stats(&self.net, &self.learner.params, self.arch, stats)
    }

    /// The statistics of a frozen body.
    pub fn statistics(&self) -> Option<&RunningStats> {
        self.learner.frozen()
    }

    /// Pooled features of images: a constant where the body is frozen.
    fn pooled(&self, tape: &mut Tape, images: &Tensor) -> Result<Var> {
        let cx = tape.cx();
        let forward = |tape: &mut Tape, norm: &mut BnMode| -> Result<Var> {
            let x = tape.constant(images.clone());
            let wanted = &[Feature::Pool];
            let params = &self.learner.params;
            let out = self.net.forward(tape, params, x, &self.arch, norm, wanted);
            Ok(out?.take(Feature::Pool))
        };
        let own = || BnMode::Batch { group: self.learner.bn_group };
        if !self.learner.is_frozen() {
            return forward(tape, &mut own());
        }
        // A plan has no statistics; it takes as much with a batch's own.
        let mut norm = self.learner.frozen().map_or_else(own, BnMode::Frozen);
        let frozen = forward(&mut Tape::inference(cx), &mut norm)?;
        Ok(tape.constant(frozen.into_value()))
    }

    /// Adds the gradients of a step's batch. Gives the losses, which nobody waited for yet.
    fn passes(
        &mut self,
        cx: &Cx,
        step: u64,
        batch: &StepBatch,
        classes: &[usize],
    ) -> Result<Vec<Part>> {
        let n = classes.len();
        let mixed = self.mixing.mix(cx, step, &batch.views[0], classes)?;
        // Whether an image is not held out.
        let seen: Vec<bool> = batch.indices.iter().map(|i| !self.held_out.contains(i)).collect();
        let mut parts = Vec::new();
        for rows in micro_batches(n, self.learner.accum) {
            let images = index_select::range(cx, &mixed.images, &rows)?;
            if self.learner.is_frozen() {
                let pooled = self.pooled(&mut Tape::inference(cx), &images)?.into_value();
                self.frozen_passes(cx, pooled, rows, &seen, classes, &mut parts)?;
                continue;
            }
            let mut tape = Tape::recording(cx);
            let pooled = self.pooled(&mut tape, &images)?;
            let targets = mixed.targets(classes, &rows);
            let loss = self.heads[0].loss(&mut tape, &self.learner.params, &pooled, &targets)?;
            drop(pooled);
            parts.push(self.backward(tape, 0, loss, rows.len() as f64 / n as f64)?);
        }
        Ok(parts)
    }

    /// Adds the gradients of all classifiers for the features of some rows of a batch.
    fn frozen_passes(
        &mut self,
        cx: &Cx,
        pooled: Tensor,
        rows: Range<usize>,
        seen: &[bool],
        classes: &[usize],
        parts: &mut Vec<Part>,
    ) -> Result<()> {
        let all: Vec<usize> = rows.clone().collect();
        let open: Vec<usize> = all.iter().copied().filter(|&i| seen[i]).collect();
        let open_of_batch = seen.iter().filter(|seen| **seen).count();
        let of_open = match open.len() == all.len() || open.is_empty() {
            true => pooled.clone(),
            false => {
                let within: Vec<usize> = open.iter().map(|i| i - rows.start).collect();
                index_select::rows(cx, &pooled, &within)?
            }
        };
        for k in 0..self.heads.len() {
            let (x, chosen, of) = match self.heads[k].on_all {
                true => (&pooled, &all, seen.len()),
                false => (&of_open, &open, open_of_batch),
            };
            if chosen.is_empty() {
                continue;
            }
            let classes: Vec<usize> = chosen.iter().map(|&i| classes[i]).collect();
            let mut tape = Tape::recording(cx);
            let x = tape.constant(x.clone());
            let loss =
                self.heads[k].loss(&mut tape, &self.learner.params, &x, &[(1.0, &classes)])?;
            parts.push(self.backward(tape, k, loss, chosen.len() as f64 / of as f64)?);
        }
        Ok(())
    }

    fn backward(&mut self, tape: Tape, head: usize, loss: Var, weight: f64) -> Result<Part> {
        let value = loss.value().clone();
        self.learner.backward(tape, loss, weight)?;
        Ok(Part { head, weight, loss: value })
    }
}

/// Views of a share of the image, of its shape.
fn squeezed(share: f32) -> Views {
    let (crop_scale, crop_ratio) = ([share, share], [1.0, 1.0]);
    Views { crop_scale, crop_ratio, squeeze: true, ..Views::weak() }
}

/// How the settings make views of images.
fn view(config: &Config) -> Views {
    plain_view(config).of(&config.preset.input())
}

fn plain_view(config: &Config) -> Views {
    match config.finetune.view {
        TunedView::Crop => {
            Views { crop_scale: [config.finetune.crop_min as f32, 1.0], ..Views::weak() }
        }
        TunedView::Whole => Views { flip_p: 0.0, ..squeezed(1.0) },
        TunedView::Part => squeezed(config.finetune.crop_min as f32),
    }
}

impl Objective for Classify {
    fn views(&self) -> &[Views] {
        &self.views
    }

    fn labels(&self) -> bool {
        true
    }

    fn net(&self) -> &Supernet {
        &self.net
    }

    fn blank_batch(&self, cx: &Cx, n: usize) -> Result<StepBatch> {
        blank_batch(cx, self, n)
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

    /// Takes the statistics that a frozen body is normalised with.
    fn warm_up(&mut self, cx: &Cx, next: &mut dyn FnMut() -> Result<StepBatch>) -> Result<()> {
        let (net, arch) = (&self.net, &self.arch);
        self.learner.warm_up(cx, next, |tape, params, x, norm| {
            net.forward(tape, params, x, arch, norm, &[]).map(drop)
        })
    }

    fn step(
        &mut self,
        cx: &Cx,
        at: &At,
        batch: StepBatch,
        _dump: Option<&mut Dump>,
        meanwhile: &mut dyn FnMut(),
    ) -> Result<Report> {
        let classes = match &batch.targets {
            Some(Targets::Classes(classes)) => classes.clone(),
            _ => return Err(Error::usage("fine-tuning needs batches with classes")),
        };
        let mut report = Report { archs: vec![self.arch], ..Report::default() };
        report.record(cx, "")?;
        let parts = self.passes(cx, at.step, &batch, &classes)?;
        report.record(cx, "net")?;
        meanwhile();
        let mut losses = vec![0.0; self.heads.len()];
        for Part { head, weight, loss } in &parts {
            losses[*head] += weight * f64::from(cx.download(loss)?[0]);
        }
        report.loss = losses.iter().sum();
        let names = self.heads.iter().map(|head| match self.heads.len() {
            1 => "classes".to_owned(),
            _ => format!("{} lr {}", head.name, head.lr),
        });
        report.losses = names.zip(losses).collect();
        let find = |params: &Params| {
            let mut tape = Tape::recording(cx).checking();
            let pooled = self.pooled(&mut tape, &batch.views[0])?;
            self.heads.iter().try_for_each(|head| {
                head.loss(&mut tape, params, &pooled, &[(1.0, &classes)]).map(drop)
            })
        };
        report.grad_norm = self.learner.expect_finite(cx, at.step, &report.losses, find)?;
        self.learner.update(cx, at)?;
        report.record(cx, "optimizer")?;
        Ok(report)
    }

    fn rehearse(&mut self, cx: &Cx, batch: StepBatch) -> Result<()> {
        self.step(cx, &At { step: 0, steps: 1, lr: 0.0 }, batch, None, &mut || {}).map(drop)
    }

    fn nets(&self) -> usize {
        self.heads.len()
    }

    fn outlook(&self, _images: usize) -> Outlook {
        let even_loss = (self.heads[0].layer.mlp().dim() as f64).ln();
        Outlook { even_loss, even: "guessing", lines: Vec::new() }
    }

    fn state(&self, cx: &Cx) -> Result<Saved> {
        self.learner.state(cx, &self.net)
    }

    fn restore(&mut self, cx: &Cx, checkpoint: &Checkpoint) -> Result<()> {
        self.learner.restore(cx, &self.net, checkpoint)
    }
}
