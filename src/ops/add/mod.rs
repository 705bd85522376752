//! y = a + b.

mod cases;
mod cpu;
mod kernels;

use super::{Case, Grad, Op, Saved, expect_float, expect_inputs, expect_shape};
use crate::cx::{Cx, Exec};
use crate::error::{Error, Result};
use crate::tensor::{Meta, Tensor};

/// The op. Inputs: a and b of one shape. Output: the same shape. Saves nothing.
#[derive(Clone, Copy, Debug)]
pub struct Add;

/// sum += x, for x of the sum's type and shape.
pub fn accumulate(cx: &Cx, sum: &mut Tensor, x: &Tensor) -> Result<()> {
    if x.meta() != sum.meta() {
        return Err(Error::usage(format!("cannot add {x:?} to {sum:?}: expected one shape")));
    }
    expect_float("a sum", &sum.meta())?;
    match cx.exec(Add::NAME) {
        Exec::DryRun => Ok(()),
        Exec::Cpu => {
            crate::dispatch!(x.dtype(), T => cpu::accumulate(sum.host_mut::<T>(), x.host()));
            Ok(())
        }
        Exec::Device(launcher) => kernels::accumulate(&launcher, sum, x),
    }
}

impl Op for Add {
    const NAME: &'static str = "add";

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
        expect_inputs(inputs, &["a", "b"])?;
        expect_shape("b", inputs[1].shape, inputs[0].shape)?;
        Ok(inputs[0])
    }

    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)> {
        let (a, b) = (inputs[0], inputs[1]);
        let mut y = cx.alloc(a.meta())?;
        match cx.exec(Self::NAME) {
            Exec::DryRun => {}
            Exec::Cpu => {
                crate::dispatch!(a.dtype(), T => cpu::add(a.host::<T>(), b.host(), y.host_mut()));
            }
            Exec::Device(launcher) => kernels::forward(&launcher, a, b, &mut y)?,
        }
        Ok((y, Vec::new()))
    }

    fn backward(&self, cx: &Cx, _: Saved, gy: Tensor, grads: &mut [Grad]) -> Result<()> {
        // Both gradients are gy; each may be written later, so they must not share it.
        if grads[0].needed() && grads[1].needed() {
            let copy = cx.copy(&gy)?;
            grads[0].put(cx, copy)?;
            grads[1].put(cx, gy)
        } else {
            let wanted = if grads[0].needed() { 0 } else { 1 };
            grads[wanted].put(cx, gy)
        }
    }

    fn cases() -> Vec<Case<Self>> {
        cases::all()
    }
}
