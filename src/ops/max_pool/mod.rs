//! The stem's max-pool: 3×3 windows, stride 2, padding 1.

mod cases;
mod cpu;
mod kernels;

use super::{Case, Grad, Op, Saved, expect_inputs, remember_size, remembered_size};
use crate::cx::{Cx, Exec};
use crate::error::Result;
use crate::tensor::{DType, Meta, Shape, Tensor};

/// The op. Input: x `[N,H,W,C]`. Output: `[N,⌈H/2⌉,⌈W/2⌉,C]`, the greatest value of each
/// window; NaN counts as greatest. Saves one byte per output: where in its window the first
/// greatest value lies. x itself is not needed again.
#[derive(Clone, Copy, Debug)]
pub struct MaxPool;

/// Shape of the output.
fn pooled(x: Shape) -> Shape {
    Shape::nhwc(x.n(), x.h().div_ceil(2), x.w().div_ceil(2), x.c())
}

/// Bytes lie in the elements of an f32 tensor, four in each.
fn winners(y: Shape) -> Meta {
    Meta::new(Shape::vector(y.elems().div_ceil(4)), DType::F32)
}

impl Op for MaxPool {
    const NAME: &'static str = "max_pool";

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
        expect_inputs(inputs, &["x"])?;
        Ok(Meta::new(pooled(inputs[0].shape), inputs[0].dtype))
    }

    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)> {
        let x = inputs[0];
        let y_shape = pooled(x.shape());
        let mut y = cx.alloc(Meta::new(y_shape, x.dtype()))?;
        let mut winner = cx.alloc(winners(y_shape))?;
        match cx.exec(Self::NAME) {
            Exec::DryRun => {}
            Exec::Cpu => {
                let winner = bytemuck::cast_slice_mut(winner.host_mut::<f32>());
                let winner = &mut winner[..y_shape.elems()];
                crate::dispatch!(x.dtype(), T => {
                    cpu::forward(x.shape(), x.host::<T>(), y.host_mut(), winner)
                });
            }
            Exec::Device(launcher) => kernels::forward(&launcher, x, &mut y, &mut winner)?,
        }
        Ok((y, vec![winner, remember_size(cx, x)?]))
    }

    fn backward(&self, cx: &Cx, saved: Saved, gy: Tensor, grads: &mut [Grad]) -> Result<()> {
        let (n, c) = (gy.shape().n(), gy.shape().c());
        let (h, w) = remembered_size(&saved[1]);
        let mut gx = cx.alloc(Meta::new(Shape::nhwc(n, h, w, c), gy.dtype()))?;
        match cx.exec(Self::NAME) {
            Exec::DryRun => {}
            Exec::Cpu => {
                let winner = &bytemuck::cast_slice(saved[0].host::<f32>())[..gy.shape().elems()];
                crate::dispatch!(gy.dtype(), T => {
                    cpu::backward(gx.shape(), winner, gy.host::<T>(), gx.host_mut())
                });
            }
            Exec::Device(launcher) => kernels::backward(&launcher, &saved[0], &gy, &mut gx)?,
        }
        grads[0].put(cx, gx)
    }

    fn cases() -> Vec<Case<Self>> {
        cases::all()
    }
}
