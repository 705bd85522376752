//! Launches of `kernels/relu.cu`.

use bytemuck::NoUninit;

use crate::device::{Queue, size};
use crate::error::Result;
use crate::kernel;
use crate::ops::lanes;
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

fn launch(queue: &Queue, name: &str, x: &Tensor, y: &mut Tensor) -> Result<()> {
    let elems = x.shape().elems();
    let geometry = lanes::elementwise(elems, x.dtype())?;
    queue.launch(name, geometry, &[x.device(), y.device_mut()], &Params { elems: size(elems)? })
}
