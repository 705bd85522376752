//! Launches of `kernels/avg_pool.cu`.

use bytemuck::NoUninit;

use crate::device::{Geometry, Launcher, size};
use crate::error::Result;
use crate::kernel;
use crate::ops::vector::{self, Tiles};
use crate::tensor::{Shape, Tensor};

/// `AvgPoolParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    images: u32,
    positions: u32,
    channels: u32,
    columns: u32,
    tiles: u32,
}

impl Params {
    /// For x of a shape, whose every element is counted in 31 bits.
    fn new(x: Shape, at_once: usize) -> Result<Self> {
        size(x.elems())?;
        let [images, positions, channels] = [x.n(), x.positions(), x.c()].map(|d| d as u32);
        let Tiles { columns, tiles } = Tiles::new(channels, at_once);
        Ok(Self { images, positions, channels, columns, tiles })
    }
}

/// Means over positions: `[N,H,W,C]` to `[N,C]`.
pub(super) fn forward(launcher: &Launcher, x: &Tensor, y: &mut Tensor) -> Result<()> {
    let at_once = vector::row_width(x.shape().c(), x.dtype());
    let params = Params::new(x.shape(), at_once)?;
    let geometry = Geometry::linear(params.images * params.tiles, vector::THREADS);
    let name = kernel!("avg_pool_forward", x.dtype(), at_once);
    launcher.launch(name, geometry, &[x.device(), y.device_mut()], &params)
}

/// Every position gets its share of the gradient.
pub(super) fn backward(launcher: &Launcher, gy: &Tensor, gx: &mut Tensor) -> Result<()> {
    let at_once = vector::row_width(gx.shape().c(), gx.dtype());
    let params = Params::new(gx.shape(), at_once)?;
    let geometry = Geometry::cover((gx.shape().elems() / at_once) as u32, vector::THREADS);
    let name = kernel!("avg_pool_backward", gx.dtype(), at_once);
    launcher.launch(name, geometry, &[gy.device(), gx.device_mut()], &params)
}
