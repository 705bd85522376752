//! SGD with momentum and weight decay.

use rayon::prelude::*;

use super::{expect_alike, kernels};
use crate::cx::{Cx, Exec};
use crate::error::Result;
use crate::nn::{Gradients, Params};
use crate::ops::CHUNK;
use crate::tensor::{Real, Tensor};

/// SGD as PyTorch defines it: v ← μ·v + g + λ·w; w ← w − lr·v.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// μ.
    pub momentum: f64,
    /// λ.
    pub weight_decay: f64,
    /// Whether batch norms and biases go without weight decay.
    pub decay_exempt: bool,
}

/// Learning rates of a step.
pub(super) struct Rates<'a> {
    /// That of all parameters.
    pub lr: f64,
    /// What it is multiplied by for each parameter; 1 where there is no entry.
    pub factors: &'a [f64],
}

impl Rates<'_> {
    /// The factor of parameter `i`.
    pub(super) fn factor(&self, i: usize) -> f64 {
        self.factors.get(i).copied().unwrap_or(1.0)
    }
}

impl Sgd {
    /// Updates all parameters with their gradients, and their copies, and sets the gradients to
    /// zero.
    ///
    /// # Errors
    /// [`Kind::Usage`](crate::Kind::Usage) where there is not one tensor of the same shape for
    /// each parameter, or one is empty.
    pub fn step(
        &self,
        cx: &Cx,
        params: &mut Params,
        grads: &mut Gradients,
        velocity: &mut [Tensor],
        lr: f64,
    ) -> Result<()> {
        self.step_at(cx, params, grads, velocity, &Rates { lr, factors: &[] })
    }

    /// The same with a learning rate for each parameter.
    pub(super) fn step_at(
        &self,
        cx: &Cx,
        params: &mut Params,
        grads: &mut Gradients,
        velocity: &mut [Tensor],
        rates: &Rates,
    ) -> Result<()> {
        expect_alike(params, "a gradient", grads.all())?;
        expect_alike(params, "a momentum", velocity.iter())?;
        match cx.exec("sgd") {
            Exec::DryRun => {}
            Exec::Cpu => self.native(params, grads, velocity, rates),
            Exec::Device(launcher) => {
                let step = kernels::Step { sgd: self, rates, grads, velocity };
                kernels::update(cx, &launcher, params, step)?;
            }
        }
        Ok(())
    }

    /// λ of each parameter.
    pub(super) fn decays<'a>(&'a self, params: &'a Params) -> impl Iterator<Item = f64> + 'a {
        let exempt = |s: &crate::nn::ParamSpec| self.decay_exempt && s.role.decay_exempt();
        params.specs().iter().map(move |s| if exempt(s) { 0.0 } else { self.weight_decay })
    }

    fn native(
        &self,
        params: &mut Params,
        grads: &mut Gradients,
        velocity: &mut [Tensor],
        rates: &Rates,
    ) {
        let decays: Vec<(usize, f64)> = self.decays(params).enumerate().collect();
        let grads: Vec<&mut Tensor> = grads.all_mut().collect();
        let all = params.values_mut().par_iter_mut().zip(velocity).zip(decays);
        all.zip_eq(grads).for_each(|(((w, v), (i, decay)), g)| {
            crate::dispatch!(w.dtype(), T => update(
                w.host_mut::<T>(), g.host_mut::<T>(), v.host_mut::<T>(),
                T::of(self.momentum), T::of(decay), T::of(rates.lr) * T::of(rates.factor(i)),
            ));
        });
    }
}

fn update<T: Real>(w: &mut [T], g: &mut [T], v: &mut [T], momentum: T, decay: T, lr: T) {
    let chunks = w.par_chunks_mut(CHUNK).zip(g.par_chunks_mut(CHUNK)).zip(v.par_chunks_mut(CHUNK));
    chunks.for_each(|((w, g), v)| {
        for ((w, g), v) in w.iter_mut().zip(g).zip(v) {
            *v = momentum * *v + *g + decay * *w;
            *w -= lr * *v;
            *g = T::zero();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Init, ParamSpec, Role};
    use crate::optim::grad_norm;
    use crate::tensor::{DType, Shape};

    #[test]
    fn sgd_is_pytorchs() {
        let cx = Cx::for_tests();
        let spec = |role| {
            let (name, init) = ("w".into(), Init::Constant(0.0));
            ParamSpec { name, shape: Shape::vector(2), role, init }
        };
        let specs = [spec(Role::Linear), spec(Role::Bias)];
        let mut params = Params::init(&cx, &specs, 0).unwrap();
        let mut grads = Gradients::zeros(&cx, &specs).unwrap();
        let mut velocity: Vec<Tensor> =
            (0..2).map(|_| cx.zeros(Shape::vector(2), DType::F32).unwrap()).collect();
        for w in params.values_mut() {
            w.host_mut::<f32>().copy_from_slice(&[1.0, -2.0]);
        }
        let sgd = Sgd { momentum: 0.9, weight_decay: 0.1, decay_exempt: true };
        for _ in 0..2 {
            for i in 0..2 {
                grads.get_mut(i).host_mut::<f32>().copy_from_slice(&[0.5, 0.25]);
            }
            let norm = grad_norm(&cx, &grads).unwrap();
            assert!((norm - (2.0f64 * (0.25 + 0.0625)).sqrt()).abs() < 1e-7);
            sgd.step(&cx, &mut params, &mut grads, &mut velocity, 0.1).unwrap();
        }
        // By hand: v1 = 0.5 + 0.1·1 = 0.6, w1 = 0.94; v2 = 0.54 + 0.5 + 0.094, w2 = 0.94 − 0.1134.
        let w = params.values()[0].host::<f32>();
        assert!((w[0] - 0.8266).abs() < 1e-6, "{w:?}");
        // Without decay: v1 = 0.5, w1 = 0.95; v2 = 0.95, w2 = 0.855.
        let b = params.values()[1].host::<f32>();
        assert!((b[0] - 0.855).abs() < 1e-6, "{b:?}");
        assert!(grads.get(0).host::<f32>().iter().all(|&g| g == 0.0));
    }
}
