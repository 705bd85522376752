//! Cross-entropy of class scores with labels.

mod cases;
mod cpu;
mod kernels;

use super::{Case, Op, Saved, expect_mixed, expect_shape};
use crate::device::{Cx, Target};
use crate::error::{Error, Result};
use crate::tape::Grad;
use crate::tensor::{Meta, Shape, Tensor};

/// The op: the mean over rows of −log softmax(logits)\[label\]. Inputs: logits `[N,1,1,C]`;
/// labels `[N,1,1,1]`, whole numbers below C, constant, wide. Output: one element, wide.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy;

impl Op for CrossEntropy {
    const NAME: &'static str = "cross_entropy";

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
        expect_mixed(inputs, &["logits", "labels"], &["labels"])?;
        let logits = inputs[0].shape;
        expect_shape("logits", logits, Shape::matrix(logits.n(), logits.c()))?;
        expect_shape("labels", inputs[1].shape, Shape::matrix(logits.n(), 1))?;
        Ok(Meta::new(Shape::vector(1), inputs[0].dtype.wide()))
    }

    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)> {
        let (logits, labels) = (inputs[0], inputs[1]);
        let (classes, dtype) = (logits.shape().c(), logits.dtype().wide());
        let mut loss = cx.alloc(Meta::new(Shape::vector(1), dtype))?;
        match cx.target(Self::NAME) {
            Target::Nothing => {}
            Target::Native => crate::dispatch!(logits.dtype(), T => {
                let labels = labels.host::<T>();
                cpu::check_labels(labels, classes)?;
                loss.host_mut()[0] = cpu::loss(classes, logits.host::<T>(), labels);
            }),
            Target::Kernels(queue) => {
                cpu::check_labels(&cx.download(labels)?, classes)?;
                kernels::forward(cx, &queue, logits, labels, &mut loss)?;
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
        match cx.target(Self::NAME) {
            Target::Nothing => {}
            Target::Native => crate::dispatch!(logits.dtype(), T => {
                let c = logits.shape().c();
                let (labels, g) = (labels.host::<T>(), gy.host::<T>()[0]);
                cpu::gradient(c, logits.host(), labels, g, gx.host_mut())
            }),
            Target::Kernels(queue) => kernels::backward(&queue, logits, labels, &gy, &mut gx)?,
        }
        grads[0].put(cx, gx)
    }

    fn cases() -> Vec<Case<Self>> {
        cases::all()
    }

    fn benches() -> Vec<Case<Self>> {
        cases::benches()
    }
}
