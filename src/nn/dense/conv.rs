//! Convolutions without batch norm.

use std::sync::Arc;

use crate::error::Result;
use crate::nn::builder::Builder;
use crate::nn::params::{Init, Params, Role};
use crate::ops::conv2d::Conv2d;
use crate::tape::{Tape, Var};
use crate::tensor::Shape;

/// A convolution with a bias.
pub(super) struct Conv {
    label: Arc<str>,
    op: Conv2d,
    /// Index of the weight; the bias follows it.
    weight: usize,
}

impl Conv {
    /// Of stride 1 that keeps the size, named as PyTorch names an `nn.Conv2d` called `name`. Its bias
    /// begins with 0.
    pub(super) fn new(
        builder: &mut Builder,
        name: &str,
        inputs: usize,
        cout: usize,
        kernel: usize,
        init: Init,
    ) -> Self {
        let shape = Shape([cout, kernel, kernel, inputs]);
        let weight = builder.param(format!("{name}.weight"), shape, Role::Conv, init);
        let zeros = Init::Constant(0.0);
        builder.param(format!("{name}.bias"), Shape::vector(cout), Role::Bias, zeros);
        Self { label: Arc::from(name), op: Conv2d::new(cout, kernel, 1), weight }
    }

    pub(super) fn forward(&self, tape: &mut Tape, params: &Params, x: &Var) -> Result<Var> {
        tape.label(&self.label);
        let [w, b] = [self.weight, self.weight + 1]
            .map(|i| tape.param(params.operand(i).clone(), i));
        tape.apply(self.op, &[x, &w, &b])
    }
}
