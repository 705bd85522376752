//! Launches of `kernels/subsample.cu`.

use bytemuck::NoUninit;

use crate::device::{Geometry, Launcher, size};
use crate::error::Result;
use crate::kernel;
use crate::ops::vector;
use crate::tensor::{Shape, Tensor};

/// `SubsampleParams`.
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
        let (out_height, out_width) = (height.div_ceil(2), width.div_ceil(2));
        Ok(Self { images, height, width, channels, out_height, out_width })
    }
}

/// A thread for each `at_once` elements of a tensor.
fn cover(t: &Tensor, at_once: usize) -> Geometry {
    Geometry::cover((t.shape().elems() / at_once) as u32, vector::THREADS)
}

/// y.
pub(super) fn forward(launcher: &Launcher, x: &Tensor, y: &mut Tensor) -> Result<()> {
    let at_once = vector::row_width(x.shape().c(), x.dtype());
    let name = kernel!("subsample_forward", x.dtype(), at_once);
    let (geometry, pointers) = (cover(y, at_once), [x.device(), y.device_mut()]);
    launcher.launch(name, geometry, &pointers, &Params::new(x.shape())?)
}

/// gx from the gradient of the output.
pub(super) fn backward(launcher: &Launcher, gy: &Tensor, gx: &mut Tensor) -> Result<()> {
    let at_once = vector::row_width(gx.shape().c(), gx.dtype());
    let name = kernel!("subsample_backward", gx.dtype(), at_once);
    let (geometry, pointers) = (cover(gx, at_once), [gy.device(), gx.device_mut()]);
    launcher.launch(name, geometry, &pointers, &Params::new(gx.shape())?)
}
