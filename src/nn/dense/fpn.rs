//! Feature pyramid (Lin et al., CVPR 2017): every level of the backbone with the same channels, each
//! with what lies above it added. Names are detectron2's.

use super::conv::Layer;
use crate::error::Result;
use crate::nn::builder::Builder;
use crate::nn::norm::BnMode;
use crate::nn::params::{Init, Params};
use crate::ops::subsample::Subsample;
use crate::ops::upsample_add::UpsampleAdd;
use crate::space::STAGES;
use crate::tape::{Tape, Var};

/// Levels of the pyramid: one a stage, and one above.
pub const LEVELS: usize = STAGES + 1;

/// The pyramid's layers.
pub(super) struct Fpn {
    /// Of each stage, from the first: the 1×1 and the 3×3 convolution.
    stages: Vec<[Layer; 2]>,
}

impl Fpn {
    /// On stages of so many channels; with batch norms behind its convolutions, or biases.
    pub(super) fn new(
        builder: &mut Builder,
        inputs: [usize; STAGES],
        channels: usize,
        has_norm: bool,
    ) -> Self {
        let mut stage = |(s, input): (usize, usize)| {
            let mut layer = |what: &str, sizes| {
                let name = format!("fpn_{what}{}", s + 2);
                Layer::new(builder, &name, sizes, has_norm, Init::Uniform)
            };
            [layer("lateral", [input, channels, 1]), layer("output", [channels, channels, 3])]
        };
        Self { stages: inputs.into_iter().enumerate().map(&mut stage).collect() }
    }

    /// P2 to P6 of C2 to C5, each of half the side of the one before.
    pub(super) fn forward(
        &self,
        tape: &mut Tape,
        params: &Params,
        levels: &[Var],
        norm: &mut BnMode,
    ) -> Result<Vec<Var>> {
        let mut above: Option<Var> = None;
        let mut out = Vec::with_capacity(LEVELS);
        for ([lateral, output], level) in self.stages.iter().zip(levels).rev() {
            let own = lateral.forward(tape, params, level, norm, false)?;
            let sum = match above {
                Some(above) => tape.apply(UpsampleAdd, &[&own, &above])?,
                None => own,
            };
            out.push(output.forward(tape, params, &sum, norm, false)?);
            above = Some(sum);
        }
        let p6 = tape.apply(Subsample, &[&out[0]])?;
        out.reverse();
        out.push(p6);
        Ok(out)
    }
}
