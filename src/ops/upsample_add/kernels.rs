//! Launches of `kernels/upsample_add.cu`.

use bytemuck::NoUninit;

use crate::device::{Geometry, Launcher, size};
use crate::error::Result;
use crate::kernel;
use crate::ops::vector;
use crate::tensor::{Shape, Tensor};

/// `UpsampleAddParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    images: u32,
    height: u32,
    width: u32,
    channels: u32,
    half_height: u32,
    half_width: u32,
}

impl Params {
    /// For a of a shape, whose every element is counted in 31 bits.
    fn new(a: Shape) -> Result<Self> {
        size(a.elems())?;
        let [images, height, width, channels] = a.0.map(|d| d as u32);
        let (half_height, half_width) = (height.div_ceil(2), width.div_ceil(2));
        Ok(Self { images, height, width, channels, half_height, half_width })
    }
}

/// A thread for each `at_once` elements of a tensor.
fn cover(t: &Tensor, at_once: usize) -> Geometry {
    Geometry::cover((t.shape().elems() / at_once) as u32, vector::THREADS)
}

/// y.
pub(super) fn forward(launcher: &Launcher, a: &Tensor, b: &Tensor, y: &mut Tensor) -> Result<()> {
    let at_once = vector::row_width(a.shape().c(), a.dtype());
    let name = kernel!("upsample_add_forward", a.dtype(), at_once);
    let (geometry, pointers) = (cover(y, at_once), [a.device(), b.device(), y.device_mut()]);
    launcher.launch(name, geometry, &pointers, &Params::new(a.shape())?)
}

/// gb from the gradient of the output.
pub(super) fn backward(launcher: &Launcher, gy: &Tensor, gb: &mut Tensor) -> Result<()> {
    let at_once = vector::row_width(gb.shape().c(), gb.dtype());
    let name = kernel!("upsample_add_backward", gb.dtype(), at_once);
    let (geometry, pointers) = (cover(gb, at_once), [gy.device(), gb.device_mut()]);
    launcher.launch(name, geometry, &pointers, &Params::new(gy.shape())?)
}
