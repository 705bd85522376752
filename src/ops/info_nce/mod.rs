//! InfoNCE (van den Oord et al., 2018) against a queue of negatives, as in MoCo; and with any target
//! in the place of the positive, as ReSSL needs it.

mod cases;
pub(super) mod cpu;
pub(super) mod kernels;

use super::{Case, Grad, Op, Saved, expect_inputs, expect_mixed, expect_shape};
use crate::cx::{Cx, Exec};
use crate::error::{Error, Result};
use crate::tensor::{Meta, Real, Shape, Tensor};

/// The op, with l = q·queueⱼ/τ the logits of a row and its second input the positive k or a
/// target t:
///
/// - `own`: weight · mean over rows of −log softmax(\[q·k/τ, l₁, …\])\[0\], with k of q's type;
/// - else: weight · mean of log Σⱼ exp(lⱼ) − q·t/τ, with t of the type
///   [`DType::accumulation`](crate::tensor::DType::accumulation). With t = Σⱼ Pⱼ·queueⱼ it is the
///   cross-entropy of P with the softmax of the logits, since logits are linear in q.
///
/// Inputs: q `[N,1,1,D]`, rows of unit length; k or t `[N,1,1,D]`, constant; queue `[K,1,1,D]`,
/// constant. Output: one element, of the type
/// [`DType::accumulation`](crate::tensor::DType::accumulation). The N×K logits
/// are never stored; forward makes the direction of q's gradient on the way (saved,
/// `[N,1,1,D]`, wide), so that they are computed once.
#[derive(Clone, Copy, Debug)]
pub struct InfoNCE {
    /// Temperature τ.
    pub tau: f64,
    /// Factor of the loss.
    pub weight: f64,
    /// Whether the second input is the row's own key, and a logit among the others.
    pub own: bool,
}

impl Op for InfoNCE {
    const NAME: &'static str = "info_nce";

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
        let second = if self.own {
            expect_inputs(inputs, &["q", "k", "queue"])?;
            "k"
        } else {
            expect_mixed(inputs, &["q", "target", "queue"], &["target"])?;
            "target"
        };
        expect_tau(self.tau)?;
        let (q, queue) = (inputs[0].shape, inputs[2].shape);
        expect_shape("q", q, Shape::matrix(q.n(), q.c()))?;
        expect_shape(second, inputs[1].shape, q)?;
        expect_shape("queue", queue, Shape::matrix(queue.n(), q.c()))?;
        Ok(Meta::new(Shape::vector(1), inputs[0].dtype.accumulation()))
    }

    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)> {
        let (q, k, queue) = (inputs[0], inputs[1], inputs[2]);
        let mut loss = cx.alloc(self.infer(&[q.meta(), k.meta(), queue.meta()])?)?;
        let mut direction = cx.alloc(Meta::new(q.shape(), loss.dtype()))?;
        match cx.exec(Self::NAME) {
            Exec::DryRun => drop(parts(cx, q, queue)?),
            Exec::Cpu => {
                let (split, mut parts) = parts(cx, q, queue)?;
                crate::dispatch!(q.dtype(), T => {
                    let parts = parts.host_mut::<T>();
                    cpu::sum_parts(&split, self.tau, q.host(), queue.host(), parts);
                    let direction = direction.host_mut();
                    let mean = cpu::combine(self, &split, q.host(), k.host(), parts, direction);
                    loss.host_mut()[0] = T::of(self.weight * mean);
                });
            }
            Exec::Device(launches) => {
                let inputs = [q, k, queue];
                kernels::forward(self, cx, &launches, inputs, &mut loss, &mut direction)?;
            }
        }
        // Of q, its type alone is wanted later.
        let of_type = cx.alloc(Meta::new(Shape::vector(0), q.dtype()))?;
        Ok((loss, vec![direction, of_type]))
    }

    fn backward(&self, cx: &Cx, mut saved: Saved, gy: Tensor, grads: &mut [Grad]) -> Result<()> {
        if grads[1].needed() || grads[2].needed() {
            return Err(Error::usage("k or the target, and the queue, are constants: no gradient"));
        }
        let q = Meta::new(saved[0].shape(), saved[1].dtype());
        let direction = saved.swap_remove(0);
        let gq = match cx.exec(Self::NAME) {
            Exec::Device(launches) => {
                let mut gq = cx.alloc(q)?;
                kernels::backward(self, &launches, &direction, &gy, &mut gq)?;
                gq
            }
            Exec::DryRun => cx.alloc(q)?,
            Exec::Cpu => {
                let mut gq = super::unshared(cx, direction)?;
                crate::dispatch!(gq.dtype(), T => {
                    let g = gy.host::<T>()[0].f64();
                    let factor = T::of(g * self.weight / (self.tau * gq.shape().n() as f64));
                    gq.host_mut::<T>().iter_mut().for_each(|x| *x *= factor);
                });
                gq
            }
        };
        grads[0].put(cx, gq)
    }

    fn cases() -> Vec<Case<Self>> {
        cases::all()
    }
}

/// Fails unless a temperature is above 0.
pub(super) fn expect_tau(tau: f64) -> Result<()> {
    if tau.is_finite() && tau > 0.0 {
        return Ok(());
    }
    Err(Error::usage(format!("expected a tau above 0; found {tau}")))
}

/// How native code cuts the logits, and memory for its tasks' results.
pub(super) fn parts(cx: &Cx, q: &Tensor, queue: &Tensor) -> Result<(cpu::Split, Tensor)> {
    let split = cpu::Split::new(q.shape().n(), queue.shape().n(), q.shape().c());
    let parts = cx.alloc(Meta::new(Shape::vector(split.elems()), q.dtype()))?;
    Ok((split, parts))
}
