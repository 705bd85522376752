//! The projection head on top of the pooled features: Linear → ReLU → Linear, the first
//! layer's columns sliced to the channels that the subnet has. With batch norms it is
//! Linear → BN → ReLU → Linear → BN, where the linear layers have no biases, which the norms
//! would cancel, and the last norm has no affine parameters: what keeps embeddings of images
//! that look alike apart from the first step on (as in SimCLR and MoCo v3).

use std::sync::Arc;

use super::norm::{self, Norm};
use super::params::{ParamSpec, Params, Role};
use crate::error::Result;
use crate::ops::linear::Linear;
use crate::ops::relu::Relu;
use crate::tape::{Tape, Var};
use crate::tensor::{DType, Shape};

/// A two-layer perceptron, MoCo v2's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MlpHead {
    /// Width of the hidden layer.
    pub hidden: usize,
    /// Size of the embedding.
    pub dim: usize,
    /// Whether batch norms follow both linear layers, the last one without affine parameters.
    pub norm: bool,
}

/// The head's place among the parameters and batch norms.
pub(super) struct HeadLayers {
    spec: MlpHead,
    first: usize,
    /// Index of the first of its batch norms, where it has them.
    norms: Option<usize>,
    labels: [Arc<str>; 2],
}

impl HeadLayers {
    /// Appends the head's parameters and batch norms, named as PyTorch names those of an
    /// `nn.Sequential` called `head`.
    pub(super) fn new(
        spec: &MlpHead,
        channels: usize,
        specs: &mut Vec<ParamSpec>,
        norms: &mut Vec<String>,
    ) -> Self {
        let first = specs.len();
        let mut add = |name: &str, shape, role| {
            specs.push(ParamSpec { name: name.into(), shape, role });
        };
        let (hidden, dim) = (spec.hidden, spec.dim);
        let second = if spec.norm { "head.3" } else { "head.2" };
        add("head.0.weight", Shape([hidden, 1, 1, channels]), Role::Linear);
        if spec.norm {
            add("head.1.weight", Shape::vector(hidden), Role::NormScale);
            add("head.1.bias", Shape::vector(hidden), Role::NormShift);
            add("head.3.weight", Shape([dim, 1, 1, hidden]), Role::Linear);
        } else {
            add("head.0.bias", Shape::vector(hidden), Role::Bias);
            add("head.2.weight", Shape([dim, 1, 1, hidden]), Role::Linear);
            add("head.2.bias", Shape::vector(dim), Role::Bias);
        }
        let norm_index = spec.norm.then_some(norms.len());
        if spec.norm {
            norms.extend(["head.1".to_owned(), "head.4".to_owned()]);
        }
        let labels = [Arc::from("head.0"), Arc::from(second)];
        Self { spec: spec.clone(), first, norms: norm_index, labels }
    }

    /// Sizes.
    pub(super) fn spec(&self) -> &MlpHead {
        &self.spec
    }

    /// Embeddings [N, dim] of pooled features [N, C], not normalised to unit length.
    pub(super) fn forward(
        &self,
        tape: &mut Tape,
        params: &Params,
        pooled: &Var,
        norm: &mut Norm,
    ) -> Result<Var> {
        let Self { spec, first, .. } = self;
        let p = |tape: &Tape, i: usize| tape.param(params.operand(first + i).clone(), first + i);
        tape.label(&self.labels[0]);
        let (w0, p1) = (p(tape, 0), p(tape, 1));
        let Some(index) = self.norms else {
            let h = tape.apply(Linear { out: spec.hidden }, &[pooled, &w0, &p1])?;
            let h = tape.apply(Relu, &[&h])?;
            tape.label(&self.labels[1]);
            let (w, b) = (p(tape, 2), p(tape, 3));
            return tape.apply(Linear { out: spec.dim }, &[&h, &w, &b]);
        };
        let h = tape.apply(Linear { out: spec.hidden }, &[pooled, &w0])?;
        let h = batch_norm(tape, norm, index, h, &p1, &p(tape, 2), true)?;
        tape.label(&self.labels[1]);
        let w = p(tape, 3);
        let z = tape.apply(Linear { out: spec.dim }, &[&h, &w])?;
        let cx = tape.cx();
        let constant = |value| -> Result<Var> {
            Ok(tape.constant(cx.full(Shape::vector(spec.dim), DType::F32, value)?))
        };
        let (gamma, beta) = (constant(1.0)?, constant(0.0)?);
        batch_norm(tape, norm, index + 1, z, &gamma, &beta, false)
    }
}

fn batch_norm(
    tape: &mut Tape,
    norm: &mut Norm,
    index: usize,
    x: Var,
    gamma: &Var,
    beta: &Var,
    relu: bool,
) -> Result<Var> {
    let (stats, given) = norm.resolve(tape, index, &x)?;
    let mut inputs = vec![&x, gamma, beta];
    if let Some((mean, var)) = &given {
        inputs.extend([mean, var]);
    }
    tape.apply(norm::op(stats, false, relu), &inputs)
}
