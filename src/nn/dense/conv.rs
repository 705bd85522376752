//! Convolutions with a bias or a batch norm, and linear layers, of heads.

use std::sync::Arc;

use crate::error::Result;
use crate::nn::block::ConvBn;
use crate::nn::builder::Builder;
use crate::nn::norm::BnMode;
use crate::nn::params::{Init, Params, Role};
use crate::ops::conv_transpose2d::ConvTranspose2d;
use crate::ops::conv2d::Conv2d;
use crate::ops::linear::Linear;
use crate::ops::relu::Relu;
use crate::tape::{Tape, Var};
use crate::tensor::Shape;

/// A weight with a bias behind it.
struct Weighted {
    label: Arc<str>,
    /// Index of the weight; the bias follows it.
    weight: usize,
}

impl Weighted {
    /// The bias begins with 0.
    fn new(
        builder: &mut Builder,
        name: &str,
        shape: Shape,
        biases: usize,
        role: Role,
        init: Init,
    ) -> Self {
        let weight = builder.param(format!("{name}.weight"), shape, role, init);
        let zeros = Init::Constant(0.0);
        builder.param(format!("{name}.bias"), Shape::vector(biases), Role::Bias, zeros);
        Self { label: Arc::from(name), weight }
    }

    fn vars(&self, tape: &mut Tape, params: &Params) -> [Var; 2] {
        tape.label(&self.label);
        [self.weight, self.weight + 1].map(|i| tape.param(params.operand(i).clone(), i))
    }
}

/// A convolution with a bias.
pub(super) struct Conv {
    inner: Weighted,
    op: Conv2d,
}

impl Conv {
    /// Of stride 1 that keeps the size, named as PyTorch names an `nn.Conv2d` called `name`.
    pub(super) fn new(
        builder: &mut Builder,
        name: &str,
        inputs: usize,
        cout: usize,
        kernel: usize,
        init: Init,
    ) -> Self {
        let shape = Shape([cout, kernel, kernel, inputs]);
        let inner = Weighted::new(builder, name, shape, cout, Role::Conv, init);
        Self { inner, op: Conv2d::new(cout, kernel, 1) }
    }

    /// With outputs that stay f32 where tensors are narrow: what is predicted is compared, and of few
    /// values too many would be equal.
    pub(super) fn wide(self) -> Self {
        Self { op: Conv2d { wide: true, ..self.op }, ..self }
    }

    pub(super) fn forward(&self, tape: &mut Tape, params: &Params, x: &Var) -> Result<Var> {
        let [w, b] = self.inner.vars(tape, params);
        tape.apply(self.op, &[x, &w, &b])
    }
}

/// A transposed convolution of kernel and stride 2 with a bias.
pub(super) struct Deconv {
    inner: Weighted,
    op: ConvTranspose2d,
}

impl Deconv {
    pub(super) fn new(builder: &mut Builder, name: &str, inputs: usize, cout: usize) -> Self {
        let shape = Shape([inputs, 2, 2, cout]);
        // Of the weight's own first dimension, as PyTorch takes the fan-out of such a layer.
        let inner = Weighted::new(builder, name, shape, cout, Role::Conv, Init::HeFanOut);
        Self { inner, op: ConvTranspose2d { cout, kernel: 2, stride: 2 } }
    }

    pub(super) fn forward(&self, tape: &mut Tape, params: &Params, x: &Var) -> Result<Var> {
        let [w, b] = self.inner.vars(tape, params);
        tape.apply(self.op, &[x, &w, &b])
    }
}

/// A linear layer.
pub(super) struct Fc {
    inner: Weighted,
    op: Linear,
}

impl Fc {
    pub(super) fn new(
        builder: &mut Builder,
        name: &str,
        inputs: usize,
        out: usize,
        init: Init,
    ) -> Self {
        let shape = Shape([out, 1, 1, inputs]);
        let inner = Weighted::new(builder, name, shape, out, Role::Linear, init);
        Self { inner, op: Linear::new(out) }
    }

    /// With outputs that stay f32 where tensors are narrow, as [`Conv::wide`].
    pub(super) fn wide(self) -> Self {
        Self { op: Linear { wide: true, ..self.op }, ..self }
    }

    pub(super) fn forward(&self, tape: &mut Tape, params: &Params, x: &Var) -> Result<Var> {
        let [w, b] = self.inner.vars(tape, params);
        tape.apply(self.op, &[x, &w, &b])
    }
}

/// A convolution with a batch norm, or with a bias.
pub(super) enum Layer {
    Norm(ConvBn, Conv2d),
    Bias(Conv),
}

impl Layer {
    /// Of stride 1 that keeps the size; its batch norm is called `NAME.norm`.
    pub(super) fn new(
        builder: &mut Builder,
        name: &str,
        [inputs, cout, kernel]: [usize; 3],
        has_norm: bool,
        init: Init,
    ) -> Self {
        match has_norm {
            true => {
                let shape = [cout, kernel, kernel, inputs];
                let (conv, norm) = (name.to_owned(), format!("{name}.norm"));
                let layer = builder.conv_bn_from(conv, norm, shape, 1.0, init);
                Self::Norm(layer, Conv2d::new(cout, kernel, 1))
            }
            false => Self::Bias(Conv::new(builder, name, inputs, cout, kernel, init)),
        }
    }

    pub(super) fn forward(
        &self,
        tape: &mut Tape,
        params: &Params,
        x: &Var,
        norm: &mut BnMode,
        relu: bool,
    ) -> Result<Var> {
        match self {
            Self::Norm(layer, op) => layer.forward(tape, params, x, *op, norm, None, relu),
            Self::Bias(conv) => {
                let y = conv.forward(tape, params, x)?;
                if relu { tape.apply(Relu, &[&y]) } else { Ok(y) }
            }
        }
    }
}
