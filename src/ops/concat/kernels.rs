//! Launches of `kernels/concat.cu`.

use bytemuck::NoUninit;

use crate::device::{DevicePtr, Geometry, Launcher, size};
use crate::error::Result;
use crate::kernel;
use crate::ops::vector::{self, row_width};
use crate::tensor::{DType, Tensor};

/// `ConcatParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    rows: u32,
    channels: u32,
    from_stride: u32,
    to_stride: u32,
}

/// Columns of a matrix: the pointer to its first element, their first, and the columns of all.
#[derive(Clone, Copy)]
struct Columns(DevicePtr, usize, usize);

/// Both inputs' channels side by side.
pub(super) fn forward(launcher: &Launcher, parts: [&Tensor; 2], y: &mut Tensor) -> Result<()> {
    let (rows, c, dtype) = (y.shape().rows(), y.shape().c(), y.dtype());
    let mut at = 0;
    for part in parts {
        let channels = part.shape().c();
        let (from, to) = (Columns(part.device(), 0, channels), Columns(y.device_mut(), at, c));
        copy(launcher, dtype, [rows, channels], from, to)?;
        at += channels;
    }
    Ok(())
}

/// The channels of gy from `from` on, as many as g has.
pub(super) fn backward(
    launcher: &Launcher,
    gy: &Tensor,
    from: usize,
    g: &mut Tensor,
) -> Result<()> {
    let [rows, channels] = [g.shape().rows(), g.shape().c()];
    let from = Columns(gy.device(), from, gy.shape().c());
    let to = Columns(g.device_mut(), 0, channels);
    copy(launcher, gy.dtype(), [rows, channels], from, to)
}

/// Copies columns of all rows.
fn copy(
    launcher: &Launcher,
    dtype: DType,
    [rows, channels]: [usize; 2],
    from: Columns,
    to: Columns,
) -> Result<()> {
    size(rows * from.2.max(to.2))?;
    let sizes = [channels, from.1, from.2, to.1, to.2];
    let at_once = sizes.map(|c| row_width(c, dtype)).into_iter().min().unwrap_or(1);
    let params = Params {
        rows: rows as u32,
        channels: channels as u32,
        from_stride: from.2 as u32,
        to_stride: to.2 as u32,
    };
    let [from, to] = [from, to].map(|Columns(p, at, _)| p.offset(at * dtype.size_bytes()));
    let geometry = Geometry::cover((rows * channels / at_once) as u32, vector::THREADS);
    launcher.launch(kernel!("concat", dtype, at_once), geometry, &[from, to], &params)
}
