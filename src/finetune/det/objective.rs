//! The objective of detection: the losses of the region proposal net and of the heads, all with
//! weight 1, as detectron2 defines them.

use std::ops::Range;

use rayon::prelude::*;

use super::detector;
use super::grid::Grid;
use super::regions::{self, Outputs, Region};
use crate::config::{Config, Task};
use crate::cx::Cx;
use crate::data::annotated::ImageTargets;
use crate::data::{Batch, Targets};
use crate::error::{Error, Result};
use crate::finetune::learner::{Learner, download};
use crate::geometry::{AnchorSample, Coder, Corners, ProposalSettings, Sampler};
use crate::nn::dense::{DetNet, RpnOutput};
use crate::nn::{BnMode, Params, RunningStats, Supernet};
use crate::ops::add::Add;
use crate::ops::bce_logits::BceLogits;
use crate::ops::box_loss::BoxLoss;
use crate::ops::cross_entropy::{self, CrossEntropy};
use crate::ops::gather_rows::GatherRows;
use crate::ops::index_select;
use crate::ssl::{Outlook, Sign};
use crate::tape::{Tape, Var};
use crate::tensor::{DType, Meta, Shape, Tensor};
use crate::train::checkpoint::Checkpoint;
use crate::train::dump::Dump;
use crate::train::objective::{At, Saved, StepBatch, micro_batches};
use crate::train::{Objective, Report, Setup};

/// Detection of objects.
pub struct Detect {
    net: DetNet,
    learner: Learner,
    config: Config,
    grid: Grid,
}

/// Losses of a part of a batch, and what they were computed of.
#[derive(Default)]
struct Part {
    losses: Vec<(&'static str, Var)>,
    regions: Vec<Region>,
    /// Anchors that are objects.
    positives: usize,
}

impl Part {
    fn sum(&self, tape: &mut Tape) -> Result<Var> {
        let mut losses = self.losses.iter().map(|(_, loss)| loss);
        let first = losses.next().ok_or_else(|| Error::usage("a step without losses"))?;
        losses.try_fold(first.clone(), |sum, loss| tape.apply(Add, &[&sum, loss]))
    }
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
        let net = DetNet::new(setup.space, detector(config, task, classes))?;
        let learner = Learner::new(cx, net.net(), config)?;
        let grid = Grid::of(&net);
        Ok(Self { net, learner, config: config.clone(), grid })
    }

    /// Statistics of the backbone, where they stay as they are.
    pub fn frozen(&self) -> Option<&RunningStats> {
        self.learner.frozen()
    }

    /// Adds what batch norms see in training.
    ///
    /// # Errors
    /// Those of the ops.
    pub fn calibrate(&self, cx: &Cx, batch: StepBatch, norm: &mut BnMode) -> Result<()> {
        let targets = of(&batch)?;
        let mut tape = Tape::inference(cx);
        let all = targets.len();
        let params = &self.learner.params;
        self.part(&mut tape, params, &batch.views[0], targets, all, norm).map(drop)
    }

    /// The losses of some images of a batch of `all`.
    fn part(
        &self,
        tape: &mut Tape,
        params: &Params,
        images: &Tensor,
        targets: &[ImageTargets],
        all: usize,
        norm: &mut BnMode,
    ) -> Result<Part> {
        let [_, h, w, _] = images.shape().0;
        let x = tape.constant(images.clone());
        let levels = self.net.levels(tape, params, x, norm, self.learner.frozen())?;
        let outputs = self.net.proposals(tape, params, &levels)?;
        let mut part = Part::default();
        self.rpn_losses(tape, &outputs, targets, [h, w], all, &mut part)?;
        part.regions = match tape.cx().is_plan() {
            true => self.most_regions(targets.len()),
            false => self.regions(tape.cx(), outputs, targets, [h, w])?,
        };
        let share = targets.len() as f64 / all as f64;
        self.roi_losses(tape, params, &levels, targets, share, norm, &mut part)?;
        Ok(part)
    }

    /// Of sampled anchors: whether they show objects, and how the boxes of those that do differ.
    fn rpn_losses(
        &self,
        tape: &mut Tape,
        outputs: &[RpnOutput],
        targets: &[ImageTargets],
        size: [usize; 2],
        all: usize,
        part: &mut Part,
    ) -> Result<()> {
        let cx = tape.cx();
        let anchors: Vec<usize> =
            self.grid.anchors(size).iter().map(crate::geometry::Anchors::len).collect();
        let n = targets.len();
        let row = |image: usize, sample: &AnchorSample| {
            let below: usize = anchors[..sample.level].iter().sum();
            below * n + image * anchors[sample.level] + sample.index
        };
        let (mut rows, mut labels) = (Vec::new(), Vec::new());
        let (mut objects, mut deltas) = (Vec::new(), Vec::new());
        for (image, targets) in targets.iter().enumerate() {
            for sample in &targets.anchors {
                let at = i32::try_from(row(image, sample)).map_err(|_| {
                    Error::usage("more anchors in a batch than can be counted: lower train.batch")
                })?;
                rows.push(at);
                labels.push(if sample.deltas.is_some() { 1.0 } else { 0.0 });
                if let Some(differs) = sample.deltas {
                    objects.push(at);
                    deltas.extend(differs);
                }
            }
        }
        part.positives = objects.len();
        let weight = 1.0 / (self.config.det.rpn_batch * all) as f64;
        let column = |n: usize| Shape::matrix(n, 1);
        if rows.is_empty() {
            return Ok(());
        }
        let gather = |tape: &mut Tape, maps: Vec<&Var>, rows: &[i32], width: usize| {
            let index = tape.constant(cx.upload_i32(column(rows.len()), rows)?);
            let inputs: Vec<&Var> = maps.into_iter().chain([&index]).collect();
            tape.apply(GatherRows { width }, &inputs)
        };
        let logits = outputs.iter().map(|output| &output.logits).collect();
        let logits = gather(tape, logits, &rows, 1)?;
        let labels = tape.constant(cx.upload(column(rows.len()), DType::F32, &labels)?);
        let loss = tape.apply(BceLogits { weight }, &[&logits, &labels])?;
        part.losses.push(("rpn_cls", loss));
        if objects.is_empty() {
            return Ok(());
        }
        let found = outputs.iter().map(|output| &output.deltas).collect();
        let found = gather(tape, found, &objects, 4)?;
        let deltas = cx.upload(Shape::matrix(objects.len(), 4), DType::F32, &deltas)?;
        let select = cx.upload_i32(column(objects.len()), &vec![0; objects.len()])?;
        let (deltas, select) = (tape.constant(deltas), tape.constant(select));
        let loss = tape.apply(BoxLoss { beta: 0.0, weight }, &[&found, &deltas, &select])?;
        part.losses.push(("rpn_loc", loss));
        Ok(())
    }

    /// Regions that the heads learn from.
    fn regions(
        &self,
        cx: &Cx,
        outputs: Vec<RpnOutput>,
        targets: &[ImageTargets],
        size: [usize; 2],
    ) -> Result<Vec<Region>> {
        let det = &self.config.det;
        let outputs = Outputs::download(cx, &outputs)?;
        let settings = ProposalSettings {
            pre: det.rpn_pre,
            post: det.rpn_post,
            nms: det.rpn_nms as f32,
            coder: Coder::RPN,
        };
        let anchors = self.grid.anchors(size);
        let of_image = |(i, targets): (usize, &ImageTargets)| {
            outputs.of_image(i, &anchors, targets.size, &settings)
        };
        let proposed: Vec<Vec<Corners>> = targets.par_iter().enumerate().map(of_image).collect();
        Ok(regions::sample(targets, &proposed, &self.grid, &self.sampler(), self.config.seed))
    }

    fn sampler(&self) -> Sampler {
        let det = &self.config.det;
        let positives = (det.roi_batch as f64 * det.roi_fg).round() as usize;
        Sampler { boxes: det.roi_batch, positives }
    }

    /// As many regions as there can be, for a plan.
    fn most_regions(&self, images: usize) -> Vec<Region> {
        let Sampler { boxes, positives } = self.sampler();
        let region = |image: usize, i: usize| Region {
            place: [image, 0],
            roi: [0.0, 0.0, 8.0, 8.0],
            object: (i < positives).then_some((0, 0, [0.0; 4])),
        };
        (0..images).flat_map(|image| (0..boxes).map(move |i| region(image, i))).collect()
    }

    /// Of sampled regions: their classes, boxes and masks.
    #[allow(clippy::too_many_arguments)]
    fn roi_losses(
        &self,
        tape: &mut Tape,
        params: &Params,
        levels: &[Var],
        targets: &[ImageTargets],
        share: f64,
        norm: &mut BnMode,
        part: &mut Part,
    ) -> Result<()> {
        let (cx, regions) = (tape.cx(), &part.regions);
        if regions.is_empty() {
            return Ok(());
        }
        let classes = self.net.detector().classes;
        let n = regions.len();
        let rois = rois(cx, regions.iter())?;
        let found = self.net.boxes(tape, params, levels, &rois, norm, self.learner.frozen())?;
        let class = |region: &Region| region.object.map_or(classes, |(_, class, _)| class);
        let labels: Vec<usize> = regions.iter().map(class).collect();
        let labels = tape.constant(cross_entropy::labels(cx, &labels, classes + 1)?);
        let loss = tape.apply(CrossEntropy { weight: share }, &[&found.scores, &labels])?;
        part.losses.push(("cls", loss));
        let select: Vec<i32> =
            regions.iter().map(|r| r.object.map_or(-1, |(_, class, _)| class as i32)).collect();
        let deltas: Vec<f32> =
            regions.iter().flat_map(|r| r.object.map_or([0.0; 4], |(.., deltas)| deltas)).collect();
        let select = tape.constant(cx.upload_i32(Shape::matrix(n, 1), &select)?);
        let deltas = tape.constant(cx.upload(Shape::matrix(n, 4), DType::F32, &deltas)?);
        let op = BoxLoss { beta: 0.0, weight: share / n as f64 };
        let loss = tape.apply(op, &[&found.deltas, &deltas, &select])?;
        part.losses.push(("box", loss));
        self.mask_loss(tape, params, levels, targets, share, norm, part)
    }

    #[allow(clippy::too_many_arguments)]
    fn mask_loss(
        &self,
        tape: &mut Tape,
        params: &Params,
        levels: &[Var],
        targets: &[ImageTargets],
        share: f64,
        norm: &mut BnMode,
        part: &mut Part,
    ) -> Result<()> {
        let (cx, Some(side)) = (tape.cx(), self.net.mask_side()) else { return Ok(()) };
        let with_masks: Vec<(Region, Vec<f32>)> = match cx.is_plan() {
            true => {
                let objects = part.regions.iter().filter(|region| region.object.is_some());
                objects.map(|region| (region.clone(), vec![0.0; side * side])).collect()
            }
            false => regions::masks(targets, &part.regions, side)?,
        };
        let n = with_masks.len();
        if n == 0 {
            return Ok(());
        }
        let rois = rois(cx, with_masks.iter().map(|(region, _)| region))?;
        let logits = self.net.masks(tape, params, levels, &rois, norm)?;
        let select: Vec<i32> = with_masks
            .iter()
            .map(|(region, _)| region.object.map_or(0, |(_, class, _)| class as i32))
            .collect();
        let cells: Vec<f32> = with_masks.iter().flat_map(|(_, cells)| cells).copied().collect();
        let select = tape.constant(cx.upload_i32(Shape::matrix(n, 1), &select)?);
        let cells = tape.constant(cx.upload(Shape::nhwc(n, side, side, 1), DType::F32, &cells)?);
        let op = BceLogits { weight: share / (n * side * side) as f64 };
        let loss = tape.apply(op, &[&logits, &cells, &select])?;
        part.losses.push(("mask", loss));
        Ok(())
    }
}

/// Regions as the heads take them.
fn rois<'a>(cx: &Cx, regions: impl Iterator<Item = &'a Region>) -> Result<Tensor> {
    let rows: Vec<f32> = regions.flat_map(Region::row).collect();
    cx.upload(Shape::matrix(rows.len() / 6, 6), DType::F32, &rows)
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
            self.learner.backward(tape, sum)?;
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

    fn state(&self, cx: &Cx) -> Result<Saved> {
        self.learner.state(cx, self.net.net())
    }

    fn restore(&mut self, cx: &Cx, checkpoint: &Checkpoint) -> Result<()> {
        self.learner.restore(cx, self.net.net(), checkpoint)
    }
}

impl Detect {
    /// Keeps what went into a step and came out of it, for a replay elsewhere.
    fn dump(
        &self,
        cx: &Cx,
        images: &Tensor,
        targets: &[ImageTargets],
        regions: &[Region],
        losses: &[(String, f64)],
        dump: &mut Dump,
    ) -> Result<()> {
        dump.images(cx, "x", images)?;
        // A row for each: image, level, index, whether it is an object, deltas.
        let mut anchors = Vec::new();
        for (i, targets) in targets.iter().enumerate() {
            for AnchorSample { level, index, deltas } in &targets.anchors {
                anchors.extend([i as f32, *level as f32, *index as f32]);
                anchors.push(if deltas.is_some() { 1.0 } else { 0.0 });
                anchors.extend(deltas.unwrap_or([0.0; 4]));
            }
        }
        dump.values("anchors", vec![anchors.len() / 8, 8], anchors);
        let sizes = targets.iter().flat_map(|t| t.size).map(|side| side as f32).collect();
        dump.values("sizes", vec![targets.len(), 2], sizes);
        let classes = self.net.detector().classes;
        // A row for each: image, level, box, class (the background's is the last), deltas.
        let row = |region: &Region| {
            let class = region.object.map_or(classes, |(_, class, _)| class) as f32;
            let deltas = region.object.map_or([0.0; 4], |(.., deltas)| deltas);
            region.row().into_iter().chain([class]).chain(deltas)
        };
        let rows: Vec<f32> = regions.iter().flat_map(row).collect();
        dump.values("regions", vec![regions.len(), 11], rows);
        if let Some(side) = self.net.mask_side() {
            let masks = regions::masks(targets, regions, side)?;
            let rows = masks.iter().flat_map(|(region, _)| row(region)).collect();
            let cells = masks.iter().flat_map(|(_, cells)| cells).copied().collect();
            dump.values("mask_regions", vec![masks.len(), 11], rows);
            dump.values("masks", vec![masks.len(), side, side], cells);
        }
        self.learner.dump(cx, self.net.net(), losses, dump)?;
        let det = self.net.detector();
        let strides: Vec<String> = self.net.strides().iter().map(usize::to_string).collect();
        for (key, value) in [
            ("task", if det.fpn { "det-fpn" } else { "det-c4" }.to_owned()),
            ("classes", classes.to_string()),
            ("channels", det.channels.to_string()),
            ("norm", det.norm.to_string()),
            ("head_norm", det.head_norm.to_string()),
            ("rpn_batch", self.config.det.rpn_batch.to_string()),
            ("rpn_pre", self.config.det.rpn_pre.to_string()),
            ("rpn_post", self.config.det.rpn_post.to_string()),
            ("rpn_nms", self.config.det.rpn_nms.to_string()),
            ("anchor", det.anchor.to_string()),
            ("strides", strides.join(",")),
        ] {
            dump.note(key, value);
        }
        Ok(())
    }
}
