//! Launches of `kernels/add.cu`.

use bytemuck::NoUninit;

use crate::device::{DevicePtr, Launcher, size};
use crate::error::Result;
use crate::kernel;
use crate::ops::vector;
use crate::tensor::{Meta, Tensor};

/// `AddParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    elems: u32,
}

/// y = a + b.
pub(super) fn forward(launcher: &Launcher, a: &Tensor, b: &Tensor, y: &mut Tensor) -> Result<()> {
    let name = kernel!("add_forward", a.dtype());
    launch(launcher, name, a.meta(), &[a.device(), b.device(), y.device_mut()])
}

/// sum += x.
pub(super) fn accumulate(launcher: &Launcher, sum: &mut Tensor, x: &Tensor) -> Result<()> {
    let name = kernel!("add_accumulate", x.dtype());
    launch(launcher, name, x.meta(), &[x.device(), sum.device_mut()])
}

fn launch(launcher: &Launcher, name: &str, meta: Meta, pointers: &[DevicePtr]) -> Result<()> {
    let elems = meta.shape.elems();
    let geometry = vector::elementwise(elems, meta.dtype)?;
    launcher.launch(name, geometry, pointers, &Params { elems: size(elems)? })
}
