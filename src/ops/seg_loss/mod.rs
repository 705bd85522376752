//! Cross-entropy of class scores, resized to the size of label maps.

mod cases;
mod cpu;
mod kernels;

use super::resize_bilinear::Axis;
use super::{Case, Grad, Op, Saved, expect_index, expect_inputs};
use crate::cx::{Cx, Exec};
use crate::error::{Error, Result};
use crate::tensor::{Meta, Real, Shape, Tensor};

/// Label of pixels that no loss is taken of.
pub const IGNORED: i32 = -1;

/// The op: weight · Σ −log softmax(z)\[label\] over the pixels that are not [`IGNORED`], where z is
/// the logits bilinearly resized to the labels' size, as by
/// [`resize_bilinear`](super::resize_bilinear::resize_bilinear). Inputs: logits `[N,h,w,K]`; labels
/// `[N,H,W,1]` of I32, −1 or from 0 to below K, constant. Output: one element, wide. A mean is a
/// weight of one over the number of pixels.
///
/// Saves the logits, the labels and log Σ exp z of each pixel, wide: the resized logits, K times as
/// large, never exist.
///
/// A label that is no class is an error on the CPU ([`Kind::Data`](crate::Kind::Data)). On a
/// device the host does not wait for the labels; there the loss and the gradients that the pixel
/// has a share of become NaN: callers check that the loss is finite.
#[derive(Clone, Copy, Debug)]
pub struct SegLoss {
    /// Whether the outermost pixels of labels and logits lie upon each other, rather than the
    /// borders of the images.
    pub align_corners: bool,
    /// The factor of the sum.
    pub weight: f64,
}

impl SegLoss {
    /// Rows and columns of logits among those of labels.
    fn axes(&self, logits: Shape, labels: Shape) -> [Axis; 2] {
        let sides = [(logits.h(), labels.h()), (logits.w(), labels.w())];
        sides.map(|(cells, size)| Axis::new(cells, size, self.align_corners))
    }
}

impl Op for SegLoss {
    const NAME: &'static str = "seg_loss";

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
        let [logits, labels] = inputs else {
            let found = inputs.len();
            return Err(Error::usage(format!("expected logits and labels; found {found} inputs")));
        };
        expect_inputs(&[*logits], &["logits"])?;
        let [_, h, w, _] = labels.shape.0;
        expect_index("labels", labels, Shape::nhwc(logits.shape.n(), h, w, 1))?;
        if h == 0 || w == 0 {
            return Err(Error::usage(format!("labels of shape {} are empty", labels.shape)));
        }
        Ok(Meta::new(Shape::vector(1), logits.dtype.accumulation()))
    }

    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)> {
        let (logits, labels) = (inputs[0], inputs[1]);
        let wide = logits.dtype().accumulation();
        let mut loss = cx.alloc(Meta::new(Shape::vector(1), wide))?;
        let mut lse = cx.alloc(Meta::new(labels.shape(), wide))?;
        let axes = || self.axes(logits.shape(), labels.shape());
        match cx.exec(Self::NAME) {
            Exec::DryRun => {}
            Exec::Cpu => {
                cpu::check_labels(labels.shape(), labels.host(), logits.shape().c())?;
                crate::dispatch!(wide, T => {
                    let maps = cpu::Maps::<T>::new(logits, labels, axes());
                    loss.host_mut()[0] = T::of(self.weight * maps.forward(lse.host_mut()));
                });
            }
            Exec::Device(launcher) => {
                let maps = kernels::Maps { logits, labels, axes: axes(), weight: self.weight };
                maps.forward(cx, &launcher, &mut lse, &mut loss)?
            }
        }
        Ok((loss, vec![logits.clone(), labels.clone(), lse]))
    }

    fn backward(&self, cx: &Cx, saved: Saved, gy: Tensor, grads: &mut [Grad]) -> Result<()> {
        let (logits, labels, lse) = (&saved[0], &saved[1], &saved[2]);
        if grads[1].needed() {
            return Err(Error::usage("labels are constants: no gradient"));
        }
        let mut gx = cx.alloc(logits.meta())?;
        let axes = || self.axes(logits.shape(), labels.shape());
        match cx.exec(Self::NAME) {
            Exec::DryRun => {}
            Exec::Cpu => crate::dispatch!(logits.dtype(), T => {
                let g = T::of(self.weight) * gy.host::<T>()[0];
                cpu::Maps::new(logits, labels, axes()).backward(lse.host(), g, gx.host_mut());
            }),
            Exec::Device(launcher) => {
                let maps = kernels::Maps { logits, labels, axes: axes(), weight: self.weight };
                maps.backward(cx, &launcher, lse, &gy, &mut gx)?
            }
        }
        grads[0].put(cx, gx)
    }

    fn cases() -> Vec<Case<Self>> {
        cases::all()
    }
}
