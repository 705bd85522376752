//! Smooth L1 of box deltas.

mod cases;
mod cpu;
mod kernels;

use super::{Case, Grad, Op, Saved, expect_index, expect_mixed, expect_shape};
use crate::cx::{Cx, Exec};
use crate::error::{Error, Result};
use crate::tensor::{Meta, Real, Shape, Tensor};

/// The op: weight · Σ ℓ(pred − target) over the four deltas of one box of each row, where ℓ(d) is
/// d²/2β for |d| < β and |d| − β/2 beyond, or |d| where β is 0. Inputs: pred `[R,1,1,4·K]`, boxes of
/// K classes, or of none where K is 1; targets `[R,1,1,4]` of
/// [`DType::accumulation`](crate::tensor::DType::accumulation), constant; select `[R,1,1,1]` of I32,
/// constant: which of the K boxes counts, or −1 where none does. Output: one element, wide. The
/// gradient is weight · d/β between −1 and 1 (0 for d = 0), and 0 for boxes that do not count.
///
/// # Errors
/// [`Kind::Data`](crate::Kind::Data) on the CPU for a selected box that is not there. On a device,
/// for which the host does not wait, the loss and the gradient of the row become NaN.
#[derive(Clone, Copy, Debug)]
pub struct BoxLoss {
    /// Least difference that counts linearly; 0: all do.
    pub beta: f64,
    /// Factor of the sum.
    pub weight: f64,
}

impl Op for BoxLoss {
    const NAME: &'static str = "box_loss";

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
        let [pred, targets, select] = inputs else {
            let found = inputs.len();
            return Err(Error::usage(format!(
                "expected predictions, targets and selected boxes; found {found} inputs"
            )));
        };
        if self.beta.is_nan() || self.beta < 0.0 {
            return Err(Error::usage(format!(
                "expected a beta of at least 0; found {}",
                self.beta
            )));
        }
        expect_mixed(&[*pred, *targets], &["predictions", "targets"], &["targets"])?;
        let (rows, deltas) = (pred.shape.n(), pred.shape.c());
        if !deltas.is_multiple_of(4) {
            return Err(Error::usage(format!("expected boxes of 4 deltas; found {}", pred.shape)));
        }
        expect_shape("predictions", pred.shape, Shape::matrix(rows, deltas))?;
        expect_shape("targets", targets.shape, Shape::matrix(rows, 4))?;
        expect_index("selected boxes", select, Shape::matrix(rows, 1))?;
        Ok(Meta::new(Shape::vector(1), targets.dtype))
    }

    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)> {
        let (pred, targets, select) = (inputs[0], inputs[1], inputs[2]);
        let mut loss = cx.alloc(Meta::new(Shape::vector(1), targets.dtype()))?;
        match cx.exec(Self::NAME) {
            Exec::DryRun => {}
            Exec::Cpu => {
                cpu::check(select.host(), pred.shape().c() / 4)?;
                crate::dispatch!(pred.dtype(), T => {
                    let sum = cpu::loss::<T>(self.beta, pred.host(), targets.host(), select.host());
                    loss.host_mut()[0] = T::of(self.weight * sum);
                });
            }
            Exec::Device(launcher) => {
                kernels::forward(self, cx, &launcher, [pred, targets, select], &mut loss)?
            }
        }
        Ok((loss, inputs.iter().map(|&t| t.clone()).collect()))
    }

    fn backward(&self, cx: &Cx, saved: Saved, gy: Tensor, grads: &mut [Grad]) -> Result<()> {
        let (pred, targets, select) = (&saved[0], &saved[1], &saved[2]);
        if grads[1..].iter().any(Grad::needed) {
            return Err(Error::usage("targets and selected boxes are constants: no gradient"));
        }
        let mut gx = cx.alloc(pred.meta())?;
        match cx.exec(Self::NAME) {
            Exec::DryRun => {}
            Exec::Cpu => crate::dispatch!(pred.dtype(), T => {
                let g = T::of(self.weight) * gy.host::<T>()[0];
                let inputs = (pred.host(), targets.host(), select.host());
                cpu::gradient(self.beta, inputs, g, gx.host_mut());
            }),
            Exec::Device(launcher) => {
                kernels::backward(self, &launcher, [pred, targets, select], &gy, &mut gx)?
            }
        }
        grads[0].put(cx, gx)
    }

    fn cases() -> Vec<Case<Self>> {
        cases::all()
    }
}
