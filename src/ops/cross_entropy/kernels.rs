//! Launches of `kernels/cross_entropy.cu`.

use bytemuck::NoUninit;

use crate::cx::Cx;
use crate::device::{Geometry, Launcher, size};
use crate::error::Result;
use crate::kernel;
use crate::ops::{mean, vector};
use crate::tensor::{DType, Meta, Shape, Tensor};

/// `CrossEntropyParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    rows: u32,
    classes: u32,
    weight: f32,
}

impl Params {
    fn new(logits: Shape, weight: f64) -> Result<Self> {
        size(logits.elems())?;
        let (rows, classes) = (logits.n() as u32, logits.c() as u32);
        Ok(Self { rows, classes, weight: (weight / logits.n() as f64) as f32 })
    }

    /// A warp for each row.
    fn geometry(&self) -> Geometry {
        Geometry::linear(self.rows.div_ceil(vector::THREADS / 32), vector::THREADS)
    }
}

/// weight · the mean loss: NaN where a label is no class.
pub(super) fn forward(
    cx: &Cx,
    launcher: &Launcher,
    weight: f64,
    [logits, labels]: [&Tensor; 2],
    loss: &mut Tensor,
) -> Result<()> {
    let params = Params::new(logits.shape(), weight)?;
    let mut losses = cx.scratch(Meta::new(Shape::vector(logits.shape().n()), DType::F32))?;
    let pointers = [logits.device(), labels.device(), losses.device_mut()];
    let name = kernel!("cross_entropy_forward", logits.dtype());
    launcher.launch(name, params.geometry(), &pointers, &params)?;
    mean::rows(launcher, &losses, weight, loss)
}

/// The gradient of the logits: NaN in rows whose label is no class.
pub(super) fn backward(
    launcher: &Launcher,
    weight: f64,
    [logits, labels]: [&Tensor; 2],
    gy: &Tensor,
    gx: &mut Tensor,
) -> Result<()> {
    let params = Params::new(logits.shape(), weight)?;
    let pointers = [logits.device(), labels.device(), gy.device(), gx.device_mut()];
    let name = kernel!("cross_entropy_backward", logits.dtype());
    launcher.launch(name, params.geometry(), &pointers, &params)
}
