//! The losses of detectors, all with weight 1, as detectron2 defines them.

use super::objective::Detect;
use super::regions::{self, Region};
use crate::cx::Cx;
use crate::data::annotated::ImageTargets;
use crate::error::{Error, Result};
use crate::geometry::{AnchorSample, Anchors, Coder, ProposalSettings, Sampler};
use crate::nn::dense::RpnOutput;
use crate::nn::{BnMode, Params};
use crate::ops::add::Add;
use crate::ops::bce_logits::BceLogits;
use crate::ops::box_loss::BoxLoss;
use crate::ops::cross_entropy::{self, CrossEntropy};
use crate::ops::gather_rows::GatherRows;
use crate::tape::{Tape, Var};
use crate::tensor::{DType, Shape, Tensor};

/// Losses of a part of a batch, and what they were computed of.
#[derive(Default)]
pub(super) struct Part {
    pub losses: Vec<(&'static str, Var)>,
    pub regions: Vec<Region>,
    /// Anchors that are objects.
    pub positives: usize,
}

impl Part {
    /// Of all losses.
    pub(super) fn sum(&self, tape: &mut Tape) -> Result<Var> {
        let mut losses = self.losses.iter().map(|(_, loss)| loss);
        let first = losses.next().ok_or_else(|| Error::usage("a step without losses"))?;
        losses.try_fold(first.clone(), |sum, loss| tape.apply(Add, &[&sum, loss]))
    }
}

impl Detect {
    /// The losses of some images of a batch of `all`.
    pub(super) fn part(
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
        part.regions = self.regions(tape.cx(), outputs, targets, [h, w])?;
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
        let anchors: Vec<usize> = self.grid.anchors(size).iter().map(Anchors::len).collect();
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
        let settings = ProposalSettings {
            pre: det.rpn_pre,
            post: det.rpn_post,
            nms: det.rpn_nms as f32,
            coder: Coder::RPN,
        };
        let anchors = self.grid.anchors(size);
        let sizes: Vec<[usize; 2]> = targets.iter().map(|targets| targets.size).collect();
        let proposed = regions::proposed(cx, &outputs, &anchors, &sizes, &settings)?;
        if cx.is_plan() {
            return Ok(self.most_regions(targets.len()));
        }
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
