//! A net that says the class of each position: a backbone, dilated where its strides end, and the
//! heads of an FCN.

use super::fcn::{Dropout, Fcn, FcnHead, Scores};
use crate::error::Result;
use crate::nn::norm::{BnMode, RunningStats};
use crate::nn::params::Params;
use crate::nn::resnet::{Supernet, Trunk};
use crate::space::{Arch, STAGES, Space};
use crate::tape::{Tape, Var};

/// Backbone and heads of one architecture.
pub struct SegNet {
    net: Supernet,
    head: FcnHead,
    trunk: Trunk,
    arch: Arch,
}

impl SegNet {
    /// The largest net of a space, with heads; the last stage has a position for `output_stride`
    /// pixels a side.
    ///
    /// # Errors
    /// Those of [`Trunk::with_output_stride`].
    pub fn new(space: &Space, fcn: Fcn, output_stride: usize) -> Result<Self> {
        let (arch, trunk) = (space.max(), Trunk::with_output_stride(space, output_stride)?);
        let c4 = space.outputs(&arch, STAGES - 2);
        let (net, head) =
            Supernet::extended(space, None, |builder, c5| FcnHead::new(builder, [c4, c5], fcn));
        Ok(Self { net, head, trunk, arch })
    }

    /// All parameters and batch norms.
    pub fn net(&self) -> &Supernet {
        &self.net
    }

    /// The backbone's architecture.
    pub fn arch(&self) -> &Arch {
        &self.arch
    }

    /// Strides and dilations of the backbone.
    pub fn trunk(&self) -> &Trunk {
        &self.trunk
    }

    /// Sizes of the heads.
    pub fn fcn(&self) -> Fcn {
        self.head.fcn()
    }

    /// C4 and C5 of images `x` [N, H, W, C].
    ///
    /// # Errors
    /// Those of the ops.
    pub fn body(
        &self,
        tape: &mut Tape,
        params: &Params,
        x: Var,
        norm: &mut BnMode,
    ) -> Result<[Option<Var>; 2]> {
        let h = self.net.stem(tape, params, x, &self.arch, norm)?;
        let mut c4 = None;
        let range = 0..STAGES;
        let c5 =
            self.net.stages(tape, params, h, &self.arch, range, &self.trunk, norm, |s, h| {
                if s == STAGES - 2 {
                    c4 = Some(h.clone());
                }
            })?;
        Ok([c4, Some(c5)])
    }

    /// Scores of images `x`. In training, with `dropout`, also those of the auxiliary head. The
    /// backbone's batch norms have statistics of their own where `frozen` gives some.
    ///
    /// # Errors
    /// Those of the ops.
    pub fn forward(
        &self,
        tape: &mut Tape,
        params: &Params,
        x: Var,
        norm: &mut BnMode,
        frozen: Option<&RunningStats>,
        training: Option<Dropout>,
    ) -> Result<Scores> {
        let [c4, c5] = match frozen {
            Some(stats) => self.body(tape, params, x, &mut BnMode::Frozen(stats))?,
            None => self.body(tape, params, x, norm)?,
        };
        let c4 = c4.filter(|_| training.is_some());
        self.head.forward(tape, params, [c4.as_ref(), c5.as_ref()], norm, training)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cx::Cx;
    use crate::tensor::{DType, Shape};

    #[test]
    fn strides_become_dilations() {
        let trunk = |preset: &str, pixels| {
            let space = Space::preset(preset).unwrap();
            Trunk::with_output_stride(&space, pixels).map(|t| (t.strides, t.dilations))
        };
        assert_eq!(trunk("data", 8).unwrap(), ([1, 2, 1, 1], [1, 1, 2, 4]));
        assert_eq!(trunk("data", 16).unwrap(), ([1, 2, 2, 1], [1, 1, 1, 2]));
        assert_eq!(trunk("data", 32).unwrap(), ([1, 2, 2, 2], [1; 4]));
        assert!(trunk("data", 2).unwrap_err().to_string().contains("output stride of 4"));
        assert!(trunk("data", 12).is_err());
    }

    #[test]
    fn there_are_scores_for_each_position() {
        let cx = Cx::for_tests();
        let whole = Space::preset("tiny").unwrap();
        let space = whole.single(&whole.min());
        let stride = space.strides().iter().product::<usize>() * space.stem.stride;
        let fcn = Fcn { classes: 5, channels: 8, aux: true };
        let net = SegNet::new(&space, fcn, stride / 2).unwrap();
        let params = Params::init(&cx, net.net().specs(), 1).unwrap();
        let x = cx.zeros(Shape::nhwc(2, 32, 24, 3), DType::F32).unwrap();
        let run = |training| {
            let mut tape = Tape::inference(&cx);
            let x = tape.constant(x.clone());
            let mut norm = BnMode::Batch { group: 0 };
            net.forward(&mut tape, &params, x, &mut norm, None, training).unwrap()
        };
        let (h, w) = (32 / (stride / 2), 24 / (stride / 2));
        let scores = run(Some(Dropout { p: 0.1, seed: 1, at: 0 }));
        assert_eq!(scores.main.value().shape(), Shape::nhwc(2, h, w, 5));
        assert_eq!(scores.aux.unwrap().value().shape(), Shape::nhwc(2, h, w, 5));
        assert!(run(None).aux.is_none());
    }
}
