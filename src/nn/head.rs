//! The projection head on top of the pooled features: Linear → ReLU → Linear, the first
//! layer's columns sliced to the channels that the subnet has.

use std::sync::Arc;

use super::params::{ParamSpec, Params, Role};
use crate::error::Result;
use crate::ops::linear::Linear;
use crate::ops::relu::Relu;
use crate::tape::{Tape, Var};
use crate::tensor::Shape;

/// A two-layer perceptron, MoCo v2's head.
#[derive(Clone, Debug)]
pub struct MlpHead {
    /// Width of the hidden layer.
    pub hidden: usize,
    /// Size of the embedding.
    pub dim: usize,
}

/// The head's place among the parameters.
pub(super) struct HeadLayers {
    spec: MlpHead,
    first: usize,
    labels: [Arc<str>; 2],
}

impl HeadLayers {
    pub(super) fn new(spec: &MlpHead, channels: usize, specs: &mut Vec<ParamSpec>) -> Self {
        let first = specs.len();
        let mut add = |name: &str, shape, role| {
            specs.push(ParamSpec { name: name.into(), shape, role });
        };
        add("head.0.weight", Shape([spec.hidden, 1, 1, channels]), Role::Linear);
        add("head.0.bias", Shape::vector(spec.hidden), Role::Bias);
        add("head.2.weight", Shape([spec.dim, 1, 1, spec.hidden]), Role::Linear);
        add("head.2.bias", Shape::vector(spec.dim), Role::Bias);
        Self { spec: spec.clone(), first, labels: [Arc::from("head.0"), Arc::from("head.2")] }
    }

    /// Sizes.
    pub(super) fn spec(&self) -> &MlpHead {
        &self.spec
    }

    /// Embeddings [N, dim] of pooled features [N, C], not normalised.
    pub(super) fn forward(&self, tape: &mut Tape, params: &Params, pooled: &Var) -> Result<Var> {
        let p = |i: usize| params.operand(self.first + i).clone();
        tape.label(&self.labels[0]);
        let (w, b) = (tape.param(p(0), self.first), tape.param(p(1), self.first + 1));
        let h = tape.apply(Linear { out: self.spec.hidden }, &[pooled, &w, &b])?;
        let h = tape.apply(Relu, &[&h])?;
        tape.label(&self.labels[1]);
        let (w, b) = (tape.param(p(2), self.first + 2), tape.param(p(3), self.first + 3));
        tape.apply(Linear { out: self.spec.dim }, &[&h, &w, &b])
    }
}
