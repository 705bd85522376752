//! A feature map and one of half its size, which is the top-down path of an FPN.

mod cases;
mod cpu;
mod kernels;

use super::{Case, Grad, Op, Saved, expect_inputs, expect_shape};
use crate::cx::{Cx, Exec};
use crate::error::Result;
use crate::tensor::{Meta, Shape, Tensor};

/// The op: y\[h,w\] = a\[h,w\] + b\[⌊h/2⌋,⌊w/2⌋\]. Inputs: a `[N,H,W,C]`; b `[N,⌈H/2⌉,⌈W/2⌉,C]`.
/// Output: the shape of a. The gradient of b sums over the two or four positions that read it.
/// Saves nothing.
#[derive(Clone, Copy, Debug)]
pub struct UpsampleAdd;

/// Shape of b for that of a.
fn halved(a: Shape) -> Shape {
    Shape::nhwc(a.n(), a.h().div_ceil(2), a.w().div_ceil(2), a.c())
}

impl Op for UpsampleAdd {
    const NAME: &'static str = "upsample_add";

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
        expect_inputs(inputs, &["a", "b"])?;
        expect_shape("b", inputs[1].shape, halved(inputs[0].shape))?;
        Ok(inputs[0])
    }

    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)> {
        let (a, b) = (inputs[0], inputs[1]);
        let mut y = cx.alloc(a.meta())?;
        match cx.exec(Self::NAME) {
            Exec::DryRun => {}
            Exec::Cpu => crate::dispatch!(a.dtype(), T => {
                cpu::forward::<T>(a.shape(), a.host(), b.host(), y.host_mut())
            }),
            Exec::Device(launcher) => kernels::forward(&launcher, a, b, &mut y)?,
        }
        Ok((y, Vec::new()))
    }

    fn backward(&self, cx: &Cx, _: Saved, gy: Tensor, grads: &mut [Grad]) -> Result<()> {
        if grads[1].needed() {
            let mut gb = cx.alloc(Meta::new(halved(gy.shape()), gy.dtype()))?;
            match cx.exec(Self::NAME) {
                Exec::DryRun => {}
                Exec::Cpu => crate::dispatch!(gy.dtype(), T => {
                    cpu::backward::<T>(gy.shape(), gy.host(), gb.host_mut())
                }),
                Exec::Device(launcher) => kernels::backward(&launcher, &gy, &mut gb)?,
            }
            grads[1].put(cx, gb)?;
        }
        grads[0].put(cx, gy)
    }

    fn cases() -> Vec<Case<Self>> {
        cases::all()
    }
}
