//! Transposed 2-D convolution: a convolution's passes, backwards.

mod cases;

use super::{Case, Grad, Op, Saved, expect_float};
use crate::cx::Cx;
use crate::error::{Error, Result};
use crate::ops::conv2d::run::{self, Onto};
use crate::ops::conv2d::{Conv2d, Geometry};
use crate::tensor::{Meta, Shape, Tensor};

/// Transposed convolution without padding and, if there is one, a bias: what its forward pass
/// computes is the gradient of the input of a [`Conv2d`] without padding.
///
/// Inputs: `x` N×H×W×Cin, `w` Imax×k×k×Omax and, if there is a bias, `b` 1×1×1×Bmax with
/// Bmax ≥ `cout`, of which the first Cin input and the first `cout` output channels are used, in
/// place. The bias has type [`DType::accumulation`](crate::tensor::DType::accumulation). Output:
/// N×P×Q×cout with P = (H − 1)·stride + k: y\[n,p,q,o\] = b\[o\] + Σ x\[n,h,w,i\] ·
/// w\[i, p − h·stride, q − w·stride, o\]. The gradients of `w` and `b`, of type wide, are added to
/// their active parts alone.
///
/// # Errors
/// [`Kind::Usage`](crate::Kind::Usage) for a kernel or stride of 0, for weights and biases that do
/// not fit, and for an input without pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvTranspose2d {
    /// Output channels.
    pub cout: usize,
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Step from one input pixel to the next, in pixels of the output.
    pub stride: usize,
}

impl ConvTranspose2d {
    /// Rows or columns of the output for those of the input; `None` where there are too many to
    /// count.
    fn outputs(&self, size: usize) -> Option<usize> {
        size.checked_sub(1)?.checked_mul(self.stride)?.checked_add(self.kernel)
    }

    /// Shape of the output.
    fn output(&self, x: Shape) -> Option<Shape> {
        Some(Shape::nhwc(x.n(), self.outputs(x.h())?, self.outputs(x.w())?, self.cout))
    }

    /// The convolution that makes `x` of `y`.
    fn reverse(&self, x: Shape, w: Shape, y: Shape) -> Geometry {
        let Self { kernel, stride, .. } = *self;
        Conv2d { pad: 0, ..Conv2d::new(x.c(), kernel, stride) }.geometry(y, w)
    }
}

impl Op for ConvTranspose2d {
    const NAME: &'static str = "conv_transpose2d";

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
        let (x, w, b) = match inputs {
            [x, w] => (x, w, None),
            [x, w, b] => (x, w, Some(b)),
            _ => {
                return Err(Error::usage(format!(
                    "expected input, weight and perhaps a bias, found {} inputs",
                    inputs.len()
                )));
            }
        };
        let Self { cout, kernel: k, stride } = *self;
        if k == 0 || stride == 0 {
            return Err(Error::usage(format!(
                "expected a kernel and a stride of at least 1, found kernel {k}, stride {stride}"
            )));
        }
        expect_float("the input of a transposed convolution", x)?;
        let ([imax, kh, kw, omax], cin) = (w.shape.0, x.shape.c());
        if (kh, kw) != (k, k) || omax < cout || imax < cin || x.dtype != w.dtype {
            return Err(Error::usage(format!(
                "expected a weight of at least {cin}x{k}x{k}x{cout} in {:?} for input {}, found \
                 {} in {:?}",
                x.dtype, x.shape, w.shape, w.dtype
            )));
        }
        if let Some(b) = b
            && (b.shape != Shape::vector(b.shape.c())
                || b.shape.c() < cout
                || b.dtype != x.dtype.accumulation())
        {
            return Err(Error::usage(format!(
                "expected a bias of at least {} in {:?}, found {} in {:?}",
                Shape::vector(cout),
                x.dtype.accumulation(),
                b.shape,
                b.dtype
            )));
        }
        match self.output(x.shape) {
            Some(y) => Ok(Meta::new(y, x.dtype)),
            None => Err(Error::usage(format!(
                "expected pixels, and not too many for a stride of {stride}; found an input of {}",
                x.shape
            ))),
        }
    }

    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)> {
        let (x, w) = (inputs[0], inputs[1]);
        let metas: Vec<Meta> = inputs.iter().map(|t| t.meta()).collect();
        let mut y = cx.alloc(self.infer(&metas)?)?;
        let g = self.reverse(x.shape(), w.shape(), y.shape());
        let onto = Onto::bias(inputs.get(2).copied());
        run::dgrad(cx, Self::NAME, &g, [x, w], onto, &mut y)?;
        Ok((y, inputs.iter().map(|&t| t.clone()).collect()))
    }

    fn backward(&self, cx: &Cx, saved: Saved, gy: Tensor, grads: &mut [Grad]) -> Result<()> {
        let (x, w) = (&saved[0], &saved[1]);
        let g = self.reverse(x.shape(), w.shape(), gy.shape());
        let wide = |t: &Tensor| Meta::new(t.shape(), t.dtype().accumulation());
        grads[0].write(cx, x.meta(), |gx, accumulate| {
            run::fprop(cx, Self::NAME, &g, [&gy, w], Onto::target(accumulate), gx)
        })?;
        grads[1].write(cx, wide(w), |gw, accumulate| {
            run::wgrad(cx, Self::NAME, &g, [&gy, x], gw, accumulate)
        })?;
        let Some(b) = saved.get(2) else { return Ok(()) };
        grads[2].write(cx, wide(b), |gb, accumulate| {
            run::bias_gradient(cx, Self::NAME, &gy, gb, accumulate)
        })
    }

    fn cases() -> Vec<Case<Self>> {
        cases::all()
    }
}
