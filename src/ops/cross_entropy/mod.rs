//! Cross-entropy of class scores with labels.

mod cases;
mod cpu;
mod kernels;

use super::{Case, Grad, Op, Saved, expect_index, expect_inputs, expect_shape};
use crate::cx::{Cx, Exec};
use crate::error::{Error, Result};
use crate::tensor::{Meta, Real, Shape, Tensor};

/// The op: weight · the mean over rows of −log softmax(logits)\[label\]. Inputs: logits `[N,1,1,C]`;
/// labels `[N,1,1,1]` of I32, from 0 to below C, constant: see [`labels`]. Output: one element,
/// wide.
///
/// A label that is no class is an error on the CPU ([`Kind::Data`](crate::Kind::Data)). On a
/// device the host does not wait for the labels; there the loss and the gradient of the row
/// become NaN: callers check that the loss is finite.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy {
    /// The loss's share of a sum of losses; 1 for a loss by itself.
    pub weight: f64,
}

/// Labels for [`CrossEntropy`] as a tensor, checked once, here.
///
/// # Errors
/// [`Kind::Data`](crate::Kind::Data) for a label that is not below `classes`.
pub fn labels(cx: &Cx, labels: &[usize], classes: usize) -> Result<Tensor> {
    let labels: Vec<i32> = labels.iter().map(|l| i32::try_from(*l).unwrap_or(i32::MAX)).collect();
    cpu::check_labels(&labels, classes)?;
    cx.upload_i32(Shape::matrix(labels.len(), 1), &labels)
}

impl Op for CrossEntropy {
    const NAME: &'static str = "cross_entropy";

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
        let [logits, labels] = inputs else {
            let found = inputs.len();
            return Err(Error::usage(format!("expected logits and labels; found {found} inputs")));
        };
        expect_inputs(&[*logits], &["logits"])?;
        let (n, classes) = (logits.shape.n(), logits.shape.c());
        expect_shape("logits", logits.shape, Shape::matrix(n, classes))?;
        expect_index("labels", labels, Shape::matrix(n, 1))?;
        Ok(Meta::new(Shape::vector(1), logits.dtype.accumulation()))
    }

    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)> {
        let (logits, labels) = (inputs[0], inputs[1]);
        let (classes, dtype) = (logits.shape().c(), logits.dtype().accumulation());
        let mut loss = cx.alloc(Meta::new(Shape::vector(1), dtype))?;
        match cx.exec(Self::NAME) {
            Exec::DryRun => {}
            Exec::Cpu => {
                cpu::check_labels(labels.host(), classes)?;
                crate::dispatch!(logits.dtype(), T => {
                    loss.host_mut()[0] = cpu::loss(
                        self.weight,
                        classes,
                        logits.host::<T>(),
                        labels.host(),
                    );
                });
            }
            Exec::Device(launcher) => {
                kernels::forward(cx, &launcher, self.weight, [logits, labels], &mut loss)?
            }
        }
        Ok((loss, vec![logits.clone(), labels.clone()]))
    }

    fn backward(&self, cx: &Cx, saved: Saved, gy: Tensor, grads: &mut [Grad]) -> Result<()> {
        let (logits, labels) = (&saved[0], &saved[1]);
        if grads[1].needed() {
            return Err(Error::usage("labels are constants: no gradient"));
        }
        let mut gx = cx.alloc(logits.meta())?;
        match cx.exec(Self::NAME) {
            Exec::DryRun => {}
            Exec::Cpu => crate::dispatch!(logits.dtype(), T => {
                let (c, g) = (logits.shape().c(), T::of(self.weight) * gy.host::<T>()[0]);
                cpu::gradient(c, logits.host(), labels.host(), g, gx.host_mut())
            }),
            Exec::Device(launcher) => {
                kernels::backward(&launcher, self.weight, [logits, labels], &gy, &mut gx)?
            }
        }
        grads[0].put(cx, gx)
    }

    fn cases() -> Vec<Case<Self>> {
        cases::all()
    }
}
