//! SGD with momentum and weight decay, and LARS, which scales its steps.

use rayon::prelude::*;

use super::{expect_alike, kernels, lars};
use crate::cx::{Cx, Exec};
use crate::error::Result;
use crate::nn::{Gradients, ParamSpec, Params, Role};
use crate::ops::CHUNK;
use crate::tensor::{Real, Tensor};

/// SGD: v ← μ·v + r·(g + λ·w); w ← w − lr·v. With r = 1 it is PyTorch's; with `trust` it is LARS,
/// whose r = η‖w‖ / ‖g + λ·w‖.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// μ.
    pub momentum: f64,
    /// λ.
    pub weight_decay: f64,
    /// Which parameters go without weight decay, and have r = 1.
    pub exempt: Exempt,
    /// LARS's η; none for plain SGD.
    pub trust: Option<f64>,
}

/// Parameters that go without weight decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exempt {
    /// None.
    Nothing,
    /// Scales and shifts of batch norms.
    Norms,
    /// Those, and biases.
    NormsAndBiases,
}

impl Exempt {
    /// Whether a parameter is one.
    fn holds(self, role: Role) -> bool {
        match self {
            Self::Nothing => false,
            Self::Norms => matches!(role, Role::NormScale | Role::NormShift),
            Self::NormsAndBiases => !role.is_weight(),
        }
    }
}

/// The constants of a parameter's step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Learning rate.
    pub lr: f64,
    /// r.
    pub ratio: f64,
    /// r·λ.
    pub decay: f64,
}

impl Sgd {
    /// Updates all parameters with their gradients, and their copies, and sets the gradients to
    /// zero. The rate of each is `lr` times its factor.
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
        factors: &[f64],
    ) -> Result<()> {
        expect_alike(params, "a gradient", grads.all())?;
        expect_alike(params, "a momentum", velocity.iter())?;
        let paces = self.paces(cx, params, grads, lr, factors)?;
        match cx.exec("sgd") {
            Exec::DryRun => {}
            Exec::Cpu => self.native(params, grads, velocity, &paces),
            Exec::Device(launcher) => {
                let step =
                    kernels::Step { momentum: self.momentum, paces: &paces, grads, velocity };
                kernels::update(cx, &launcher, params, step)?;
            }
        }
        Ok(())
    }

    /// The constants of each parameter's step.
    fn paces(
        &self,
        cx: &Cx,
        params: &Params,
        grads: &Gradients,
        lr: f64,
        factors: &[f64],
    ) -> Result<Vec<Pace>> {
        let sums = self.trust.map(|trust| Ok((trust, lars::sums(cx, params, grads)?)));
        let sums = sums.transpose()?;
        let pace = |(i, (spec, factor)): (usize, (&ParamSpec, &f64))| {
            let exempt = self.exempt.holds(spec.role);
            let decay = if exempt { 0.0 } else { self.weight_decay };
            let ratio = match &sums {
                Some((trust, sums)) if !exempt => sums[i].ratio(*trust, decay),
                _ => 1.0,
            };
            Pace { lr: lr * factor, ratio, decay: ratio * decay }
        };
        Ok(params.specs().iter().zip(factors).enumerate().map(pace).collect())
    }

    fn native(
        &self,
        params: &mut Params,
        grads: &mut Gradients,
        velocity: &mut [Tensor],
        paces: &[Pace],
    ) {
        let grads: Vec<&mut Tensor> = grads.all_mut().collect();
        let all = params.values_mut().par_iter_mut().zip(velocity).zip(paces);
        all.zip_eq(grads).for_each(|(((w, v), pace), g)| {
            crate::dispatch!(w.dtype(), T => update(
                w.host_mut::<T>(), g.host_mut::<T>(), v.host_mut::<T>(), self.momentum, pace,
            ));
        });
    }
}

fn update<T: Real>(w: &mut [T], g: &mut [T], v: &mut [T], momentum: f64, pace: &Pace) {
    let [momentum, ratio, decay, lr] = [momentum, pace.ratio, pace.decay, pace.lr].map(T::of);
    let chunks = w.par_chunks_mut(CHUNK).zip(g.par_chunks_mut(CHUNK)).zip(v.par_chunks_mut(CHUNK));
    chunks.for_each(|((w, g), v)| {
        for ((w, g), v) in w.iter_mut().zip(g).zip(v) {
            *v = momentum * *v + ratio * *g + decay * *w;
            *w -= lr * *v;
            *g = T::zero();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Init, Role};
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
        let sgd =
            Sgd { momentum: 0.9, weight_decay: 0.1, exempt: Exempt::NormsAndBiases, trust: None };
        for _ in 0..2 {
            for i in 0..2 {
                grads.get_mut(i).host_mut::<f32>().copy_from_slice(&[0.5, 0.25]);
            }
            let norm = grad_norm(&cx, &grads).unwrap();
            assert!((norm - (2.0f64 * (0.25 + 0.0625)).sqrt()).abs() < 1e-7);
            sgd.step(&cx, &mut params, &mut grads, &mut velocity, 0.1, &[1.0; 2]).unwrap();
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
