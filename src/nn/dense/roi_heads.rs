//! What regions show: the class, how the box differs, and the mask. Names are detectron2's.

use super::conv::{Conv, Deconv, Fc, Layer};
use crate::error::Result;
use crate::nn::builder::Builder;
use crate::nn::norm::BnMode;
use crate::nn::params::{Init, Params};
use crate::ops::flatten::Flatten;
use crate::ops::relu::Relu;
use crate::tape::{Tape, Var};

/// Side of the regions that box heads of a pyramid read.
pub(super) const BOX_SIDE: usize = 7;
/// Side of the regions that mask heads read; their masks are twice as large.
pub(super) const MASK_SIDE: usize = 14;

/// From a region to a row of features.
pub(super) struct BoxHead {
    convs: Vec<Layer>,
    layers: Vec<Fc>,
}

impl BoxHead {
    /// Of regions of so many channels: `convs` convolutions, then `layers` linear layers of `units`.
    pub(super) fn new(
        builder: &mut Builder,
        channels: usize,
        [convs, layers, units]: [usize; 3],
        has_norm: bool,
    ) -> Self {
        let sizes = [channels, channels, 3];
        let conv = |i: usize| {
            let name = format!("box_head.conv{}", i + 1);
            Layer::new(builder, &name, sizes, has_norm, Init::HeFanOut)
        };
        let convs = (0..convs).map(conv).collect();
        let mut inputs = channels * BOX_SIDE * BOX_SIDE;
        let layer = |i: usize| {
            let name = format!("box_head.fc{}", i + 1);
            let layer = Fc::new(builder, &name, inputs, units, Init::Uniform);
            inputs = units;
            layer
        };
        Self { convs, layers: (0..layers).map(layer).collect() }
    }

    /// Features [R, 1, 1, U] of regions [R, 7, 7, C].
    pub(super) fn forward(
        &self,
        tape: &mut Tape,
        params: &Params,
        regions: Var,
        norm: &mut BnMode,
    ) -> Result<Var> {
        let mut h = regions;
        for conv in &self.convs {
            h = conv.forward(tape, params, &h, norm, true)?;
        }
        h = tape.apply(Flatten, &[&h])?;
        for layer in &self.layers {
            let y = layer.forward(tape, params, &h)?;
            h = tape.apply(Relu, &[&y])?;
        }
        Ok(h)
    }
}

/// From a row of features to classes and boxes.
pub(super) struct BoxPredictor {
    classes: Fc,
    boxes: Fc,
}

/// What regions show, wide: scores [R, 1, 1, K + 1], the background's last, and deltas [R, 1, 1, 4·K].
pub struct BoxOutput {
    /// Scores of classes.
    pub scores: Var,
    /// How the box of each class differs from the region.
    pub deltas: Var,
}

impl BoxPredictor {
    pub(super) fn new(builder: &mut Builder, inputs: usize, classes: usize) -> Self {
        let name = |what: &str| format!("box_predictor.{what}");
        let (scores, boxes) = (Init::Normal(0.01), Init::Normal(0.001));
        Self {
            classes: Fc::new(builder, &name("cls_score"), inputs, classes + 1, scores).wide(),
            boxes: Fc::new(builder, &name("bbox_pred"), inputs, 4 * classes, boxes).wide(),
        }
    }

    pub(super) fn forward(
        &self,
        tape: &mut Tape,
        params: &Params,
        features: &Var,
    ) -> Result<BoxOutput> {
        Ok(BoxOutput {
            scores: self.classes.forward(tape, params, features)?,
            deltas: self.boxes.forward(tape, params, features)?,
        })
    }
}

/// From a region to a mask for each class.
pub(super) struct MaskHead {
    convs: Vec<Layer>,
    deconv: Deconv,
    predictor: Conv,
}

impl MaskHead {
    /// Of regions of so many channels.
    pub(super) fn new(
        builder: &mut Builder,
        channels: usize,
        classes: usize,
        has_norm: bool,
    ) -> Self {
        let sizes = [channels, channels, 3];
        let conv = |i: usize| {
            let name = format!("mask_head.mask_fcn{}", i + 1);
            Layer::new(builder, &name, sizes, has_norm, Init::HeFanOut)
        };
        let convs = (0..4).map(conv).collect();
        let deconv = Deconv::new(builder, "mask_head.deconv", channels, channels);
        let init = Init::Normal(0.001);
        let predictor = Conv::new(builder, "mask_head.predictor", channels, classes, 1, init);
        Self { convs, deconv, predictor: predictor.wide() }
    }

    /// Logits [R, 28, 28, K], wide, of regions [R, 14, 14, C].
    pub(super) fn forward(
        &self,
        tape: &mut Tape,
        params: &Params,
        regions: Var,
        norm: &mut BnMode,
    ) -> Result<Var> {
        let mut h = regions;
        for conv in &self.convs {
            h = conv.forward(tape, params, &h, norm, true)?;
        }
        let up = self.deconv.forward(tape, params, &h)?;
        let up = tape.apply(Relu, &[&up])?;
        self.predictor.forward(tape, params, &up)
    }
}
