//! y = max(x, 0).

mod cases;
mod cpu;
mod kernels;

use super::{Case, Grad, Op, Saved, expect_inputs, unshared};
use crate::cx::{Cx, Exec};
use crate::error::Result;
use crate::tensor::{Meta, Tensor};

/// The op. Input: x of any shape. Output: the same shape. Saves y.
#[derive(Clone, Copy, Debug)]
pub struct Relu;

impl Op for Relu {
    const NAME: &'static str = "relu";

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
        expect_inputs(inputs, &["x"])?;
        Ok(inputs[0])
    }

    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)> {
        let x = inputs[0];
        let mut y = cx.alloc(x.meta())?;
        match cx.exec(Self::NAME) {
            Exec::DryRun => {}
            Exec::Cpu => {
                crate::dispatch!(x.dtype(), T => cpu::forward(x.host::<T>(), y.host_mut()));
            }
            Exec::Device(launcher) => kernels::forward(&launcher, x, &mut y)?,
        }
        Ok((y.clone(), vec![y]))
    }

    fn backward(&self, cx: &Cx, saved: Saved, gy: Tensor, grads: &mut [Grad]) -> Result<()> {
        let mut gy = unshared(cx, gy)?;
        let y = &saved[0];
        match cx.exec(Self::NAME) {
            Exec::DryRun => {}
            Exec::Cpu => {
                crate::dispatch!(gy.dtype(), T => cpu::backward(y.host::<T>(), gy.host_mut()));
            }
            Exec::Device(launcher) => kernels::backward(&launcher, y, &mut gy)?,
        }
        grads[0].put(cx, gy)
    }

    fn cases() -> Vec<Case<Self>> {
        cases::all()
    }
}
