//! Launches of `kernels/scale_channels.cu`.

use bytemuck::NoUninit;

use crate::device::{DevicePtr, Geometry, Launcher, size};
use crate::error::Result;
use crate::kernel;
use crate::ops::vector;
use crate::tensor::{Meta, Tensor};

/// `ScaleChannelsParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    pixels: u32,
    positions: u32,
    channels: u32,
}

/// y = x·s.
pub(super) fn forward(launcher: &Launcher, x: &Tensor, s: &Tensor, y: &mut Tensor) -> Result<()> {
    launch(launcher, x.meta(), [x.device(), s.device(), y.device_mut()])
}

/// g ← g·s.
pub(super) fn backward(launcher: &Launcher, s: &Tensor, g: &mut Tensor) -> Result<()> {
    let there = g.device_mut();
    launch(launcher, g.meta(), [there, s.device(), there])
}

fn launch(launcher: &Launcher, meta: Meta, pointers: [DevicePtr; 3]) -> Result<()> {
    let Meta { shape, dtype } = meta;
    let elems = size(shape.elems())?;
    let at_once = vector::row_width(shape.c(), dtype);
    let [pixels, positions, channels] =
        [shape.rows(), shape.positions(), shape.c()].map(|n| n as u32);
    let params = Params { pixels, positions, channels };
    let geometry = Geometry::cover(elems / at_once as u32, vector::THREADS);
    launcher.launch(kernel!("scale_channels", dtype, at_once), geometry, &pointers, &params)
}
