//! A net that was fine-tuned for detection, ready to find objects.

use super::grid::Grid;
use super::{TASKS, net, regions};
use crate::config::{Config, Task};
use crate::cx::Cx;
use crate::data::annotated::transforms::{normalise_padded, resized, shortest_edge};
use crate::data::{Filter, Image, Input};
use crate::error::Result;
use crate::eval::record::{Learnt, Net};
use crate::export::subnet::stats_from_torch;
use crate::finetune::tuned_net::TunedNet;
use crate::geometry::{
    BBox, Coder, Corners, DetectionSettings, Found, ProposalSettings, Rle, detections, paste,
};
use crate::nn::dense::DetNet;
use crate::nn::{BnMode, Params, RunningStats};
use crate::space::Arch;
use crate::tape::{Tape, Var};
use crate::tensor::Shape;
use crate::train::Checkpoint;

/// The net, its batch norms' statistics, and how it is tested.
pub struct DetModel {
    net: DetNet,
    params: Params,
    stats: RunningStats,
    config: Config,
    input: Input,
    grid: Grid,
    /// What it was fine-tuned for.
    pub task: Task,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// How it was learnt.
    pub learnt: Learnt,
    /// Training step of its weights.
    pub step: u64,
}

/// An object that was found in an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Its class.
    pub class: usize,
    /// Its probability.
    pub score: f32,
    /// Its box, in pixels of the image.
    pub bbox: BBox,
    /// Its pixels, of a net with a mask head.
    pub mask: Option<Rle>,
}

/// Probability from which a pixel belongs to a mask.
const MASK_THRESHOLD: f32 = 0.5;

impl DetModel {
    /// Of a run that has come to its end.
    ///
    /// # Errors
    /// [`crate::Kind::Usage`] for a run of another task, or one that has not ended.
    pub fn of_run(cx: &Cx, checkpoint: &Checkpoint) -> Result<Self> {
        Self::new(cx, TunedNet::of_run(checkpoint, &TASKS)?)
    }

    /// That of a run or an export.
    ///
    /// # Errors
    /// [`crate::Kind::Data`] where tensors are not those of its settings.
    pub fn new(cx: &Cx, tuned: TunedNet) -> Result<Self> {
        let net = net(&tuned)?;
        let TunedNet { task, config, classes, learnt, step, named, origin, .. } = tuned;
        Ok(Self {
            params: Params::from_torch(cx, net.net().specs(), &named, &origin)?.ready(cx)?,
            stats: stats_from_torch(cx, net.net(), &named, &origin)?,
            grid: Grid::of(&net),
            input: net.net().space().input(),
            net,
            config,
            task,
            classes,
            learnt,
            step,
        })
    }

    /// Its architecture.
    pub fn arch(&self) -> Arch {
        *self.net.arch()
    }

    /// What it is, for results.
    pub fn describe(&self) -> Net {
        let preset = &self.config.preset;
        Net::new(self.arch(), preset, &preset.name, self.step, "student")
    }

    /// The settings that it was trained and is tested with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether it finds masks.
    pub fn has_masks(&self) -> bool {
        self.net.mask_side().is_some()
    }

    /// The objects in an image, the best first.
    ///
    /// # Errors
    /// Those of the ops.
    pub fn detect(&self, cx: &Cx, image: &Image) -> Result<Vec<Shown>> {
        let det = &self.config.det;
        let [w, h] = shortest_edge([image.width, image.height], det.short_test, det.long);
        let resized = resized(image, [w, h], Filter::Bilinear);
        let size = self.grid.padded([h, w]);
        let mut values = vec![0.0; size[0] * size[1] * 3];
        normalise_padded(&resized, &self.input.normalise(), size[1], &mut values);
        let x = cx.upload(Shape::nhwc(1, size[0], size[1], 3), cx.dtype(), &values)?;
        let mut tape = Tape::inference(cx);
        let x = tape.constant(x);
        let mut norm = BnMode::Frozen(&self.stats);
        let levels = self.net.levels(&mut tape, &self.params, x, &mut norm, None)?;
        let proposed = self.proposals(cx, &mut tape, &levels, [h, w], size)?;
        let found = self.found(cx, &mut tape, &levels, &proposed, [h, w])?;
        let masks = self.masks(cx, &mut tape, &levels, &found)?;
        let scale = [image.width as f32 / w as f32, image.height as f32 / h as f32];
        let whole = (image.height as u32, image.width as u32);
        let shown = |(i, found): (usize, &Found)| {
            let b: Corners = std::array::from_fn(|c| found.bbox[c] * scale[c % 2]);
            let mask = masks.as_ref().map(|(side, cells)| {
                let cells = &cells[i * side * side..(i + 1) * side * side];
                paste(cells, *side, &b, whole, MASK_THRESHOLD)
            });
            let [x, y] = [b[0], b[1]].map(f64::from);
            let [w, h] = [b[2] - b[0], b[3] - b[1]].map(f64::from);
            let bbox = BBox { x, y, w, h };
            Ok(Shown { class: found.class, score: found.score, bbox, mask: mask.transpose()? })
        };
        found.iter().enumerate().map(shown).collect()
    }

    /// Boxes that may hold objects, by levels, as the heads take them.
    fn proposals(
        &self,
        cx: &Cx,
        tape: &mut Tape,
        levels: &[Var],
        image: [usize; 2],
        size: [usize; 2],
    ) -> Result<Vec<(usize, Corners)>> {
        let det = &self.config.det;
        let outputs = self.net.proposals(tape, &self.params, levels)?;
        let settings = ProposalSettings {
            pre: det.rpn_pre_test,
            post: det.rpn_post_test,
            nms: det.rpn_nms as f32,
            coder: Coder::RPN,
        };
        let anchors = self.grid.anchors(size);
        let boxes = regions::proposed(cx, &outputs, &anchors, &[image], &settings)?;
        Ok(self.by_level(boxes.into_iter().flatten()))
    }

    fn by_level(&self, boxes: impl Iterator<Item = Corners>) -> Vec<(usize, Corners)> {
        let mut all: Vec<(usize, Corners)> = boxes.map(|b| (self.grid.level(&b), b)).collect();
        all.sort_by_key(|(level, _)| *level);
        all
    }

    fn found(
        &self,
        cx: &Cx,
        tape: &mut Tape,
        levels: &[Var],
        proposed: &[(usize, Corners)],
        image: [usize; 2],
    ) -> Result<Vec<Found>> {
        if proposed.is_empty() {
            return Ok(Vec::new());
        }
        let det = &self.config.det;
        let rois = regions::rows(cx, proposed)?;
        let mut norm = BnMode::Frozen(&self.stats);
        let found = self.net.boxes(tape, &self.params, levels, &rois, &mut norm, None)?;
        let mut scores = cx.download(found.scores.value())?;
        let deltas = cx.download(found.deltas.value())?;
        let classes = self.classes.len();
        scores.chunks_exact_mut(classes + 1).for_each(softmax);
        let rows = proposed.iter().zip(deltas.chunks_exact(4 * classes));
        let boxes: Vec<Corners> = rows
            .flat_map(|((_, roi), deltas)| {
                deltas.as_chunks::<4>().0.iter().map(|deltas| Coder::ROI.decode(roi, deltas))
            })
            .collect();
        let settings =
            DetectionSettings { score: det.score as f32, nms: det.nms as f32, top_k: det.top_k };
        Ok(detections(&scores, &boxes, classes, image.map(|side| side as f32), &settings))
    }

    /// Probabilities of the masks of what was found, in its order, and their side.
    fn masks(
        &self,
        cx: &Cx,
        tape: &mut Tape,
        levels: &[Var],
        found: &[Found],
    ) -> Result<Option<(usize, Vec<f32>)>> {
        let Some(side) = self.net.mask_side() else { return Ok(None) };
        if found.is_empty() {
            return Ok(Some((side, Vec::new())));
        }
        let mut order: Vec<usize> = (0..found.len()).collect();
        order.sort_by_key(|&i| self.grid.level(&found[i].bbox));
        let placed: Vec<(usize, Corners)> =
            order.iter().map(|&i| (self.grid.level(&found[i].bbox), found[i].bbox)).collect();
        let rois = regions::rows(cx, &placed)?;
        let mut norm = BnMode::Frozen(&self.stats);
        let logits = self.net.masks(tape, &self.params, levels, &rois, &mut norm)?;
        let logits = cx.download(logits.value())?;
        let (classes, cells) = (self.classes.len(), side * side);
        let mut masks = vec![0.0; found.len() * cells];
        for (row, &i) in order.iter().enumerate() {
            let own = logits[row * cells * classes..][..cells * classes].chunks_exact(classes);
            for (cell, logits) in masks[i * cells..][..cells].iter_mut().zip(own) {
                *cell = 1.0 / (1.0 + (-logits[found[i].class]).exp());
            }
        }
        Ok(Some((side, masks)))
    }
}

fn softmax(row: &mut [f32]) {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|x| *x = (*x - most).exp());
    let sum: f32 = row.iter().sum();
    row.iter_mut().for_each(|x| *x /= sum);
}
