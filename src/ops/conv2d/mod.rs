//! 2-D convolution of the first channels of a weight stored at its maximum size.

mod cases;
mod cpu;
mod im2col;
mod implicit_gemm;
pub(super) mod kernels;
mod narrow;
pub(super) mod run;
#[cfg(test)]
mod tests;
mod wgrad;
mod window;

use super::narrow_copy::narrow_copy;
use super::{Case, Grad, Op, Saved, expect_float};
use crate::cx::Cx;
use crate::error::{Error, Result};
use crate::tensor::{DType, Meta, Shape, Tensor};
use run::Onto;

/// The type of a product's result.
pub(super) fn result_type(operands: DType, wide: bool) -> DType {
    if wide { operands.accumulation() } else { operands }
}

/// Convolution with zeros around the input and, if there is one, a bias.
///
/// Inputs: `x` N×H×W×Cin, `w` Omax×k×k×Imax and, if there is a bias, `b` 1×1×1×Bmax with
/// Bmax ≥ `cout`, of which the first `cout` output and the first Cin input channels are used, in
/// place. The bias has type [`DType::accumulation`]. Output: N×P×Q×cout with
/// P = ⌊(H + 2·pad − dilation·(k − 1) − 1) / stride⌋ + 1:
/// y\[n,p,q,o\] = b\[o\] + Σ x\[n, p·stride − pad + dilation·r, q·stride − pad + dilation·s, i\] ·
/// w\[o,r,s,i\]. The gradients of `w` and `b`, of type wide, are added to their active parts alone.
///
/// # Errors
/// [`Kind::Usage`](crate::Kind::Usage) for a kernel, stride or dilation of 0, for weights and
/// biases that do not fit, and for an input that is smaller than the window with its padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Output channels.
    pub cout: usize,
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Step from one output pixel to the next, in pixels of the input.
    pub stride: usize,
    /// Rows and columns of zeros on each side of the input.
    pub pad: usize,
    /// Step from one tap of the kernel to the next, in pixels of the input.
    pub dilation: usize,
    /// Whether the output has the type of sums, [`DType::accumulation`], which holds them as they are:
    /// for logits, which are compared.
    pub wide: bool,
}

/// All extents of a convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    n: usize,
    h: usize,
    w: usize,
    cin: usize,
    p: usize,
    q: usize,
    cout: usize,
    /// Stored input channels of the weight.
    cin_max: usize,
    kernel: usize,
    stride: usize,
    pad: usize,
    dilation: usize,
}

impl Geometry {
    /// From one output channel to the next in the weight, in elements.
    fn filter_stride(&self) -> usize {
        self.kernel * self.kernel * self.cin_max
    }
    /// Whether each output pixel is a product of the input pixel at its place.
    fn is_pointwise(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.pad == 0
    }
    /// Rows or columns of the input that the taps of an output pixel span.
    fn reach(&self) -> usize {
        self.dilation * (self.kernel - 1) + 1
    }
}

impl Conv2d {
    /// With padding `kernel / 2`, which keeps the size of the input at stride 1 where the kernel
    /// is odd, without dilation, and with an output of the input's type.
    pub fn new(cout: usize, kernel: usize, stride: usize) -> Self {
        Self { cout, kernel, stride, pad: kernel / 2, dilation: 1, wide: false }
    }

    /// Rows or columns of the output for those of the input; `None` where there are none.
    fn outputs(&self, size: usize) -> Option<usize> {
        let reach = self.kernel.checked_sub(1)?.checked_mul(self.dilation)?.checked_add(1)?;
        let padded = self.pad.checked_mul(2)?.checked_add(size)?;
        Some(padded.checked_sub(reach)?.checked_div(self.stride)? + 1)
    }

    /// Of a convolution that [`Op::infer`] accepts.
    pub(super) fn geometry(&self, x: Shape, w: Shape) -> Geometry {
        let outputs = |size| self.outputs(size).unwrap_or(0);
        Geometry {
            n: x.n(),
            h: x.h(),
            w: x.w(),
            cin: x.c(),
            p: outputs(x.h()),
            q: outputs(x.w()),
            cout: self.cout,
            cin_max: w.c(),
            kernel: self.kernel,
            stride: self.stride,
            pad: self.pad,
            dilation: self.dilation,
        }
    }
}

impl Op for Conv2d {
    const NAME: &'static str = "conv2d";

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
        let Self { cout, kernel: k, stride, pad, dilation, .. } = *self;
        if k == 0 || stride == 0 || dilation == 0 {
            return Err(Error::usage(format!(
                "expected a kernel, a stride and a dilation of at least 1, found kernel {k}, \
                 stride {stride}, dilation {dilation}"
            )));
        }
        expect_float("the input of a convolution", x)?;
        let ([omax, kh, kw, imax], cin) = (w.shape.0, x.shape.c());
        if (kh, kw) != (k, k) || omax < cout || imax < cin || x.dtype != w.dtype {
            return Err(Error::usage(format!(
                "expected a weight of at least {cout}x{k}x{k}x{cin} in {:?} for input {}, found \
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
        if x.shape.positions() == 0 {
            return Err(Error::usage(format!("expected pixels, found an input of {}", x.shape)));
        }
        let (Some(p), Some(q)) = (self.outputs(x.shape.h()), self.outputs(x.shape.w())) else {
            return Err(Error::usage(format!(
                "expected an input at least as large as a {k}x{k} window of dilation {dilation}, \
                 found {} with a padding of {pad}; use a larger input or padding",
                x.shape
            )));
        };
        Ok(Meta::new(Shape::nhwc(x.shape.n(), p, q, cout), result_type(x.dtype, self.wide)))
    }

    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)> {
        let (x, w) = (inputs[0], inputs[1]);
        let g = self.geometry(x.shape(), w.shape());
        let dtype = result_type(x.dtype(), self.wide);
        let mut y = cx.alloc(Meta::new(Shape::nhwc(g.n, g.p, g.q, g.cout), dtype))?;
        let onto = Onto::bias(inputs.get(2).copied());
        run::fprop(cx, Self::NAME, &g, [x, w], onto, &mut y)?;
        Ok((y, inputs.iter().map(|&t| t.clone()).collect()))
    }

    fn backward(&self, cx: &Cx, saved: Saved, gy: Tensor, grads: &mut [Grad]) -> Result<()> {
        let (x, w) = (&saved[0], &saved[1]);
        let g = self.geometry(x.shape(), w.shape());
        let wide = |t: &Tensor| Meta::new(t.shape(), t.dtype().accumulation());
        let operand = narrow_copy(cx, Self::NAME, &gy, x.dtype())?;
        grads[0].write(cx, x.meta(), |gx, accumulate| {
            run::dgrad(cx, Self::NAME, &g, [&operand, w], Onto::target(accumulate), gx)
        })?;
        grads[1].write(cx, wide(w), |gw, accumulate| {
            run::wgrad(cx, Self::NAME, &g, [x, &operand], gw, accumulate)
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
