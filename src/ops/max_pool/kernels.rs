//! Launches of `kernels/max_pool.cu`.

use bytemuck::NoUninit;

use super::pooled;
use crate::device::{Geometry, Launcher, size};
use crate::error::Result;
use crate::kernel;
use crate::ops::vector;
use crate::tensor::{Shape, Tensor};

/// `MaxPoolParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    images: u32,
    height: u32,
    width: u32,
    channels: u32,
    out_height: u32,
    out_width: u32,
}

impl Params {
    /// For x of a shape, whose every element is counted in 31 bits.
    fn new(x: Shape) -> Result<Self> {
        size(x.elems())?;
        let [images, height, width, channels] = x.0.map(|d| d as u32);
        let y = pooled(x);
        let (out_height, out_width) = (y.h() as u32, y.w() as u32);
        Ok(Self { images, height, width, channels, out_height, out_width })
    }
}

/// A thread for each `at_once` elements of a tensor.
fn cover(shape: Shape, at_once: usize) -> Geometry {
    Geometry::cover((shape.elems() / at_once) as u32, vector::THREADS)
}

/// y and the winners, a byte for each of its elements.
pub(super) fn forward(
    launcher: &Launcher,
    x: &Tensor,
    y: &mut Tensor,
    winner: &mut Tensor,
) -> Result<()> {
    let at_once = vector::row_width(x.shape().c(), x.dtype());
    let name = kernel!("max_pool_forward", x.dtype(), at_once);
    let pointers = [x.device(), y.device_mut(), winner.device_mut()];
    launcher.launch(name, cover(y.shape(), at_once), &pointers, &Params::new(x.shape())?)
}

/// gx from the gradient of the output and the winners.
pub(super) fn backward(
    launcher: &Launcher,
    winner: &Tensor,
    gy: &Tensor,
    gx: &mut Tensor,
) -> Result<()> {
    let at_once = vector::row_width(gx.shape().c(), gx.dtype());
    let name = kernel!("max_pool_backward", gx.dtype(), at_once);
    let pointers = [winner.device(), gy.device(), gx.device_mut()];
    launcher.launch(name, cover(gx.shape(), at_once), &pointers, &Params::new(gx.shape())?)
}
