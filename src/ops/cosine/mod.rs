//! How far predictions are from targets of unit length, as in BYOL.

mod cases;
mod cpu;
mod kernels;

use super::{Case, Grad, Op, Saved, expect_inputs, expect_shape};
use crate::cx::{Cx, Exec};
use crate::error::{Error, Result};
use crate::tensor::{Meta, Real, Shape, Tensor};

/// The op: weight · mean over rows of 2 − 2·p·k, which is ‖p − k‖² where both have unit length.
/// Inputs: p `[N,1,1,D]`; k `[N,1,1,D]`, constant. Output: one element, of the type
/// [`DType::accumulation`](crate::tensor::DType::accumulation). Saves k.
#[derive(Clone, Copy, Debug)]
pub struct Cosine {
    /// Factor of the loss.
    pub weight: f64,
}

impl Op for Cosine {
    const NAME: &'static str = "cosine";

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
        expect_inputs(inputs, &["p", "k"])?;
        let p = inputs[0].shape;
        expect_shape("p", p, Shape::matrix(p.n(), p.c()))?;
        expect_shape("k", inputs[1].shape, p)?;
        Ok(Meta::new(Shape::vector(1), inputs[0].dtype.accumulation()))
    }

    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)> {
        let (p, k) = (inputs[0], inputs[1]);
        let mut loss = cx.alloc(self.infer(&[p.meta(), k.meta()])?)?;
        match cx.exec(Self::NAME) {
            Exec::DryRun => {}
            Exec::Cpu => crate::dispatch!(p.dtype(), T => {
                let mean = cpu::mean::<T>(p.shape().c(), p.host(), k.host());
                loss.host_mut()[0] = T::of(self.weight * mean);
            }),
            Exec::Device(launcher) => {
                kernels::forward(cx, &launcher, self.weight, [p, k], &mut loss)?;
            }
        }
        Ok((loss, vec![k.clone()]))
    }

    fn backward(&self, cx: &Cx, saved: Saved, gy: Tensor, grads: &mut [Grad]) -> Result<()> {
        if grads[1].needed() {
            return Err(Error::usage("k is constant: no gradient"));
        }
        let k = &saved[0];
        let factor = -2.0 * self.weight / k.shape().n() as f64;
        let mut gp = cx.alloc(k.meta())?;
        match cx.exec(Self::NAME) {
            Exec::DryRun => {}
            Exec::Cpu => crate::dispatch!(k.dtype(), T => {
                let factor = T::of(gy.host::<T>()[0].f64() * factor);
                cpu::scale(factor, k.host(), gp.host_mut());
            }),
            Exec::Device(launcher) => kernels::backward(&launcher, factor, k, &gy, &mut gp)?,
        }
        grads[0].put(cx, gp)
    }

    fn cases() -> Vec<Case<Self>> {
        cases::all()
    }
}
