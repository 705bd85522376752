//! Nets that find objects: Faster R-CNN on C4 (Ren et al., 2015), whose head is the last stage, and
//! Mask R-CNN with a feature pyramid (He et al., ICCV 2017). Names are detectron2's.

use super::fpn::{Fpn, LEVELS};
use super::roi_heads::{BOX_SIDE, BoxHead, BoxOutput, BoxPredictor, MASK_SIDE, MaskHead};
use super::rpn::{Rpn, RpnOutput};
use crate::error::{Error, Result};
use crate::nn::builder::BnPlace;
use crate::nn::norm::{BnMode, RunningStats};
use crate::nn::params::Params;
use crate::nn::resnet::{Supernet, Trunk};
use crate::ops::avg_pool::GlobalAvgPool;
use crate::ops::batch_norm::BatchNorm;
use crate::ops::roi_align::RoiAlign;
use crate::space::{Arch, STAGES, Space};
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

/// Ratios of height over width of anchors.
pub const RATIOS: [f64; 3] = [0.5, 1.0, 2.0];
/// Sizes of anchors at a position of C4, in powers of 2.
const C4_SIZES: usize = 5;
/// Side of the regions that the last stage reads as a head.
const C4_SIDE: usize = 14;

/// Sizes of a detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detector {
    /// Number of classes.
    pub classes: usize,
    /// Whether it has a feature pyramid; else its head is the last stage.
    pub fpn: bool,
    /// Channels of pyramid, region proposal net and mask head.
    pub channels: usize,
    /// Convolutions, linear layers and their units of the box head.
    pub box_head: [usize; 3],
    /// Whether there are batch norms behind the pyramid's convolutions, or the last stage.
    pub norm: bool,
    /// Whether there are some in the heads, too.
    pub head_norm: bool,
    /// Whether there is a mask head.
    pub mask: bool,
    /// Side of the smallest anchors, in pixels.
    pub anchor: usize,
}

/// Backbone and heads of one architecture.
pub struct DetNet {
    net: Supernet,
    arch: Arch,
    trunk: Trunk,
    detector: Detector,
    rpn: Rpn,
    heads: Heads,
}

enum Heads {
    Pyramid { fpn: Fpn, head: BoxHead, predictor: BoxPredictor, mask: Option<MaskHead> },
    LastStage { norm: Option<BnPlace>, predictor: BoxPredictor },
}

impl DetNet {
    /// The largest net of a space, with heads.
    ///
    /// # Errors
    /// [`crate::Kind::Usage`] for a pyramid on a space whose stages do not halve.
    pub fn new(space: &Space, detector: Detector) -> Result<Self> {
        let (arch, strides) = (space.max(), space.strides());
        if detector.fpn && strides[1..] != [2; STAGES - 1] {
            return Err(Error::usage(format!(
                "det-fpn: expected stages that halve the side each, found strides {strides:?}; use \
                 det-c4"
            )));
        }
        let outputs: [usize; STAGES] = std::array::from_fn(|s| space.outputs(&arch, s));
        let Detector { classes, channels, norm, .. } = detector;
        let (net, (rpn, heads)) = Supernet::extended(space, None, |builder, c5| {
            if !detector.fpn {
                let rpn = Rpn::new(builder, outputs[STAGES - 2], C4_SIZES * RATIOS.len());
                let norm = norm.then(|| builder.batch_norm("res5.norm", c5, 1.0));
                let predictor = BoxPredictor::new(builder, c5, classes);
                return (rpn, Heads::LastStage { norm, predictor });
            }
            let fpn = Fpn::new(builder, outputs, channels, norm);
            let rpn = Rpn::new(builder, channels, RATIOS.len());
            let head = BoxHead::new(builder, channels, detector.box_head, detector.head_norm);
            let units = detector.box_head[2];
            let predictor = BoxPredictor::new(builder, units, classes);
            let mask = detector
                .mask
                .then(|| MaskHead::new(builder, channels, classes, detector.head_norm));
            (rpn, Heads::Pyramid { fpn, head, predictor, mask })
        });
        let trunk = net.trunk();
        Ok(Self { net, arch, trunk, detector, rpn, heads })
    }

    /// All parameters and batch norms.
    pub fn net(&self) -> &Supernet {
        &self.net
    }

    /// The backbone's architecture.
    pub fn arch(&self) -> &Arch {
        &self.arch
    }

    /// Strides of the backbone.
    pub fn trunk(&self) -> &Trunk {
        &self.trunk
    }

    /// Its sizes.
    pub fn detector(&self) -> &Detector {
        &self.detector
    }

    /// Pixels from one position to the next of each level that proposals come from.
    pub fn strides(&self) -> Vec<usize> {
        let stem = &self.net.space().stem;
        let mut total = stem.stride * if stem.maxpool { 2 } else { 1 };
        let mut stages: Vec<usize> = Vec::with_capacity(LEVELS);
        for stride in self.trunk.strides {
            total *= stride;
            stages.push(total);
        }
        match self.detector.fpn {
            true => stages.into_iter().chain([2 * total]).collect(),
            false => vec![stages[STAGES - 2]],
        }
    }

    /// Sides of the square anchors at each position of a level.
    pub fn anchor_sizes(&self, level: usize) -> Vec<f64> {
        let size = |power: usize| (self.detector.anchor << power) as f64;
        match self.detector.fpn {
            true => vec![size(level)],
            false => (0..C4_SIZES).map(size).collect(),
        }
    }

    /// What the sides of a batch of images are multiples of.
    pub fn multiple(&self) -> usize {
        if self.detector.fpn { self.strides()[STAGES - 1] } else { 1 }
    }

    /// Levels that regions are read from.
    pub fn region_levels(&self) -> usize {
        if self.detector.fpn { STAGES } else { 1 }
    }

    /// Side of masks; none without a mask head.
    pub fn mask_side(&self) -> Option<usize> {
        match &self.heads {
            Heads::Pyramid { mask: Some(_), .. } => Some(2 * MASK_SIDE),
            _ => None,
        }
    }

    /// The levels of images `x` [N, H, W, C]: P2 to P6, or C4. The backbone's batch norms have
    /// statistics of their own where `frozen` gives some.
    ///
    /// # Errors
    /// Those of the ops.
    pub fn levels(
        &self,
        tape: &mut Tape,
        params: &Params,
        x: Var,
        norm: &mut BnMode,
        frozen: Option<&RunningStats>,
    ) -> Result<Vec<Var>> {
        let stages = match frozen {
            Some(stats) => self.body(tape, params, x, &mut BnMode::Frozen(stats))?,
            None => self.body(tape, params, x, norm)?,
        };
        match &self.heads {
            Heads::Pyramid { fpn, .. } => fpn.forward(tape, params, &stages, norm),
            Heads::LastStage { .. } => Ok(stages.into_iter().last().into_iter().collect()),
        }
    }

    /// Outputs of the stages that levels are made of.
    ///
    /// # Errors
    /// Those of the ops.
    pub fn body(
        &self,
        tape: &mut Tape,
        params: &Params,
        x: Var,
        norm: &mut BnMode,
    ) -> Result<Vec<Var>> {
        let h = self.net.stem(tape, params, x, &self.arch, norm)?;
        let range = 0..if self.detector.fpn { STAGES } else { STAGES - 1 };
        let mut stages = Vec::with_capacity(STAGES);
        self.net.stages(tape, params, h, &self.arch, range, &self.trunk, norm, |_, h| {
            stages.push(h.clone());
        })?;
        Ok(stages)
    }

    /// Runs the whole backbone, also a stage that reads regions alone, for its batch norms.
    ///
    /// # Errors
    /// Those of the ops.
    pub fn whole_body(
        &self,
        tape: &mut Tape,
        params: &Params,
        x: Var,
        norm: &mut BnMode,
    ) -> Result<()> {
        let h = self.net.stem(tape, params, x, &self.arch, norm)?;
        let range = 0..STAGES;
        self.net.stages(tape, params, h, &self.arch, range, &self.trunk, norm, |_, _| {}).map(drop)
    }

    /// What the region proposal net says of each level.
    ///
    /// # Errors
    /// Those of the ops.
    pub fn proposals(
        &self,
        tape: &mut Tape,
        params: &Params,
        levels: &[Var],
    ) -> Result<Vec<RpnOutput>> {
        levels.iter().map(|level| self.rpn.forward(tape, params, level)).collect()
    }

    /// What regions show; `rois` [R, 1, 1, 6] as [`RoiAlign`] takes them.
    ///
    /// # Errors
    /// Those of the ops.
    pub fn boxes(
        &self,
        tape: &mut Tape,
        params: &Params,
        levels: &[Var],
        rois: &Tensor,
        norm: &mut BnMode,
        frozen: Option<&RunningStats>,
    ) -> Result<BoxOutput> {
        match &self.heads {
            Heads::Pyramid { head, predictor, .. } => {
                let regions = self.regions(tape, levels, rois, BOX_SIDE)?;
                let features = head.forward(tape, params, regions, norm)?;
                predictor.forward(tape, params, &features)
            }
            Heads::LastStage { norm: last, predictor } => {
                let regions = self.regions(tape, levels, rois, C4_SIDE)?;
                let stage = |tape: &mut Tape, norm: &mut BnMode| {
                    let range = STAGES - 1..STAGES;
                    let h = regions.clone();
                    self.net.stages(
                        tape,
                        params,
                        h,
                        &self.arch,
                        range,
                        &self.trunk,
                        norm,
                        |_, _| {},
                    )
                };
                let mut h = match frozen {
                    Some(stats) => stage(tape, &mut BnMode::Frozen(stats))?,
                    None => stage(tape, norm)?,
                };
                if let Some(BnPlace { index, gamma: Some(gamma) }) = last {
                    let (stats, given) = norm.resolve(tape, *index, &h)?;
                    let param = |i: usize| tape.param(params.operand(i).clone(), i);
                    let (gamma, beta) = (param(*gamma), param(*gamma + 1));
                    let mut inputs = vec![&h, &gamma, &beta];
                    inputs.extend(given.as_ref());
                    h = tape.apply(BatchNorm { stats, add: false, relu: false }, &inputs)?;
                }
                let features = tape.apply(GlobalAvgPool, &[&h])?;
                predictor.forward(tape, params, &features)
            }
        }
    }

    /// Logits [R, 28, 28, K] of masks.
    ///
    /// # Errors
    /// [`crate::Kind::Usage`] without a mask head; those of the ops.
    pub fn masks(
        &self,
        tape: &mut Tape,
        params: &Params,
        levels: &[Var],
        rois: &Tensor,
        norm: &mut BnMode,
    ) -> Result<Var> {
        let Heads::Pyramid { mask: Some(mask), .. } = &self.heads else {
            return Err(Error::usage("this net has no mask head"));
        };
        let regions = self.regions(tape, levels, rois, MASK_SIDE)?;
        mask.forward(tape, params, regions, norm)
    }

    fn regions(&self, tape: &mut Tape, levels: &[Var], rois: &Tensor, size: usize) -> Result<Var> {
        let read = &levels[..self.region_levels()];
        let scales = self.strides()[..read.len()].iter().map(|s| 1.0 / *s as f64).collect();
        let rois = tape.constant(rois.clone());
        let inputs: Vec<&Var> = read.iter().chain([&rois]).collect();
        tape.apply(RoiAlign { size, scales }, &inputs)
    }
}
