//! Launches of `kernels/box_loss.cu`.

use bytemuck::NoUninit;

use super::BoxLoss;
use crate::cx::Cx;
use crate::device::{Geometry, Launcher, size};
use crate::error::Result;
use crate::kernel;
use crate::ops::{mean, vector::THREADS};
use crate::tensor::{DType, Meta, Shape, Tensor};

/// `BoxLossParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    rows: u32,
    boxes: u32,
    beta: f32,
    weight: f32,
}

impl Params {
    fn new(op: &BoxLoss, pred: Shape) -> Result<Self> {
        size(pred.elems())?;
        let (rows, boxes) = (pred.n() as u32, pred.c() as u32 / 4);
        Ok(Self { rows, boxes, beta: op.beta as f32, weight: op.weight as f32 })
    }

    /// A thread for each row.
    fn geometry(&self) -> Geometry {
        Geometry::cover(self.rows, THREADS)
    }
}

/// weight · the sum of the losses; `inputs` are predictions, targets and selected boxes.
pub(super) fn forward(
    op: &BoxLoss,
    cx: &Cx,
    launcher: &Launcher,
    inputs: [&Tensor; 3],
    loss: &mut Tensor,
) -> Result<()> {
    let params = Params::new(op, inputs[0].shape())?;
    let mut losses = cx.scratch(Meta::new(Shape::vector(params.rows as usize), DType::F32))?;
    let [pred, targets, select] = inputs.map(Tensor::device);
    let name = kernel!("box_loss_forward", inputs[0].dtype());
    let pointers = [pred, targets, select, losses.device_mut()];
    launcher.launch(name, params.geometry(), &pointers, &params)?;
    mean::rows(launcher, &losses, op.weight * f64::from(params.rows), loss)
}

/// The gradient of the predictions.
pub(super) fn backward(
    op: &BoxLoss,
    launcher: &Launcher,
    inputs: [&Tensor; 3],
    gy: &Tensor,
    gx: &mut Tensor,
) -> Result<()> {
    let params = Params::new(op, gx.shape())?;
    launcher.driver.fill(gx.device_mut(), 0, gx.meta().size_bytes())?;
    let [pred, targets, select] = inputs.map(Tensor::device);
    let name = kernel!("box_loss_backward", gx.dtype());
    let pointers = [pred, targets, select, gy.device(), gx.device_mut()];
    launcher.launch(name, params.geometry(), &pointers, &params)
}
