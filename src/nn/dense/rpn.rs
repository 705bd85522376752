//! Region proposal net (Ren et al., NeurIPS 2015): of each anchor of each position of each level
//! whether it shows an object, and how the object's box differs. Names are detectron2's.

use super::conv::Conv;
use crate::error::Result;
use crate::nn::builder::Builder;
use crate::nn::params::{Init, Params};
use crate::ops::relu::Relu;
use crate::tape::{Tape, Var};

/// The net's layers, the same for all levels.
pub(super) struct Rpn {
    conv: Conv,
    logits: Conv,
    deltas: Conv,
}

/// What it says of a level, wide: logits [N, h, w, A] and deltas [N, h, w, 4·A].
pub struct RpnOutput {
    /// Whether there are objects.
    pub logits: Var,
    /// How their boxes differ from the anchors.
    pub deltas: Var,
}

impl Rpn {
    /// Of levels of so many channels, with so many anchors a position.
    pub(super) fn new(builder: &mut Builder, channels: usize, anchors: usize) -> Self {
        let init = Init::Normal(0.01);
        let mut conv = |name: &str, cout, kernel| {
            Conv::new(builder, &format!("rpn_head.{name}"), channels, cout, kernel, init)
        };
        Self {
            conv: conv("conv", channels, 3),
            logits: conv("objectness_logits", anchors, 1).wide(),
            deltas: conv("anchor_deltas", 4 * anchors, 1).wide(),
        }
    }

    pub(super) fn forward(
        &self,
        tape: &mut Tape,
        params: &Params,
        level: &Var,
    ) -> Result<RpnOutput> {
        let h = self.conv.forward(tape, params, level)?;
        let h = tape.apply(Relu, &[&h])?;
        Ok(RpnOutput {
            logits: self.logits.forward(tape, params, &h)?,
            deltas: self.deltas.forward(tape, params, &h)?,
        })
    }
}
