//! Launches of `kernels/roi_align.cu`.

use bytemuck::NoUninit;

use super::RoiAlign;
use crate::cx::Cx;
use crate::device::{Geometry, Launcher, size};
use crate::error::{Error, Result};
use crate::kernel;
use crate::ops::vector::{self, THREADS};
use crate::tensor::{DType, Meta, Shape, Tensor};

/// Rows and columns of positions of a block of the gradient, and its vectors of channels.
const TILE: usize = 8;
const VECTORS: usize = THREADS as usize / (TILE * TILE);
/// Most bins of an axis in the gradient's tables.
const MOST_BINS: usize = 32;

/// `RoiAlignParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    rois: u32,
    size: u32,
    images: u32,
    levels: u32,
    level: u32,
    height: u32,
    width: u32,
    channels: u32,
    scale: f32,
    accumulate: u32,
}

impl Params {
    /// For the map of a level, of shape `map`; all elements are counted in 31 bits.
    fn new(op: &RoiAlign, level: usize, rois: &Tensor, map: Shape) -> Result<Self> {
        let rois = rois.shape().n();
        if op.size > MOST_BINS {
            return Err(Error::device(format!(
                "the kernels of roi_align take at most {MOST_BINS} bins an axis; found {}; use a \
                 smaller size or --device cpu",
                op.size
            )));
        }
        size(map.elems())?;
        size(rois * op.size * op.size * map.c())?;
        let [images, height, width, channels] = map.0.map(|d| d as u32);
        let [rois, size, level, levels] = [rois, op.size, level, op.scales.len()].map(|d| d as u32);
        let scale = op.scales[level as usize] as f32;
        let accumulate = 0;
        let params =
            Self { rois, size, images, levels, level, height, width, channels, scale, accumulate };
        Ok(params)
    }
}

/// y of the RoIs of all levels.
pub(super) fn forward(
    op: &RoiAlign,
    launcher: &Launcher,
    maps: &[&Tensor],
    rois: &Tensor,
    y: &mut Tensor,
) -> Result<()> {
    let at_once = vector::row_width(y.shape().c(), y.dtype());
    let geometry = Geometry::cover(size(y.shape().elems() / at_once)?, THREADS);
    let name = kernel!("roi_align_forward", y.dtype(), at_once);
    for (level, map) in maps.iter().enumerate() {
        let params = Params::new(op, level, rois, map.shape())?;
        let pointers = [map.device(), rois.device(), y.device_mut()];
        launcher.launch(name, geometry, &pointers, &params)?;
    }
    Ok(())
}

/// Where the RoIs of each image and level start, for maps of which one has shape `map`.
pub(super) fn starts(
    op: &RoiAlign,
    cx: &Cx,
    launcher: &Launcher,
    rois: &Tensor,
    map: Shape,
) -> Result<Tensor> {
    let params = Params::new(op, 0, rois, map)?;
    let groups = size(map.n() * op.scales.len() + 1)?;
    let mut starts = cx.scratch(Meta::new(Shape::vector(groups as usize), DType::I32))?;
    let pointers = [rois.device(), starts.device_mut()];
    launcher.launch("roi_align_starts", Geometry::cover(groups, THREADS), &pointers, &params)?;
    Ok(starts)
}

/// Writes `gx` of the map of a level, or adds to it; `starts` are those of [`starts`].
pub(super) fn backward(
    op: &RoiAlign,
    launcher: &Launcher,
    level: usize,
    [rois, starts, gy]: [&Tensor; 3],
    gx: &mut Tensor,
    accumulate: bool,
) -> Result<()> {
    let shape = gx.shape();
    let params = Params { accumulate: accumulate.into(), ..Params::new(op, level, rois, shape)? };
    let at_once = vector::row_width(shape.c(), gx.dtype());
    let tiles = shape.n() * shape.h().div_ceil(TILE) * shape.w().div_ceil(TILE);
    let grid = [size(tiles)?, size(shape.c().div_ceil(at_once * VECTORS))?, 1];
    let geometry = Geometry { grid, ..Geometry::linear(1, THREADS) };
    let name = kernel!("roi_align_backward", gx.dtype(), at_once);
    let pointers = [rois.device(), starts.device(), gy.device(), gx.device_mut()];
    launcher.launch(name, geometry, &pointers, &params)
}
