//! Bilinear resizing of feature maps, for evaluation: it is not differentiated.

mod axis;
pub mod checks;
mod cpu;
pub(in crate::ops) mod kernels;
pub mod work;

pub(in crate::ops) use axis::{Axis, blend};

use super::expect_inputs;
use crate::cx::{Cx, Exec};
use crate::error::{Error, Result};
use crate::tensor::{Meta, Shape, Tensor};

/// x `[N,h,w,C]` resized to `[N,height,width,C]`, as PyTorch's `interpolate` does in the mode
/// `bilinear`: not antialiased. Pixel d of a side lies at d·(h − 1)/(height − 1) of x with
/// `align_corners`, else at (d + ½)·h/height − ½, at least 0. In x's type; sums are wide.
///
/// # Errors
/// [`Kind::Usage`](crate::Kind::Usage) for an empty x, integers, or a size of 0.
pub fn resize_bilinear(
    cx: &Cx,
    x: &Tensor,
    height: usize,
    width: usize,
    align_corners: bool,
) -> Result<Tensor> {
    expect_inputs(&[x.meta()], &["x"]).map_err(|e| e.context("resize_bilinear"))?;
    if height == 0 || width == 0 {
        return Err(Error::usage(format!(
            "resize_bilinear: expected a size of at least 1x1; found {height}x{width}"
        )));
    }
    let [n, h, w, c] = x.shape().0;
    let mut y = cx.alloc(Meta::new(Shape::nhwc(n, height, width, c), x.dtype()))?;
    let axes = || [Axis::new(h, height, align_corners), Axis::new(w, width, align_corners)];
    match cx.exec("resize_bilinear") {
        Exec::DryRun => {}
        Exec::Cpu => crate::dispatch!(x.dtype(), T => {
            cpu::resize(x.shape(), &axes(), x.host::<T>(), y.host_mut())
        }),
        Exec::Device(launcher) => kernels::resize(cx, &launcher, &axes(), x, &mut y)?,
    }
    Ok(y)
}
