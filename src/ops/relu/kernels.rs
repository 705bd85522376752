//! Launches of `kernels/relu.cu`.

use bytemuck::NoUninit;

use crate::device::{Launcher, size};
use crate::error::Result;
use crate::kernel;
use crate::ops::vector;
use crate::tensor::Tensor;

/// `ReluParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    elems: u32,
}

/// y = max(x, 0).
pub(super) fn forward(launcher: &Launcher, x: &Tensor, y: &mut Tensor) -> Result<()> {
    let name = kernel!("relu_forward", x.dtype());
    launch(launcher, name, x, y)
}

/// g = 0 where y = 0.
pub(super) fn backward(launcher: &Launcher, y: &Tensor, g: &mut Tensor) -> Result<()> {
    let name = kernel!("relu_backward", y.dtype());
    launch(launcher, name, y, g)
}

fn launch(launcher: &Launcher, name: &str, x: &Tensor, y: &mut Tensor) -> Result<()> {
    let elems = x.shape().elems();
    let geometry = vector::elementwise(elems, x.dtype())?;
    launcher.launch(name, geometry, &[x.device(), y.device_mut()], &Params { elems: size(elems)? })
}
