//! Launches of `kernels/resize_bilinear.cu`, and tables of taps on a device.

use bytemuck::NoUninit;

use super::Axis;
use crate::cx::Cx;
use crate::device::{Geometry, Launcher, size};
use crate::error::Result;
use crate::kernel;
use crate::ops::vector;
use crate::tensor::Tensor;

/// `Tap` of `kernels/include/taps.h`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Tap {
    first: u32,
    share: f32,
}

/// The taps of an axis on a device.
pub(in crate::ops) fn taps(cx: &Cx, axis: &Axis) -> Result<Tensor> {
    let tap = |tap: &super::axis::Tap| Tap { first: tap.first as u32, share: tap.share as f32 };
    cx.table(&axis.taps.iter().map(tap).collect::<Vec<_>>())
}

/// `ResizeBilinearParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    images: u32,
    height: u32,
    width: u32,
    channels: u32,
    out_height: u32,
    out_width: u32,
}

/// y = x resized along two axes: rows and columns.
pub(super) fn resize(
    cx: &Cx,
    launcher: &Launcher,
    [rows, columns]: &[Axis; 2],
    x: &Tensor,
    y: &mut Tensor,
) -> Result<()> {
    size(x.shape().elems().max(y.shape().elems()))?;
    let [images, height, width, channels] = x.shape().0.map(|d| d as u32);
    let [_, out_height, out_width, _] = y.shape().0.map(|d| d as u32);
    let params = Params { images, height, width, channels, out_height, out_width };
    let (rows, columns) = (taps(cx, rows)?, taps(cx, columns)?);
    let at_once = vector::row_width(x.shape().c(), x.dtype());
    let geometry = Geometry::cover((y.shape().elems() / at_once) as u32, vector::THREADS);
    let pointers = [x.device(), rows.device(), columns.device(), y.device_mut()];
    launcher.launch(kernel!("resize_bilinear", x.dtype(), at_once), geometry, &pointers, &params)
}
