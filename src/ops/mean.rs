//! Launches of `kernels/mean.cu`.

use bytemuck::NoUninit;

use super::vector::THREADS;
use crate::device::{Geometry, Launcher, size};
use crate::error::Result;
use crate::tensor::Tensor;

/// `MeanParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    columns: u32,
    factor: f32,
}

/// y = factor · the mean of each row of x `[N,1,1,C]`, summed in f64; both f32.
pub(crate) fn rows(launcher: &Launcher, x: &Tensor, factor: f64, y: &mut Tensor) -> Result<()> {
    size(x.shape().elems())?;
    let params = Params { columns: x.shape().c() as u32, factor: factor as f32 };
    let geometry = Geometry::linear(x.shape().rows() as u32, THREADS);
    launcher.launch("mean_rows_f32", geometry, &[x.device(), y.device_mut()], &params)
}
