//! Rows of unit length: y = x / max(‖x‖, ε).

mod cases;
mod cpu;
mod kernels;

use super::{Case, Grad, Op, Saved, expect_inputs, unshared};
use crate::cx::{Cx, Exec};
use crate::error::Result;
use crate::tensor::{Meta, Shape, Tensor};

/// Least length that is divided by, as in PyTorch's `normalize`.
pub const EPS: f64 = 1e-12;

/// The op. Input: x `[N,H,W,C]`, whose rows are the N·H·W vectors of C channels. Output: the
/// same shape. Saves y and the lengths.
#[derive(Clone, Copy, Debug)]
pub struct L2Normalise;

impl Op for L2Normalise {
    const NAME: &'static str = "l2_normalise";

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
        expect_inputs(inputs, &["x"])?;
        Ok(inputs[0])
    }

    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)> {
        let x = inputs[0];
        let mut y = cx.alloc(x.meta())?;
        let mut lengths =
            cx.alloc(Meta::new(Shape::vector(x.shape().rows()), x.dtype().accumulation()))?;
        match cx.exec(Self::NAME) {
            Exec::DryRun => {}
            Exec::Cpu => crate::dispatch!(x.dtype(), T => {
                cpu::forward(x.shape().c(), x.host::<T>(), y.host_mut(), lengths.host_mut())
            }),
            Exec::Device(launcher) => kernels::forward(&launcher, x, &mut y, &mut lengths)?,
        }
        Ok((y.clone(), vec![y, lengths]))
    }

    fn backward(&self, cx: &Cx, saved: Saved, gy: Tensor, grads: &mut [Grad]) -> Result<()> {
        let (y, lengths) = (&saved[0], &saved[1]);
        let mut gy = unshared(cx, gy)?;
        match cx.exec(Self::NAME) {
            Exec::DryRun => {}
            Exec::Cpu => crate::dispatch!(y.dtype(), T => {
                cpu::backward(y.shape().c(), y.host::<T>(), lengths.host(), gy.host_mut())
            }),
            Exec::Device(launcher) => kernels::backward(&launcher, y, lengths, &mut gy)?,
        }
        grads[0].put(cx, gy)
    }

    fn cases() -> Vec<Case<Self>> {
        cases::all()
    }
}
