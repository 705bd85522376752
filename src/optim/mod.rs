//! Updates of parameters: SGD with momentum, the teacher's moving average, the learning
//! rate's schedule, and the norm of the gradient.

use rayon::prelude::*;

use crate::device::Cx;
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

impl Sgd {
    /// Updates all parameters with their gradients and sets the gradients to zero.
    pub fn step(
        &self,
        cx: &Cx,
        params: &mut Params,
        grads: &mut Gradients,
        velocity: &mut [Tensor],
        lr: f64,
    ) -> Result<()> {
        let decays: Vec<f64> =
            params
                .specs()
                .iter()
                .map(|s| {
                    if self.decay_exempt && s.role.decay_exempt() { 0.0 } else { self.weight_decay }
                })
                .collect();
        cx.run_native("sgd", || {
            let grads = grads.0.par_iter_mut().flatten();
            let all = params.values_mut().par_iter_mut().zip(velocity).zip(decays);
            all.zip_eq(grads.collect::<Vec<_>>()).for_each(|(((w, v), decay), g)| {
                crate::dispatch!(w.dtype(), T => update(
                    w.host_mut::<T>(), g.host_mut::<T>(), v.host_mut::<T>(),
                    T::of(self.momentum), T::of(decay), T::of(lr),
                ));
            });
            Ok(())
        })
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

/// The teacher's moving average: θt ← m·θt + (1−m)·θs.
pub fn ema(cx: &Cx, teacher: &mut Params, student: &Params, m: f64) -> Result<()> {
    cx.run_native("ema", || {
        let pairs = teacher.values_mut().par_iter_mut().zip(student.values());
        pairs.for_each(|(t, s)| {
            crate::dispatch!(t.dtype(), T => {
                let (keep, take) = (T::of(m), T::of(1.0 - m));
                t.host_mut::<T>().par_chunks_mut(CHUNK).zip(s.host::<T>().par_chunks(CHUNK)).for_each(
                    |(t, s)| t.iter_mut().zip(s).for_each(|(t, s)| *t = keep * *t + take * *s),
                )
            });
        });
        Ok(())
    })
}

/// Euclidean norm of all gradients together; not finite where one of them is not.
pub fn grad_norm(cx: &Cx, grads: &Gradients) -> f64 {
    if cx.is_plan() {
        return 0.0;
    }
    let square = |t: &Tensor| -> f64 {
        crate::dispatch!(t.dtype(), T => {
            let chunks: Vec<f64> = t.host::<T>().par_chunks(CHUNK).map(sum_of_squares).collect();
            chunks.iter().sum()
        })
    };
    let sums: Vec<f64> = grads.0.par_iter().map(|g| g.as_ref().map_or(0.0, square)).collect();
    sums.iter().sum::<f64>().sqrt()
}

/// In f64, eight sums side by side so that the compiler can use vectors.
fn sum_of_squares<T: Real>(x: &[T]) -> f64 {
    let mut sums = [0.0; 8];
    let mut rows = x.chunks_exact(8);
    for row in &mut rows {
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += x.f64() * x.f64();
        }
    }
    sums.iter().sum::<f64>() + rows.remainder().iter().map(|x| x.f64() * x.f64()).sum::<f64>()
}

/// Learning rate of a step: rises linearly from 0 over `warmup` steps, then falls to 0 along
/// half a cosine: lr/2·(1 + cos(π·(step − warmup)/(steps − warmup))).
pub fn cosine_lr(lr: f64, step: u64, steps: u64, warmup: u64) -> f64 {
    if step < warmup {
        return lr * (step + 1) as f64 / warmup as f64;
    }
    let part = (step - warmup) as f64 / (steps.saturating_sub(warmup)).max(1) as f64;
    0.5 * lr * (1.0 + (std::f64::consts::PI * part.min(1.0)).cos())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{ParamSpec, Role};
    use crate::tensor::{DType, Shape};

    #[test]
    fn sgd_is_pytorchs() {
        let cx = Cx::for_tests();
        let spec = |role| ParamSpec { name: "w".into(), shape: Shape::vector(2), role };
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
            assert!((grad_norm(&cx, &grads) - (2.0f64 * (0.25 + 0.0625)).sqrt()).abs() < 1e-7);
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

    #[test]
    fn schedule_has_the_right_ends() {
        assert_eq!(cosine_lr(1.0, 0, 100, 0), 1.0);
        assert!((cosine_lr(1.0, 50, 100, 0) - 0.5).abs() < 1e-12);
        assert!(cosine_lr(1.0, 99, 100, 0) < 3e-4);
        assert_eq!(cosine_lr(1.0, 0, 100, 10), 0.1);
        assert_eq!(cosine_lr(1.0, 9, 100, 10), 1.0);
        assert_eq!(cosine_lr(1.0, 10, 100, 10), 1.0);
    }
}
