//! An optimizer with what it remembers between steps.

use super::Sgd;
use crate::cx::Cx;
use crate::error::Result;
use crate::files::{Entry, Named};
use crate::nn::{Gradients, ParamSpec, Params};
use crate::tensor::{DType, Tensor};

/// SGD or LARS and its momentum buffers, one a parameter.
pub struct Optimizer {
    settings: Sgd,
    /// What the learning rate of each parameter is multiplied by.
    factors: Vec<f64>,
    velocity: Vec<Tensor>,
}

impl Optimizer {
    /// At rest: all momentum is 0.
    pub fn new(cx: &Cx, settings: Sgd, specs: &[ParamSpec]) -> Result<Self> {
        let zeros = |s: &ParamSpec| cx.zeros(s.shape, DType::F32);
        let velocity = specs.iter().map(zeros).collect::<Result<_>>()?;
        Ok(Self { settings, factors: vec![1.0; specs.len()], velocity })
    }

    /// With a factor of the learning rate for each parameter.
    pub fn with_factors(self, factors: Vec<f64>) -> Self {
        Self { factors, ..self }
    }

    /// Its settings.
    pub fn settings(&self) -> &Sgd {
        &self.settings
    }

    /// Momentum of each parameter.
    pub fn velocity(&self) -> &[Tensor] {
        &self.velocity
    }

    /// The same, to write.
    pub fn velocity_mut(&mut self) -> &mut [Tensor] {
        &mut self.velocity
    }

    /// Updates all parameters, and their copies, with the rate `lr`, and sets the gradients to zero.
    ///
    /// # Errors
    /// As [`Sgd::step`].
    pub fn update(
        &mut self,
        cx: &Cx,
        params: &mut Params,
        grads: &mut Gradients,
        lr: f64,
    ) -> Result<()> {
        self.settings.step(cx, params, grads, &mut self.velocity, lr, &self.factors)
    }

    /// What checkpoints keep: `momentum.NAME` for each parameter, in PyTorch's layout.
    pub fn state(&self, cx: &Cx, specs: &[ParamSpec]) -> Result<Vec<Entry>> {
        let one = |(spec, v): (&ParamSpec, &Tensor)| {
            let values = spec.to_torch(&cx.download(v)?);
            Ok((momentum(spec), spec.torch_shape(), values))
        };
        specs.iter().zip(&self.velocity).map(one).collect()
    }

    /// Takes up what [`Optimizer::state`] gave; `origin` names the file in errors.
    ///
    /// # Errors
    /// [`Kind::Data`](crate::Kind::Data) where a tensor is missing or of another shape.
    pub fn restore(
        &mut self,
        cx: &Cx,
        specs: &[ParamSpec],
        named: &Named,
        origin: &str,
    ) -> Result<()> {
        let renamed = |s: &ParamSpec| ParamSpec { name: momentum(s), ..s.clone() };
        let specs: Vec<ParamSpec> = specs.iter().map(renamed).collect();
        self.velocity = Params::from_torch(cx, &specs, named, origin)?.into_values();
        Ok(())
    }
}

fn momentum(spec: &ParamSpec) -> String {
    format!("momentum.{}", spec.name)
}
