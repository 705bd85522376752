//! Launches of `kernels/cosine.cu`.

use bytemuck::NoUninit;

use crate::cx::Cx;
use crate::device::{Geometry, Launcher, size};
use crate::error::Result;
use crate::kernel;
use crate::ops::{mean, vector};
use crate::tensor::{DType, Meta, Shape, Tensor};

/// `CosineParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    rows: u32,
    channels: u32,
}

/// `CosineBackwardParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct BackwardParams {
    elems: u32,
    factor: f32,
}

/// weight · the mean of each row's 2 − 2·p·k, in f32.
pub(super) fn forward(
    cx: &Cx,
    launcher: &Launcher,
    weight: f64,
    [p, k]: [&Tensor; 2],
    loss: &mut Tensor,
) -> Result<()> {
    size(p.shape().elems())?;
    let params = Params { rows: p.shape().n() as u32, channels: p.shape().c() as u32 };
    let mut losses = cx.scratch(Meta::new(Shape::vector(p.shape().n()), DType::F32))?;
    let name = kernel!("cosine_rows", p.dtype(), vector::row_width(p.shape().c(), p.dtype()));
    // A warp has a row.
    let geometry = Geometry::linear(params.rows.div_ceil(vector::THREADS / 32), vector::THREADS);
    launcher.launch(name, geometry, &[p.device(), k.device(), losses.device_mut()], &params)?;
    mean::rows(launcher, &losses, weight, loss)
}

/// gp = gy · factor · k.
pub(super) fn backward(
    launcher: &Launcher,
    factor: f64,
    k: &Tensor,
    gy: &Tensor,
    gp: &mut Tensor,
) -> Result<()> {
    let params = BackwardParams { elems: size(k.shape().elems())?, factor: factor as f32 };
    let geometry = vector::elementwise(k.shape().elems(), k.dtype())?;
    let pointers = [k.device(), gy.device(), gp.device_mut()];
    launcher.launch(kernel!("cosine_backward", k.dtype()), geometry, &pointers, &params)
}
