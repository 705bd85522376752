//! Launches of `kernels/l2_normalise.cu`.

use bytemuck::NoUninit;

use super::EPS;
use crate::device::{DevicePtr, Geometry, Launcher, size};
use crate::error::Result;
use crate::kernel;
use crate::ops::vector;
use crate::tensor::{Shape, Tensor};

/// `L2NormaliseParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    rows: u32,
    channels: u32,
    eps: f32,
}

/// Rows of a block: a warp has one.
const ROWS: u32 = vector::THREADS / 32;

/// y = x / max(‖x‖, ε) for each row, and the divisors.
pub(super) fn forward(
    launcher: &Launcher,
    x: &Tensor,
    y: &mut Tensor,
    lengths: &mut Tensor,
) -> Result<()> {
    let at_once = vector::row_width(x.shape().c(), x.dtype());
    let name = kernel!("l2_normalise_forward", x.dtype(), at_once);
    launch(launcher, name, x.shape(), &[x.device(), y.device_mut(), lengths.device_mut()])
}

/// The gradient of x, in place of that of y.
pub(super) fn backward(
    launcher: &Launcher,
    y: &Tensor,
    lengths: &Tensor,
    g: &mut Tensor,
) -> Result<()> {
    let at_once = vector::row_width(y.shape().c(), y.dtype());
    let name = kernel!("l2_normalise_backward", y.dtype(), at_once);
    launch(launcher, name, y.shape(), &[y.device(), lengths.device(), g.device_mut()])
}

fn launch(launcher: &Launcher, name: &str, shape: Shape, pointers: &[DevicePtr]) -> Result<()> {
    size(shape.elems())?;
    let (rows, channels) = (shape.rows() as u32, shape.c() as u32);
    let params = Params { rows, channels, eps: EPS as f32 };
    let geometry = Geometry::linear(rows.div_ceil(ROWS), vector::THREADS);
    launcher.launch(name, geometry, pointers, &params)
}
