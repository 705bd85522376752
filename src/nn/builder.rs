//! Lays layers out: names of parameters and batch norms, in the order in which files have them.

use super::params::{Init, ParamSpec, Role};
use crate::tensor::Shape;

/// Parameters and batch norms, appended layer by layer.
#[derive(Default)]
pub struct Builder {
    specs: Vec<ParamSpec>,
    norms: Vec<String>,
}

/// Places of a batch norm.
#[derive(Clone, Copy, Debug)]
pub struct BnPlace {
    /// Index among the batch norms, by which statistics are kept.
    pub index: usize,
    /// Index of γ among the parameters, β following it; none without affine parameters.
    pub gamma: Option<usize>,
}

impl Builder {
    /// Appends a parameter; gives its index.
    pub fn param(&mut self, name: String, shape: Shape, role: Role, init: Init) -> usize {
        self.specs.push(ParamSpec { name, shape, role, init });
        self.specs.len() - 1
    }

    /// Appends a batch norm with γ, which begins as `gamma`, and β, which begins as 0.
    pub fn batch_norm(&mut self, name: &str, channels: usize, gamma: f32) -> BnPlace {
        let vector = Shape::vector(channels);
        let scale = (Role::NormScale, Init::Constant(gamma));
        let first = self.param(format!("{name}.weight"), vector, scale.0, scale.1);
        self.param(format!("{name}.bias"), vector, Role::NormShift, Init::Constant(0.0));
        BnPlace { gamma: Some(first), ..self.plain_batch_norm(name) }
    }

    /// Appends a batch norm without affine parameters.
    pub fn plain_batch_norm(&mut self, name: &str) -> BnPlace {
        self.norms.push(name.to_owned());
        BnPlace { index: self.norms.len() - 1, gamma: None }
    }

    /// Parameters so far.
    pub fn params(&self) -> usize {
        self.specs.len()
    }

    /// All parameters and the names of all batch norms.
    pub(super) fn finish(self) -> (Vec<ParamSpec>, Vec<String>) {
        (self.specs, self.norms)
    }
}
