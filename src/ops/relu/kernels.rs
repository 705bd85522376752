//! Launches of `kernels/relu.cu`.

use bytemuck::NoUninit;

use crate::device::{Geometry, Queue, size};
use crate::error::Result;
use crate::kernel;
use crate::ops::VECTOR_BYTES;
use crate::tensor::Tensor;

/// `ReluParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    elems: u32,
}

/// y = max(x, 0).
pub(super) fn forward(queue: &Queue, x: &Tensor, y: &mut Tensor) -> Result<()> {
    let name = kernel!("relu_forward", x.dtype());
    launch(queue, name, x, y)
}

/// g = 0 where y = 0.
pub(super) fn backward(queue: &Queue, y: &Tensor, g: &mut Tensor) -> Result<()> {
    let name = kernel!("relu_backward", y.dtype());
    launch(queue, name, y, g)
}

/// A thread for each vector of elements.
fn launch(queue: &Queue, name: &str, x: &Tensor, y: &mut Tensor) -> Result<()> {
    let params = Params { elems: size(x.shape().elems())? };
    let vectors = params.elems.div_ceil((VECTOR_BYTES / x.dtype().size_bytes()) as u32);
    queue.launch(name, Geometry::cover(vectors, 256), &[x.device(), y.device_mut()], &params)
}
