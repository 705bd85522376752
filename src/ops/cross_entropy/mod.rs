//! Cross-entropy of class scores with labels.

mod cases;
mod cpu;

use super::{Case, Op, Saved, expect_inputs, expect_shape};
use crate::device::Cx;
use crate::error::{Error, Result};
use crate::tape::Grad;
use crate::tensor::{Meta, Shape, Tensor};

/// The op: the mean over rows of −log softmax(logits)\[label\]. Inputs: logits `[N,1,1,C]`;
/// labels `[N,1,1,1]`, whole numbers below C, constant. Output: one element.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy;

impl Op for CrossEntropy {
    const NAME: &'static str = "cross_entropy";
    const HAS_KERNELS: bool = false;

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
        expect_inputs(inputs, &["logits", "labels"])?;
        let logits = inputs[0].shape;
        expect_shape("logits", logits, Shape::matrix(logits.n(), logits.c()))?;
        expect_shape("labels", inputs[1].shape, Shape::matrix(logits.n(), 1))?;
        Ok(Meta::new(Shape::vector(1), inputs[0].dtype))
    }

    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)> {
        let (logits, labels) = (inputs[0], inputs[1]);
        let mut loss = cx.alloc(Meta::new(Shape::vector(1), logits.dtype()))?;
        cx.run_native(Self::NAME, || {
            crate::dispatch!(logits.dtype(), T => {
                let labels = labels.host::<T>();
                cpu::check_labels(labels, logits.shape().c())?;
                loss.host_mut()[0] = cpu::loss(logits.shape().c(), logits.host::<T>(), labels);
            });
            Ok(())
        })?;
        Ok((loss, vec![logits.clone(), labels.clone()]))
    }

    fn backward(&self, cx: &Cx, saved: Saved, gy: Tensor, grads: &mut [Grad]) -> Result<()> {
        let (logits, labels) = (&saved[0], &saved[1]);
        if grads[1].needed() {
            return Err(Error::usage("labels are constants: no gradient"));
        }
        let mut gx = cx.alloc(logits.meta())?;
        cx.run_native(Self::NAME, || {
            crate::dispatch!(logits.dtype(), T => {
                let c = logits.shape().c();
                let (labels, g) = (labels.host::<T>(), gy.host::<T>()[0]);
                cpu::gradient(c, logits.host(), labels, g, gx.host_mut())
            });
            Ok(())
        })?;
        grads[0].put(cx, gx)
    }

    fn cases() -> Vec<Case<Self>> {
        cases::all()
    }
}
