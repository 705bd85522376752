//! 2-D convolution of the first channels of a weight stored at its maximum size.

mod cases;
mod cpu;
mod gather;
mod im2col;
pub(super) mod kernels;
mod narrow;
#[cfg(test)]
mod tests;
mod wgrad;
mod window;

use crate::device::{Cx, Target};
use crate::dispatch;
use crate::error::{Error, Result};
use crate::ops::{Case, Op, Passes, Saved};
use crate::tape::Grad;
use crate::tensor::{Meta, Shape, Tensor};

/// Convolution with padding `kernel / 2` and no bias.
///
/// Inputs: `x` N×H×W×Cin and `w` Omax×k×k×Imax, of which the first `cout` output and the first
/// Cin input channels are used, in place. Output: N×P×Q×cout with P = ⌊(H − 1) / stride⌋ + 1:
/// y\[n,p,q,o\] = Σ x\[n, p·stride + r − k/2, q·stride + s − k/2, i\] · w\[o,r,s,i\].
/// The gradient of `w`, of type [`DType::wide`](crate::tensor::DType::wide), is added to its
/// active part alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Output channels.
    pub cout: usize,
    /// Height and width of the kernel: odd.
    pub kernel: usize,
    /// Step, in pixels of the input.
    pub stride: usize,
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
}

impl Geometry {
    /// From one output channel to the next in the weight, in elements.
    fn filter_stride(&self) -> usize {
        self.kernel * self.kernel * self.cin_max
    }
    /// Rows and columns of zeros around the input.
    fn pad(&self) -> usize {
        self.kernel / 2
    }
}

impl Conv2d {
    pub(super) fn geometry(&self, x: Shape, w: Shape) -> Geometry {
        let outputs = |size: usize| size.saturating_sub(1) / self.stride + 1;
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
        }
    }
}

impl Op for Conv2d {
    const NAME: &'static str = "conv2d";
    const PASSES: Passes =
        Passes { forward: "fprop", gradients: &[("dgrad", Some(1)), ("wgrad", Some(0))] };

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
        let [x, w] = inputs else {
            return Err(Error::usage(format!("expected input and weight, found {}", inputs.len())));
        };
        if self.kernel.is_multiple_of(2) || self.stride == 0 {
            return Err(Error::usage(format!(
                "expected an odd kernel and a stride of at least 1, found kernel {} stride {}",
                self.kernel, self.stride
            )));
        }
        let ([omax, kh, kw, imax], cin) = (w.shape.0, x.shape.c());
        let k = self.kernel;
        if (kh, kw) != (k, k) || omax < self.cout || imax < cin || x.dtype != w.dtype {
            return Err(Error::usage(format!(
                "expected a weight of at least {}x{k}x{k}x{cin} in {:?} for input {}, found {} in \
                 {:?}",
                self.cout, x.dtype, x.shape, w.shape, w.dtype
            )));
        }
        if x.shape.positions() == 0 {
            return Err(Error::usage(format!("expected pixels, found an input of {}", x.shape)));
        }
        let g = self.geometry(x.shape, w.shape);
        Ok(Meta::new(Shape::nhwc(g.n, g.p, g.q, g.cout), x.dtype))
    }

    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)> {
        let (x, w) = (inputs[0], inputs[1]);
        let g = self.geometry(x.shape(), w.shape());
        let mut y = cx.alloc(Meta::new(Shape::nhwc(g.n, g.p, g.q, g.cout), x.dtype()))?;
        match cx.target(Self::NAME) {
            Target::Nothing => {}
            Target::Native if cx.narrows(x) => {
                cpu::fprop(&g, x.host(), w.host()).run_narrow(y.host_mut());
            }
            Target::Native => dispatch!(x.dtype(), T => {
                cpu::fprop::<T>(&g, x.host(), w.host()).run(y.host_mut())
            }),
            Target::Kernels(queue) => kernels::fprop(&g, &queue, [x, w], None, &mut y)?,
        }
        Ok((y, vec![x.clone(), w.clone()]))
    }

    fn backward(&self, cx: &Cx, saved: Saved, gy: Tensor, grads: &mut [Grad]) -> Result<()> {
        let (x, w) = (&saved[0], &saved[1]);
        let g = self.geometry(x.shape(), w.shape());
        grads[0].write(cx, x.meta(), |gx, accumulate| {
            match cx.target(Self::NAME) {
                Target::Nothing => {}
                Target::Native if cx.narrows(gx) => {
                    let gathers = cpu::dgrad(&g, gy.host(), w.host(), accumulate);
                    gathers.for_each(|gather| gather.run_narrow(gx.host_mut()));
                }
                Target::Native => dispatch!(gx.dtype(), T => {
                    let gathers = cpu::dgrad::<T>(&g, gy.host(), w.host(), accumulate);
                    gathers.for_each(|gather| gather.run(gx.host_mut()))
                }),
                Target::Kernels(queue) => kernels::dgrad(&g, &queue, [&gy, w], gx, accumulate)?,
            }
            Ok(())
        })?;
        let gw = Meta::new(w.shape(), w.dtype().wide());
        grads[1].write(cx, gw, |gw, accumulate| {
            match cx.target(Self::NAME) {
                Target::Nothing => {}
                Target::Native => {
                    if !accumulate {
                        dispatch!(gw.dtype(), T => gw.host_mut::<T>().fill(0.0));
                    }
                    match cx.narrows(gw) {
                        true => narrow::wgrad(&g, x.host(), gy.host(), gw.host_mut()),
                        false => dispatch!(gw.dtype(), T => {
                            wgrad::wgrad::<T>(&g, x.host(), gy.host(), gw.host_mut())
                        }),
                    }
                }
                Target::Kernels(queue) => {
                    kernels::wgrad(&g, cx, &queue, [x, &gy], gw, accumulate)?;
                }
            }
            Ok(())
        })
    }

    fn cases() -> Vec<Case<Self>> {
        cases::all()
    }

    /// `3x3 stride 2, 8x56x56x48 to 64 of 80x80`: the weight is stored for 80 output and 80 input
    /// channels.
    fn label(&self, inputs: &[Meta]) -> String {
        let (x, w, k) = (inputs[0].shape, inputs[1].shape, self.kernel);
        format!("{k}x{k} stride {}, {x} to {} of {}x{}", self.stride, self.cout, w.n(), w.c())
    }

    fn used(&self, inputs: &[Meta]) -> Vec<usize> {
        let g = self.geometry(inputs[0].shape, inputs[1].shape);
        // A kernel smaller than its step passes rows and columns by.
        let read = |size: usize, outputs: usize| size.min(outputs * g.kernel);
        let pixels = g.n * read(g.h, g.p) * read(g.w, g.q);
        vec![pixels * g.cin, g.cout * g.kernel * g.kernel * g.cin]
    }

    fn flops(&self, inputs: &[Meta]) -> u64 {
        let g = self.geometry(inputs[0].shape, inputs[1].shape);
        2 * (g.n * g.p * g.q * g.cout) as u64 * (g.kernel * g.kernel * g.cin) as u64
    }
}
