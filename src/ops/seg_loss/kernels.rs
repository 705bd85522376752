//! Launches of `kernels/seg_loss.cu`.

use bytemuck::NoUninit;

use crate::cx::Cx;
use crate::device::{Geometry, Launcher, size};
use crate::error::Result;
use crate::kernel;
use crate::ops::mean;
use crate::ops::resize_bilinear::{Axis, kernels::taps};
use crate::ops::vector::{THREADS, Tiles};
use crate::tensor::{DType, Meta, Shape, Tensor};

/// `SegLossParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    images: u32,
    height: u32,
    width: u32,
    classes: u32,
    out_height: u32,
    out_width: u32,
    columns: u32,
    tiles: u32,
    weight: f32,
}

/// `Span`: the positions that a cell may have a share of.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Span {
    begin: u32,
    end: u32,
}

/// Logits, labels, and the rows and columns of the former among those of the latter.
pub(super) struct Maps<'a> {
    pub(super) logits: &'a Tensor,
    pub(super) labels: &'a Tensor,
    pub(super) axes: [Axis; 2],
    pub(super) weight: f64,
}

impl Maps<'_> {
    /// lse of each pixel, and the loss: NaN where a label is no class.
    pub(super) fn forward(
        &self,
        cx: &Cx,
        launcher: &Launcher,
        lse: &mut Tensor,
        loss: &mut Tensor,
    ) -> Result<()> {
        let params = self.params()?;
        let blocks = (self.labels.shape().elems() as u32).div_ceil(THREADS);
        let mut losses = cx.scratch(Meta::new(Shape::vector(blocks as usize), DType::F32))?;
        let [rows, columns] = [taps(cx, &self.axes[0])?, taps(cx, &self.axes[1])?];
        let pointers = [
            self.logits.device(),
            self.labels.device(),
            rows.device(),
            columns.device(),
            lse.device_mut(),
            losses.device_mut(),
        ];
        let name = kernel!("seg_loss_forward", self.logits.dtype());
        launcher.launch(name, Geometry::linear(blocks, THREADS), &pointers, &params)?;
        mean::rows(launcher, &losses, self.weight * f64::from(blocks), loss)
    }

    /// The gradient of the logits: NaN where a label that is no class has a share.
    pub(super) fn backward(
        &self,
        cx: &Cx,
        launcher: &Launcher,
        lse: &Tensor,
        gy: &Tensor,
        gx: &mut Tensor,
    ) -> Result<()> {
        let params = self.params()?;
        let [rows, columns] = [taps(cx, &self.axes[0])?, taps(cx, &self.axes[1])?];
        let [_, height, width, _] = self.logits.shape().0;
        let row_spans = spans(cx, &self.axes[0], height)?;
        let column_spans = spans(cx, &self.axes[1], width)?;
        let pointers = [
            self.logits.device(),
            self.labels.device(),
            rows.device(),
            columns.device(),
            row_spans.device(),
            column_spans.device(),
            lse.device(),
            gy.device(),
            gx.device_mut(),
        ];
        let blocks = size(self.logits.shape().rows() * params.tiles as usize)?;
        let name = kernel!("seg_loss_backward", self.logits.dtype());
        launcher.launch(name, Geometry::linear(blocks, THREADS), &pointers, &params)
    }

    /// For maps whose every element is counted in 31 bits.
    fn params(&self) -> Result<Params> {
        let (logits, labels) = (self.logits.shape(), self.labels.shape());
        size(logits.elems().max(labels.elems()))?;
        let [images, height, width, classes] = logits.0.map(|d| d as u32);
        let [_, out_height, out_width, _] = labels.0.map(|d| d as u32);
        let Tiles { columns, tiles } = Tiles::new(classes, 1);
        let weight = self.weight as f32;
        Ok(Params { images, height, width, classes, out_height, out_width, columns, tiles, weight })
    }
}

/// The spans of all cells of an axis on a device.
fn spans(cx: &Cx, axis: &Axis, cells: usize) -> Result<Tensor> {
    let span = |cell| {
        let positions = axis.touching(cell);
        Span { begin: positions.start as u32, end: positions.end as u32 }
    };
    cx.table(&(0..cells).map(span).collect::<Vec<_>>())
}
