//! Launches of `kernels/bce_logits.cu`.

use bytemuck::NoUninit;

use crate::cx::Cx;
use crate::device::{DevicePtr, Geometry, Launcher, size};
use crate::error::Result;
use crate::kernel;
use crate::ops::{mean, vector::THREADS};
use crate::tensor::{DType, Meta, Shape, Tensor};

/// Pixels of a block of the forward pass.
const PIXELS: u32 = THREADS * 16;

/// `BceLogitsParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    pixels: u32,
    positions: u32,
    channels: u32,
    weight: f32,
}

impl Params {
    fn new(x: Shape, weight: f64) -> Result<Self> {
        size(x.elems())?;
        let [pixels, positions, channels] = [x.rows(), x.positions(), x.c()].map(|d| d as u32);
        Ok(Self { pixels, positions, channels, weight: weight as f32 })
    }
}

/// Where the selected channels lie, where there are some.
fn selected(select: Option<&Tensor>) -> DevicePtr {
    select.map_or(DevicePtr::NULL, Tensor::device)
}

/// weight · the sum of the losses; `inputs` are logits, targets and perhaps selected channels.
pub(super) fn forward(
    cx: &Cx,
    launcher: &Launcher,
    weight: f64,
    inputs: &[&Tensor],
    loss: &mut Tensor,
) -> Result<()> {
    let (x, select) = (inputs[0], selected(inputs.get(2).copied()));
    let params = Params::new(x.shape(), weight)?;
    let blocks = params.pixels.div_ceil(PIXELS);
    let mut sums = cx.scratch(Meta::new(Shape::vector(blocks as usize), DType::F32))?;
    let pointers = [x.device(), inputs[1].device(), select, sums.device_mut()];
    let name = kernel!("bce_logits_forward", x.dtype());
    launcher.launch(name, Geometry::linear(blocks, THREADS), &pointers, &params)?;
    mean::rows(launcher, &sums, weight * f64::from(blocks), loss)
}

/// The gradient of the logits.
pub(super) fn backward(
    launcher: &Launcher,
    weight: f64,
    inputs: &[Tensor],
    gy: &Tensor,
    gx: &mut Tensor,
) -> Result<()> {
    let (x, select) = (&inputs[0], selected(inputs.get(2)));
    let params = Params::new(x.shape(), weight)?;
    launcher.driver.fill(gx.device_mut(), 0, gx.meta().size_bytes())?;
    let pointers = [x.device(), inputs[1].device(), select, gy.device(), gx.device_mut()];
    let name = kernel!("bce_logits_backward", x.dtype());
    launcher.launch(name, Geometry::cover(params.pixels, THREADS), &pointers, &params)
}
