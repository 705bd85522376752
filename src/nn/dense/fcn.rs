//! The heads of a fully convolutional net (Long et al., CVPR 2015), as MMSegmentation's FCN has them:
//! two convolutions on C5, a third on their output beside C5, and a classifier of positions; in
//! training an auxiliary one on C4. Names are MMSegmentation's.

use super::conv::Conv;
use crate::error::Result;
use crate::nn::block::ConvBn;
use crate::nn::builder::Builder;
use crate::nn::norm::BnMode;
use crate::nn::params::{Init, Params};
use crate::ops::concat::Concat;
use crate::ops::conv2d::Conv2d;
use crate::ops::scale_channels::{ScaleChannels, dropout2d};
use crate::tape::{Tape, Var};
use crate::tensor::{DType, Shape};

/// Sizes of the heads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fcn {
    /// Number of classes.
    pub classes: usize,
    /// Channels of convolutions; the auxiliary head has half as many.
    pub channels: usize,
    /// Whether there is an auxiliary head.
    pub aux: bool,
}

/// The heads in a net.
pub(super) struct FcnHead {
    fcn: Fcn,
    convs: [ConvBn; 2],
    cat: ConvBn,
    classifier: Conv,
    aux: Option<(ConvBn, Conv)>,
}

/// Scores of classes [N, h, w, K], wide, at the positions of C5, and, of the auxiliary head, of C4.
pub struct Scores {
    /// Those of the head.
    pub main: Var,
    /// Those of the auxiliary head.
    pub aux: Option<Var>,
}

/// Channels that dropout leaves out of a batch: functions of seed and step.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// Share of channels.
    pub p: f64,
    /// The run's seed.
    pub seed: u64,
    /// Place of the batch in the run.
    pub at: u64,
}

impl Dropout {
    /// Factors of the channels of images [images, channels], for head `which`: 0 is the main one.
    pub fn mask(&self, which: u16, images: usize, channels: usize) -> Vec<f32> {
        dropout2d(self.seed, self.at, which, images, channels, self.p)
    }
}

/// Kernel of the convolutions.
const KERNEL: usize = 3;

impl FcnHead {
    /// Appends the heads, on C4 and C5 of so many channels.
    pub(super) fn new(builder: &mut Builder, [c4, c5]: [usize; 2], fcn: Fcn) -> Self {
        let mut conv_bn = |name: &str, inputs, cout| {
            let shape = [cout, KERNEL, KERNEL, inputs];
            builder.conv_bn(format!("{name}.conv"), format!("{name}.bn"), shape, 1.0)
        };
        let channels = fcn.channels;
        let convs = [
            conv_bn("decode_head.convs.0", c5, channels),
            conv_bn("decode_head.convs.1", channels, channels),
        ];
        let cat = conv_bn("decode_head.conv_cat", c5 + channels, channels);
        let init = Init::Normal(0.01);
        let classes = fcn.classes;
        let classifier =
            Conv::new(builder, "decode_head.conv_seg", channels, classes, 1, init).wide();
        let aux = fcn.aux.then(|| {
            let (name, half) = ("auxiliary_head", channels / 2);
            let shape = [half, KERNEL, KERNEL, c4];
            let conv = format!("{name}.convs.0");
            let conv = builder.conv_bn(format!("{conv}.conv"), format!("{conv}.bn"), shape, 1.0);
            (conv, Conv::new(builder, &format!("{name}.conv_seg"), half, classes, 1, init).wide())
        });
        Self { fcn, convs, cat, classifier, aux }
    }

    /// Its sizes.
    pub(super) fn fcn(&self) -> Fcn {
        self.fcn
    }

    /// Scores of classes. The auxiliary head is for training alone: without `c4` it is left out.
    ///
    /// # Errors
    /// Those of the ops.
    pub(super) fn forward(
        &self,
        tape: &mut Tape,
        params: &Params,
        [c4, c5]: [Option<&Var>; 2],
        norm: &mut BnMode,
        dropout: Option<Dropout>,
    ) -> Result<Scores> {
        let conv = |cout| Conv2d::new(cout, KERNEL, 1);
        let Fcn { channels, .. } = self.fcn;
        let c5 = c5.ok_or_else(|| crate::Error::usage("an FCN reads C5: it was not given"))?;
        let first = self.convs[0].forward(tape, params, c5, conv(channels), norm, None, true)?;
        let second =
            self.convs[1].forward(tape, params, &first, conv(channels), norm, None, true)?;
        drop(first);
        let both = tape.apply(Concat, &[c5, &second])?;
        drop(second);
        let h = self.cat.forward(tape, params, &both, conv(channels), norm, None, true)?;
        drop(both);
        let h = drop_channels(tape, h, dropout, 0)?;
        let main = self.classifier.forward(tape, params, &h)?;
        let aux = match (&self.aux, c4) {
            (Some((layer, classifier)), Some(c4)) => {
                let half = conv(channels / 2);
                let h = layer.forward(tape, params, c4, half, norm, None, true)?;
                let h = drop_channels(tape, h, dropout, 1)?;
                Some(classifier.forward(tape, params, &h)?)
            }
            _ => None,
        };
        Ok(Scores { main, aux })
    }
}

/// Dropout of whole channels, of which head `which` has its own.
fn drop_channels(tape: &mut Tape, x: Var, dropout: Option<Dropout>, which: u16) -> Result<Var> {
    let Some(dropout) = dropout.filter(|dropout| dropout.p > 0.0) else { return Ok(x) };
    let [n, _, _, c] = x.value().shape().0;
    let mask = dropout.mask(which, n, c);
    let mask = tape.constant(tape.cx().upload(Shape::matrix(n, c), DType::F32, &mask)?);
    tape.apply(ScaleChannels, &[&x, &mask])
}
