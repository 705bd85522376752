//! Launches for the linear layer: a 1×1 convolution over rows, and `kernels/linear.cu`.

use bytemuck::NoUninit;

use crate::device::{Geometry, Queue, size};
use crate::error::Result;
use crate::kernel;
use crate::ops::lanes::{self, THREADS, Tiles};
use crate::tensor::Tensor;

/// `LinearBiasParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct BiasParams {
    rows: u32,
    channels: u32,
    columns: u32,
}

/// Adds the sum of the rows of `gy` to the first elements of `gb`, of f32; where there is
/// nothing in it yet (`accumulate` false) the rest becomes 0.
pub(super) fn bias_grad(
    queue: &Queue,
    gy: &Tensor,
    gb: &mut Tensor,
    accumulate: bool,
) -> Result<()> {
    if !accumulate {
        queue.driver.fill(gb.device_mut(), 0, gb.meta().size_bytes())?;
    }
    let (rows, channels) = (size(gy.shape().rows())?, size(gy.shape().c())?);
    let at_once = lanes::of_row(gy.shape().c(), gy.dtype());
    let Tiles { columns, tiles } = Tiles::new(channels, at_once);
    let params = BiasParams { rows, channels, columns };
    let name = kernel!("linear_bias_gradient", gy.dtype(), at_once);
    let geometry = Geometry::linear(tiles, THREADS);
    queue.launch(name, geometry, &[gy.device(), gb.device_mut()], &params)
}
