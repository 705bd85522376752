//! Two feature maps side by side in their channels.

mod cases;
mod cpu;
mod kernels;

use super::{Case, Grad, Op, Saved, expect_inputs, expect_shape};
use crate::cx::{Cx, Exec};
use crate::error::Result;
use crate::tensor::{Meta, Shape, Tensor};

/// The op. Inputs: a `[N,H,W,Ca]` and b `[N,H,W,Cb]`. Output: `[N,H,W,Ca+Cb]`, a's channels first.
/// Saves nothing but the number of a's channels.
#[derive(Clone, Copy, Debug)]
pub struct Concat;

impl Op for Concat {
    const NAME: &'static str = "concat";

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
        expect_inputs(inputs, &["a", "b"])?;
        let [n, h, w, ca] = inputs[0].shape.0;
        let cb = inputs[1].shape.c();
        expect_shape("b", inputs[1].shape, Shape::nhwc(n, h, w, cb))?;
        Ok(Meta::new(Shape::nhwc(n, h, w, ca + cb), inputs[0].dtype))
    }

    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)> {
        let (a, b) = (inputs[0], inputs[1]);
        let mut y = cx.alloc(self.infer(&[a.meta(), b.meta()])?)?;
        match cx.exec(Self::NAME) {
            Exec::DryRun => {}
            Exec::Cpu => crate::dispatch!(a.dtype(), T => {
                let parts = [a, b].map(|t| (t.host::<T>(), t.shape().c()));
                cpu::forward(parts, y.host_mut());
            }),
            Exec::Device(launcher) => kernels::forward(&launcher, [a, b], &mut y)?,
        }
        // An empty tensor stands for a's channels.
        let channels = Meta::new(Shape([a.shape().c(), 0, 0, 0]), a.dtype());
        Ok((y, vec![cx.alloc(channels)?]))
    }

    fn backward(&self, cx: &Cx, saved: Saved, gy: Tensor, grads: &mut [Grad]) -> Result<()> {
        let ([n, h, w, c], ca) = (gy.shape().0, saved[0].shape().n());
        for (grad, (from, channels)) in grads.iter_mut().zip([(0, ca), (ca, c - ca)]) {
            if !grad.needed() {
                continue;
            }
            let mut g = cx.alloc(Meta::new(Shape::nhwc(n, h, w, channels), gy.dtype()))?;
            match cx.exec(Self::NAME) {
                Exec::DryRun => {}
                Exec::Cpu => crate::dispatch!(gy.dtype(), T => {
                    cpu::backward((gy.host::<T>(), c), from, (g.host_mut(), channels));
                }),
                Exec::Device(launcher) => kernels::backward(&launcher, &gy, from, &mut g)?,
            }
            grad.put(cx, g)?;
        }
        Ok(())
    }

    fn cases() -> Vec<Case<Self>> {
        cases::all()
    }
}
