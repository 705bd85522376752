//! Binary cross-entropy of logits.

mod cases;
mod cpu;
mod kernels;

use super::{Case, Grad, Op, Saved, expect_index, expect_mixed, expect_shape};
use crate::cx::{Cx, Exec};
use crate::error::{Error, Result};
use crate::tensor::{Meta, Real, Shape, Tensor};

/// The op: weight · Σ max(x, 0) − x·t + log(1 + e^−|x|), which is
/// −t·log σ(x) − (1 − t)·log(1 − σ(x)). Inputs: logits x `[R,h,w,C]`; targets t `[R,h,w,1]` of
/// [`DType::accumulation`](crate::tensor::DType::accumulation), constant; and, which C > 1 needs,
/// select `[R,1,1,1]` of I32, constant: of each row the channel that counts. Output: one element,
/// wide. The gradient of x is weight · (σ(x) − t) in that channel and 0 in others.
///
/// # Errors
/// [`Kind::Data`](crate::Kind::Data) on the CPU for a selected channel that is not there. On a
/// device, for which the host does not wait, the loss and the gradient of the row become NaN.
#[derive(Clone, Copy, Debug)]
pub struct BceLogits {
    /// Factor of the sum.
    pub weight: f64,
}

impl Op for BceLogits {
    const NAME: &'static str = "bce_logits";

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
        let [x, targets, select @ ..] = inputs else {
            let found = inputs.len();
            return Err(Error::usage(format!(
                "expected logits, targets and perhaps selected channels; found {found} inputs"
            )));
        };
        expect_mixed(&[*x, *targets], &["logits", "targets"], &["targets"])?;
        let [rows, h, w, channels] = x.shape.0;
        expect_shape("targets", targets.shape, Shape::nhwc(rows, h, w, 1))?;
        match select {
            [] if channels == 1 => {}
            [select] => expect_index("selected channels", select, Shape::matrix(rows, 1))?,
            _ => {
                return Err(Error::usage(format!(
                    "expected one input of selected channels for logits of {}; found {}",
                    x.shape,
                    select.len()
                )));
            }
        }
        Ok(Meta::new(Shape::vector(1), targets.dtype))
    }

    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)> {
        let (x, targets) = (inputs[0], inputs[1]);
        let mut loss = cx.alloc(Meta::new(Shape::vector(1), targets.dtype()))?;
        match cx.exec(Self::NAME) {
            Exec::DryRun => {}
            Exec::Cpu => {
                let pixels = cpu::Pixels::new(x.shape(), inputs.get(2).map(|s| s.host()))?;
                crate::dispatch!(x.dtype(), T => {
                    let sum = pixels.loss(x.host::<T>(), targets.host());
                    loss.host_mut()[0] = T::of(self.weight * sum);
                });
            }
            Exec::Device(launcher) => {
                kernels::forward(cx, &launcher, self.weight, inputs, &mut loss)?
            }
        }
        Ok((loss, inputs.iter().map(|&t| t.clone()).collect()))
    }

    fn backward(&self, cx: &Cx, saved: Saved, gy: Tensor, grads: &mut [Grad]) -> Result<()> {
        let (x, targets) = (&saved[0], &saved[1]);
        if grads[1..].iter().any(Grad::needed) {
            return Err(Error::usage("targets and selected channels are constants: no gradient"));
        }
        let mut gx = cx.alloc(x.meta())?;
        match cx.exec(Self::NAME) {
            Exec::DryRun => {}
            Exec::Cpu => {
                let pixels = cpu::Pixels::new(x.shape(), saved.get(2).map(|s| s.host()))?;
                crate::dispatch!(x.dtype(), T => {
                    let g = T::of(self.weight) * gy.host::<T>()[0];
                    pixels.gradient(x.host(), targets.host(), g, gx.host_mut());
                });
            }
            Exec::Device(launcher) => {
                kernels::backward(&launcher, self.weight, &saved, &gy, &mut gx)?
            }
        }
        grads[0].put(cx, gx)
    }

    fn cases() -> Vec<Case<Self>> {
        cases::all()
    }
}
