//! Perceptrons of any number of layers on top of pooled features: projection heads, predictors,
//! classifiers. The first layer's columns are sliced to the channels that the subnet has.

use std::sync::Arc;

use super::builder::{BnPlace, Builder};
use super::norm::BnMode;
use super::params::{Init, Params, Role};
use crate::error::Result;
use crate::ops::batch_norm::BatchNorm;
use crate::ops::linear::Linear;
use crate::ops::relu::Relu;
use crate::tape::{Tape, Var};
use crate::tensor::{DType, Shape};

/// The batch norm of a [`Layer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bn {
    /// There is none.
    None,
    /// With γ and β.
    Affine,
    /// Without: PyTorch's `affine=False`.
    Plain,
}

/// Linear, then batch norm and ReLU where it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Outputs.
    pub out: usize,
    /// Whether the linear layer has a bias.
    pub bias: bool,
    /// Its batch norm.
    pub bn: Bn,
    /// Whether a ReLU follows.
    pub relu: bool,
}

/// A perceptron: its layers, the first one first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mlp(pub Vec<Layer>);

impl Mlp {
    /// MoCo v2's projection head, Linear → ReLU → Linear; or, with batch norms, Linear → BN → ReLU
    /// → Linear → BN, where the linear layers have no biases, which the norms would cancel, and the
    /// last norm has no affine parameters: what keeps embeddings of images that look alike apart
    /// from the first step on (as in SimCLR and MoCo v3).
    pub fn moco(hidden: usize, dim: usize, norm: bool) -> Self {
        let [first, last] = if norm { [Bn::Affine, Bn::Plain] } else { [Bn::None; 2] };
        Self(vec![
            Layer { out: hidden, bias: !norm, bn: first, relu: true },
            Layer { out: dim, bias: !norm, bn: last, relu: false },
        ])
    }

    /// BYOL's projector and predictor, Linear → BN → ReLU → Linear, without biases: the norm would
    /// cancel the first, and its code has no second.
    pub fn byol(hidden: usize, dim: usize) -> Self {
        Self(vec![
            Layer { out: hidden, bias: false, bn: Bn::Affine, relu: true },
            Layer { out: dim, bias: false, bn: Bn::None, relu: false },
        ])
    }

    /// One linear layer with a bias.
    pub fn linear(out: usize) -> Self {
        Self(vec![Layer { out, bias: true, bn: Bn::None, relu: false }])
    }

    /// Numbers of its output.
    pub fn dim(&self) -> usize {
        self.0.last().map_or(0, |layer| layer.out)
    }

    /// Whether a layer has a batch norm.
    pub fn has_batch_norm(&self) -> bool {
        self.0.iter().any(|layer| layer.bn != Bn::None)
    }
}

/// A layer's places among parameters and batch norms.
struct Placed {
    layer: Layer,
    label: Arc<str>,
    weight: usize,
    bias: Option<usize>,
    bn: Option<BnPlace>,
}

/// A perceptron that has its place in a net.
pub struct MlpLayers {
    mlp: Mlp,
    layers: Vec<Placed>,
}

impl Builder {
    /// Appends a perceptron of `inputs` inputs, named as PyTorch names an `nn.Sequential` called
    /// `name`. Weights begin with He's deviation of the fan-in, biases with 0.
    pub fn mlp(&mut self, name: &str, inputs: usize, mlp: &Mlp) -> MlpLayers {
        // An entry of the sequence for each of linear, batch norm and ReLU.
        let (mut at, mut inputs) = (0, inputs);
        let mut place = |layer: &Layer| {
            let linear = format!("{name}.{at}");
            let shape = Shape([layer.out, 1, 1, inputs]);
            let weight = self.param(format!("{linear}.weight"), shape, Role::Linear, Init::HeFanIn);
            let bias = layer.bias.then(|| {
                let shape = Shape::vector(layer.out);
                self.param(format!("{linear}.bias"), shape, Role::Bias, Init::Constant(0.0))
            });
            let norm = format!("{name}.{}", at + 1);
            let bn = match layer.bn {
                Bn::None => None,
                Bn::Affine => Some(self.batch_norm(&norm, layer.out, 1.0)),
                Bn::Plain => Some(self.plain_batch_norm(&norm)),
            };
            at += 1 + usize::from(bn.is_some()) + usize::from(layer.relu);
            inputs = layer.out;
            Placed { layer: *layer, label: Arc::from(linear), weight, bias, bn }
        };
        let layers = mlp.0.iter().map(&mut place).collect();
        MlpLayers { mlp: mlp.clone(), layers }
    }

    /// Appends one linear layer with a bias, named as PyTorch names an `nn.Linear` called `name`:
    /// a classifier. Its bias begins with 0.
    pub fn linear(&mut self, name: &str, inputs: usize, out: usize, init: Init) -> MlpLayers {
        let shape = Shape([out, 1, 1, inputs]);
        let weight = self.param(format!("{name}.weight"), shape, Role::Linear, init);
        let bias = (Shape::vector(out), Role::Bias, Init::Constant(0.0));
        let bias = Some(self.param(format!("{name}.bias"), bias.0, bias.1, bias.2));
        let mlp = Mlp::linear(out);
        let placed = Placed { layer: mlp.0[0], label: Arc::from(name), weight, bias, bn: None };
        MlpLayers { mlp, layers: vec![placed] }
    }
}

impl MlpLayers {
    /// Its sizes.
    pub fn mlp(&self) -> &Mlp {
        &self.mlp
    }

    /// Outputs [N, dim] of `x` [N, C].
    ///
    /// # Errors
    /// Those of the ops.
    pub fn forward(
        &self,
        tape: &mut Tape,
        params: &Params,
        x: &Var,
        norm: &mut BnMode,
    ) -> Result<Var> {
        let mut h = x.clone();
        for placed in &self.layers {
            h = placed.forward(tape, params, &h, norm)?;
        }
        Ok(h)
    }
}

impl Placed {
    fn forward(&self, tape: &mut Tape, params: &Params, x: &Var, norm: &mut BnMode) -> Result<Var> {
        let param = |tape: &Tape, i: usize| tape.param(params.operand(i).clone(), i);
        let Layer { out, relu, .. } = self.layer;
        tape.label(&self.label);
        let (w, b) = (param(tape, self.weight), self.bias.map(|b| param(tape, b)));
        let mut inputs = vec![x, &w];
        inputs.extend(&b);
        let y = tape.apply(Linear::new(out), &inputs)?;
        let Some(bn) = self.bn else {
            return if relu { tape.apply(Relu, &[&y]) } else { Ok(y) };
        };
        let (stats, given) = norm.resolve(tape, bn.index, &y)?;
        let constant = |tape: &Tape, value| -> Result<Var> {
            Ok(tape.constant(tape.cx().full(Shape::vector(out), DType::F32, value)?))
        };
        let (gamma, beta) = match bn.gamma {
            Some(i) => (param(tape, i), param(tape, i + 1)),
            None => (constant(tape, 1.0)?, constant(tape, 0.0)?),
        };
        let mut inputs = vec![&y, &gamma, &beta];
        inputs.extend(given.as_ref());
        tape.apply(BatchNorm { stats, add: false, relu }, &inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(mlp: &Mlp) -> (Vec<String>, Vec<String>) {
        let mut builder = Builder::default();
        builder.mlp("head", 8, mlp);
        let (specs, norms) = builder.finish();
        (specs.into_iter().map(|s| s.name).collect(), norms)
    }

    #[test]
    fn names_are_those_of_a_sequential() {
        let (params, norms) = names(&Mlp::moco(4, 2, false));
        assert_eq!(params, ["head.0.weight", "head.0.bias", "head.2.weight", "head.2.bias"]);
        assert!(norms.is_empty());
        let (params, norms) = names(&Mlp::moco(4, 2, true));
        assert_eq!(params, ["head.0.weight", "head.1.weight", "head.1.bias", "head.3.weight"]);
        assert_eq!(norms, ["head.1", "head.4"]);
        assert_eq!(names(&Mlp::linear(3)).0, ["head.0.weight", "head.0.bias"]);
    }
}
