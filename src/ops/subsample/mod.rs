//! Every second row and column: what makes P6 of P5.

mod cases;
mod cpu;
mod kernels;

use super::{Case, Grad, Op, Saved, expect_inputs, remember_size, remembered_size};
use crate::cx::{Cx, Exec};
use crate::error::Result;
use crate::tensor::{Meta, Shape, Tensor};

/// The op: max-pooling with kernel 1 and stride 2, y\[i,j\] = x\[2i,2j\]. Input: x `[N,H,W,C]`.
/// Output: `[N,⌈H/2⌉,⌈W/2⌉,C]`. The gradient of positions that are not read is 0. Saves height and
/// width.
#[derive(Clone, Copy, Debug)]
pub struct Subsample;

/// Shape of the output.
fn halved(x: Shape) -> Shape {
    Shape::nhwc(x.n(), x.h().div_ceil(2), x.w().div_ceil(2), x.c())
}

impl Op for Subsample {
    const NAME: &'static str = "subsample";

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
        expect_inputs(inputs, &["x"])?;
        Ok(Meta::new(halved(inputs[0].shape), inputs[0].dtype))
    }

    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)> {
        let x = inputs[0];
        let mut y = cx.alloc(self.infer(&[x.meta()])?)?;
        match cx.exec(Self::NAME) {
            Exec::DryRun => {}
            Exec::Cpu => crate::dispatch!(x.dtype(), T => {
                cpu::forward(x.shape(), x.host::<T>(), y.host_mut())
            }),
            Exec::Device(launcher) => kernels::forward(&launcher, x, &mut y)?,
        }
        Ok((y, vec![remember_size(cx, x)?]))
    }

    fn backward(&self, cx: &Cx, saved: Saved, gy: Tensor, grads: &mut [Grad]) -> Result<()> {
        let (h, w) = remembered_size(&saved[0]);
        let shape = Shape::nhwc(gy.shape().n(), h, w, gy.shape().c());
        let mut gx = cx.alloc(Meta::new(shape, gy.dtype()))?;
        match cx.exec(Self::NAME) {
            Exec::DryRun => {}
            Exec::Cpu => crate::dispatch!(gy.dtype(), T => {
                cpu::backward(shape, gy.host::<T>(), gx.host_mut())
            }),
            Exec::Device(launcher) => kernels::backward(&launcher, &gy, &mut gx)?,
        }
        grads[0].put(cx, gx)
    }

    fn cases() -> Vec<Case<Self>> {
        cases::all()
    }
}
