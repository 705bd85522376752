//! The net's building blocks: a convolution with its batch norm, and residual blocks of these.

use std::sync::Arc;

use super::builder::{BnPlace, Builder};
use super::norm::BnMode;
use super::params::{Init, Params, Role};
use crate::error::Result;
use crate::ops::batch_norm::BatchNorm;
use crate::ops::conv2d::Conv2d;
use crate::space;
use crate::tape::{Tape, Var};
use crate::tensor::Shape;

/// A convolution and the batch norm behind it.
pub(super) struct ConvBn {
    conv_label: Arc<str>,
    bn_label: Arc<str>,
    /// Index of the convolution's weight.
    weight: usize,
    bn: BnPlace,
}

pub(super) struct Block {
    /// A ReLU follows each of these.
    inner: Vec<ConvBn>,
    /// Whose output the shortcut is added to.
    last: ConvBn,
    shortcut: Option<ConvBn>,
}

impl Builder {
    pub(super) fn conv_bn(
        &mut self,
        conv: String,
        bn: String,
        shape: [usize; 4],
        gamma: f32,
    ) -> ConvBn {
        self.conv_bn_from(conv, bn, shape, gamma, Init::HeFanOut)
    }

    /// The same with other initial values.
    pub(super) fn conv_bn_from(
        &mut self,
        conv: String,
        bn: String,
        shape: [usize; 4],
        gamma: f32,
        init: Init,
    ) -> ConvBn {
        let weight = self.param(format!("{conv}.weight"), Shape(shape), Role::Conv, init);
        let place = self.batch_norm(&bn, shape[0], gamma);
        ConvBn { conv_label: Arc::from(conv), bn_label: Arc::from(bn), weight, bn: place }
    }

    /// The last batch norm's γ begins as 0, so that the block begins as the identity.
    pub(super) fn block(
        &mut self,
        name: &str,
        kind: space::Block,
        inputs: usize,
        width: usize,
        first: bool,
    ) -> Block {
        let (out, kernels) = (width * kind.expansion(), kind.kernels());
        let last = kernels.len() - 1;
        let mut conv = |i: usize, cout: usize, gamma| {
            let (k, cin) = (kernels[i], if i == 0 { inputs } else { width });
            let (conv, bn) = (format!("{name}.conv{}", i + 1), format!("{name}.bn{}", i + 1));
            self.conv_bn(conv, bn, [cout, k, k, cin], gamma)
        };
        let inner = (0..last).map(|i| conv(i, width, 1.0)).collect();
        let last = conv(last, out, 0.0);
        let shortcut = first.then(|| {
            let (conv, bn) = (format!("{name}.downsample.0"), format!("{name}.downsample.1"));
            self.conv_bn(conv, bn, [out, 1, 1, inputs], 1.0)
        });
        Block { inner, last, shortcut }
    }
}

impl ConvBn {
    /// relu?(bn(conv(x)) + residual?).
    #[allow(clippy::too_many_arguments)]
    pub(super) fn forward(
        &self,
        tape: &mut Tape,
        params: &Params,
        x: &Var,
        conv: Conv2d,
        norm: &mut BnMode,
        residual: Option<Var>,
        relu: bool,
    ) -> Result<Var> {
        let param = |tape: &Tape, i: usize| tape.param(params.operand(i).clone(), i);
        tape.label(&self.conv_label);
        let w = param(tape, self.weight);
        let y = tape.apply(conv, &[x, &w])?;
        tape.label(&self.bn_label);
        let (stats, given) = norm.resolve(tape, self.bn.index, &y)?;
        // γ and β follow the weight.
        let (gamma, beta) = (param(tape, self.weight + 1), param(tape, self.weight + 2));
        let mut inputs = vec![&y, &gamma, &beta];
        inputs.extend(residual.as_ref());
        inputs.extend(given.as_ref());
        let y = tape.apply(BatchNorm { stats, add: residual.is_some(), relu }, &inputs)?;
        if relu {
            norm.show(tape.cx(), y.value())?;
        }
        Ok(y)
    }
}

/// How large a block is in an architecture.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub kind: space::Block,
    pub width: usize,
    pub stride_and_dilation: [usize; 2],
}

impl Sizes {
    fn out(&self) -> usize {
        self.width * self.kind.expansion()
    }

    /// Its convolution with this index.
    fn conv(&self, i: usize) -> Conv2d {
        let (kernels, [stride, dilation]) = (self.kind.kernels(), self.stride_and_dilation);
        let kernel = kernels[i];
        let dilation = if kernel == 1 { 1 } else { dilation };
        Conv2d {
            cout: if i + 1 == kernels.len() { self.out() } else { self.width },
            kernel,
            stride: if i == self.kind.strided() { stride } else { 1 },
            pad: dilation * (kernel / 2),
            dilation,
            wide: false,
        }
    }
}

impl Block {
    /// relu(convolutions(x) + shortcut(x)), with a ReLU between the convolutions.
    pub(super) fn forward(
        &self,
        tape: &mut Tape,
        params: &Params,
        x: Var,
        sizes: Sizes,
        norm: &mut BnMode,
    ) -> Result<Var> {
        let mut h = x.clone();
        for (i, layer) in self.inner.iter().enumerate() {
            h = layer.forward(tape, params, &h, sizes.conv(i), norm, None, true)?;
        }
        let residual = match &self.shortcut {
            Some(shortcut) => {
                let conv = Conv2d::new(sizes.out(), 1, sizes.stride_and_dilation[0]);
                shortcut.forward(tape, params, &x, conv, norm, None, false)?
            }
            None => x.clone(),
        };
        drop(x);
        let conv = sizes.conv(self.inner.len());
        self.last.forward(tape, params, &h, conv, norm, Some(residual), true)
    }
}
