//! Fully connected layer on the first columns of a weight stored at its maximum size.

mod cases;
mod cpu;
#[cfg(test)]
mod tests;

use super::narrow_copy::narrow_copy;
use super::{Case, Grad, Op, Saved, bias, expect_float};
use crate::cx::{Cx, Exec};
use crate::dispatch;
use crate::error::{Error, Result};
use crate::ops::conv2d::run::Onto;
use crate::ops::conv2d::{self, Conv2d};
use crate::ops::gemm::{gemm, gemm_narrow};
use crate::tensor::{Meta, Shape, Tensor};

/// y = x · wᵀ (+ b).
///
/// Inputs: `x` N×1×1×Cin, `w` Omax×1×1×Imax and, if there is a bias, `b` 1×1×1×Omax, of which the
/// first `out` output and the first Cin input channels are used, in place. The bias is never
/// narrow. Output:
/// N×1×1×out. The gradients of `w` and `b`, of type [`DType::accumulation`](crate::tensor::DType::accumulation),
/// are added to their active parts alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    /// Output channels.
    pub out: usize,
    /// Whether the output has the type of sums, [`DType::accumulation`](crate::tensor::DType::accumulation), which holds them as they are:
    /// for logits, which are compared.
    pub wide: bool,
}

/// All extents of a linear layer.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    n: usize,
    cin: usize,
    out: usize,
    /// Stored input channels of the weight.
    cin_max: usize,
}

impl Linear {
    /// With an output of the input's type.
    pub fn new(out: usize) -> Self {
        Self { out, wide: false }
    }

    fn geometry(&self, x: Shape, w: Shape) -> Geometry {
        Geometry { n: x.n(), cin: x.c(), out: self.out, cin_max: w.c() }
    }

    /// The same as a convolution.
    fn convolution(&self, x: Shape, w: Shape) -> conv2d::Geometry {
        Conv2d::new(self.out, 1, 1).geometry(x, w)
    }
}

impl Op for Linear {
    const NAME: &'static str = "linear";

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
        expect_float("the input of a linear layer", x)?;
        let ([omax, kh, kw, imax], cin) = (w.shape.0, x.shape.c());
        let fits = omax >= self.out && imax >= cin && (kh, kw) == (1, 1) && w.dtype == x.dtype;
        if x.shape.positions() != 1 || !fits {
            return Err(Error::usage(format!(
                "expected a weight of at least {}x1x1x{cin} in {:?} for rows of {}, found {} in {:?}",
                self.out, x.dtype, x.shape, w.shape, w.dtype
            )));
        }
        if let Some(b) = b
            && (b.shape != Shape::vector(omax) || b.dtype != x.dtype.accumulation())
        {
            return Err(Error::usage(format!(
                "expected a bias of {} in {:?}, found {} in {:?}",
                Shape::vector(omax),
                x.dtype.accumulation(),
                b.shape,
                b.dtype
            )));
        }
        let dtype = conv2d::result_type(x.dtype, self.wide);
        Ok(Meta::new(Shape::matrix(x.shape.n(), self.out), dtype))
    }

    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)> {
        let (x, w, b) = (inputs[0], inputs[1], inputs.get(2).copied());
        let g = self.geometry(x.shape(), w.shape());
        let dtype = conv2d::result_type(x.dtype(), self.wide);
        let mut y = cx.alloc(Meta::new(Shape::matrix(g.n, g.out), dtype))?;
        match cx.exec(Self::NAME) {
            Exec::DryRun => {}
            Exec::Cpu if cx.rounds_operands(x) => {
                cpu::fprop(gemm_narrow, &g, x.host(), w.host(), b.map(|b| b.host()), y.host_mut());
            }
            Exec::Cpu => dispatch!(x.dtype(), T => {
                cpu::fprop::<T>(gemm, &g, x.host(), w.host(), b.map(|b| b.host()), y.host_mut())
            }),
            Exec::Device(launcher) => {
                let c = self.convolution(x.shape(), w.shape());
                conv2d::kernels::fprop(&c, &launcher, [x, w], Onto::bias(b), &mut y)?;
            }
        }
        Ok((y, inputs.iter().map(|&t| t.clone()).collect()))
    }

    fn backward(&self, cx: &Cx, saved: Saved, gy: Tensor, grads: &mut [Grad]) -> Result<()> {
        let (x, w) = (&saved[0], &saved[1]);
        let g = self.geometry(x.shape(), w.shape());
        let c = self.convolution(x.shape(), w.shape());
        let wide = |t: &Tensor| Meta::new(t.shape(), t.dtype().accumulation());
        let operand = narrow_copy(cx, Self::NAME, &gy, x.dtype())?;
        grads[0].write(cx, x.meta(), |gx, accumulate| {
            match cx.exec(Self::NAME) {
                Exec::DryRun => {}
                Exec::Cpu if cx.rounds_operands(gx) => {
                    let (gy, w, gx) = (gy.host(), w.host(), gx.host_mut());
                    cpu::dgrad(gemm_narrow, &g, gy, w, gx, accumulate);
                }
                Exec::Cpu => dispatch!(gx.dtype(), T => {
                    cpu::dgrad::<T>(gemm, &g, gy.host(), w.host(), gx.host_mut(), accumulate)
                }),
                Exec::Device(launcher) => {
                    let onto = Onto::target(accumulate);
                    conv2d::kernels::dgrad(&c, &launcher, [&operand, w], onto, gx)?;
                }
            }
            Ok(())
        })?;
        grads[1].write(cx, wide(w), |gw, accumulate| {
            match cx.exec(Self::NAME) {
                Exec::DryRun => {}
                Exec::Cpu => {
                    if !accumulate {
                        dispatch!(gw.dtype(), T => gw.host_mut::<T>().fill(0.0));
                    }
                    match cx.rounds_operands(gw) {
                        true => cpu::wgrad(gemm_narrow, &g, x.host(), gy.host(), gw.host_mut()),
                        false => dispatch!(gw.dtype(), T => {
                            cpu::wgrad::<T>(gemm, &g, x.host(), gy.host(), gw.host_mut())
                        }),
                    }
                }
                Exec::Device(launcher) => {
                    conv2d::kernels::wgrad(&c, cx, &launcher, [x, &operand], gw, accumulate)?;
                }
            }
            Ok(())
        })?;
        let Some(b) = saved.get(2) else { return Ok(()) };
        grads[2].write(cx, wide(b), |gb, accumulate| {
            match cx.exec(Self::NAME) {
                Exec::DryRun => {}
                Exec::Cpu => dispatch!(gb.dtype(), T => {
                    let gb = gb.host_mut::<T>();
                    if !accumulate {
                        gb.fill(0.0);
                    }
                    cpu::bias_grad::<T>(&g, gy.host(), gb)
                }),
                Exec::Device(launcher) => bias::gradient(cx, &launcher, &gy, gb, accumulate)?,
            }
            Ok(())
        })
    }

    fn cases() -> Vec<Case<Self>> {
        cases::all()
    }
}
