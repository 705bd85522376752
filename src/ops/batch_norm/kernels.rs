//! Launches of `kernels/batch_norm.cu`.

use bytemuck::NoUninit;

use super::{BatchNorm, EPS, Running, Stats};
use crate::cx::Cx;
use crate::device::{DevicePtr, Geometry, Launcher, size};
use crate::error::Result;
use crate::kernel;
use crate::ops::Grad;
use crate::ops::vector::{self, THREADS, Tiles};
use crate::tensor::{DType, Meta, Shape, Tensor};

/// Rows that a thread has at least, so that sums over a block are little of its work.
const ROWS_A_THREAD: u32 = 16;
/// Blocks of a pass over x that are enough to keep any device busy.
const BLOCKS: u32 = 4096;
/// Most parts of a group: what a later kernel adds up.
const PARTS: u32 = 1024;
/// Channels of a block that adds parts up.
const TOTAL_COLUMNS: u32 = 8;

/// `BatchNormParams`: how x is cut into groups of images, parts of groups and tiles of
/// channels, which is a function of its shape and type alone; and what is computed.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    channels: u32,
    rows: u32,
    groups: u32,
    group_rows: u32,
    parts: u32,
    part_rows: u32,
    columns: u32,
    tiles: u32,
    add: u32,
    relu: u32,
    given: u32,
    eps: f32,
    images: u32,
}

/// `BatchNormAveragesParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct AveragesParams {
    channels: u32,
    images: u32,
}

/// `BatchNormGivenParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct GivenParams {
    channels: u32,
    eps: f32,
}

/// `BatchNormParametersParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct ParametersParams {
    channels: u32,
    groups: u32,
    max: [u32; 2],
    accumulate: [u32; 2],
}

/// Scratch: two f32 values for each channel, `n` times.
fn pairs(cx: &Cx, n: u32, channels: u32) -> Result<Tensor> {
    let elems = size(2 * n as usize * channels as usize)?;
    cx.scratch(Meta::new(Shape::vector(elems as usize), DType::F32))
}

impl Params {
    fn new(op: &BatchNorm, x: Meta) -> Result<Self> {
        size(x.shape.elems())?;
        let (channels, rows) = (x.shape.c() as u32, x.shape.rows() as u32);
        let images = op.group(x.shape.n());
        let groups = x.shape.n().div_ceil(images) as u32;
        let group_rows = (images * x.shape.positions()) as u32;
        let tiles = Tiles::new(channels, vector::row_width(x.shape.c(), x.dtype));
        let most = (BLOCKS / groups.saturating_mul(tiles.tiles)).clamp(1, PARTS);
        let parts = group_rows.div_ceil(tiles.rows() * ROWS_A_THREAD).min(most);
        let part_rows = group_rows.div_ceil(parts);
        Ok(Self {
            channels,
            rows,
            groups,
            group_rows,
            parts: group_rows.div_ceil(part_rows),
            part_rows,
            columns: tiles.columns,
            tiles: tiles.tiles,
            add: op.add.into(),
            relu: op.relu.into(),
            given: (op.stats == Stats::Given).into(),
            eps: EPS as f32,
            images: x.shape.n() as u32,
        })
    }

    /// A pass over x: a block for each tile of each part of each group.
    fn pass(&self) -> Geometry {
        Geometry::linear(self.groups * self.tiles * self.parts, THREADS)
    }

    /// The sum of parts: a block for some channels of each group.
    fn total(&self) -> Geometry {
        Geometry::linear(self.groups * self.channels.div_ceil(TOTAL_COLUMNS), THREADS)
    }
}

/// Sums and shifts from which mean and variance of each group follow.
fn moments(cx: &Cx, launcher: &Launcher, params: &Params, x: &Tensor) -> Result<[Tensor; 2]> {
    let mut sums = pairs(cx, params.groups * params.parts, params.channels)?;
    let mut shifts = pairs(cx, params.groups, params.channels)?;
    let at_once = vector::row_width(x.shape().c(), x.dtype());
    let name = kernel!("batch_norm_moments", x.dtype(), at_once);
    let pointers = [x.device(), sums.device_mut(), shifts.device_mut()];
    launcher.launch(name, params.pass(), &pointers, params)?;
    Ok([sums, shifts])
}

/// Fills `stats` with mean and 1/√(var + ε) of each group. Adds mean and unbiased variance of
/// the only group to `running`.
pub(super) fn statistics(
    op: &BatchNorm,
    cx: &Cx,
    launcher: &Launcher,
    x: &Tensor,
    stats: &mut Tensor,
    running: Option<&mut Running>,
) -> Result<()> {
    let params = Params::new(op, x.meta())?;
    let [sums, shifts] = moments(cx, launcher, &params, x)?;
    let running = running.map_or(DevicePtr::NULL, |running| running.sums.device_mut());
    let pointers = [sums.device(), shifts.device(), stats.device_mut(), running];
    launcher.launch("batch_norm_statistics_f32", params.total(), &pointers, &params)
}

/// Mean and variance from their sums over so many images.
pub(super) fn averages(
    launcher: &Launcher,
    sums: &Tensor,
    images: usize,
    mean: &mut Tensor,
    var: &mut Tensor,
) -> Result<()> {
    let channels = mean.shape().c() as u32;
    let params = AveragesParams { channels, images: size(images)? };
    let pointers = [sums.device(), mean.device_mut(), var.device_mut()];
    let geometry = Geometry::cover(channels, THREADS);
    launcher.launch("batch_norm_averages_f32", geometry, &pointers, &params)
}

/// Mean and 1/√(var + ε).
pub(super) fn given_statistics(
    launcher: &Launcher,
    mean: &Tensor,
    var: &Tensor,
    stats: &mut Tensor,
) -> Result<()> {
    let channels = mean.shape().c() as u32;
    let params = GivenParams { channels, eps: EPS as f32 };
    let pointers = [mean.device(), var.device(), stats.device_mut()];
    let geometry = Geometry::cover(channels, THREADS);
    launcher.launch("batch_norm_given_f32", geometry, &pointers, &params)
}

/// y from x and γ, β, and the statistics of each group.
pub(super) fn normalise(
    op: &BatchNorm,
    launcher: &Launcher,
    x: &Tensor,
    [gamma, beta, stats]: [&Tensor; 3],
    residual: Option<&Tensor>,
    y: &mut Tensor,
) -> Result<()> {
    let params = Params::new(op, x.meta())?;
    let residual = residual.map_or(DevicePtr::NULL, Tensor::device);
    let at_once = vector::row_width(x.shape().c(), x.dtype());
    let name = kernel!("batch_norm_forward", x.dtype(), at_once);
    let [x, gamma, beta, stats] = [x, gamma, beta, stats].map(Tensor::device);
    let pointers = [x, gamma, beta, stats, residual, y.device_mut()];
    launcher.launch(name, params.pass(), &pointers, &params)
}

/// For each group and channel, what the statistics contribute to the gradient of x.
pub(super) struct Terms(Tensor);

/// Masks `gy` where there is a residual and a ReLU, adds the gradients of γ and β, and returns
/// what [`input_gradient`] needs.
pub(super) fn gradient_sums(
    op: &BatchNorm,
    cx: &Cx,
    launcher: &Launcher,
    saved: &[Tensor],
    gy: &mut Tensor,
    grads: &mut [Grad],
) -> Result<Terms> {
    let (x, stats) = (&saved[0], &saved[3]);
    let params = Params::new(op, x.meta())?;
    let mut sums = pairs(cx, params.groups * params.parts, params.channels)?;
    let y = saved.get(4).map_or(DevicePtr::NULL, Tensor::device);
    let at_once = vector::row_width(x.shape().c(), x.dtype());
    let name = kernel!("batch_norm_sums", x.dtype(), at_once);
    let [x, gamma, beta, stats] = [x, &saved[1], &saved[2], stats].map(Tensor::device);
    let pointers = [x, gamma, beta, stats, y, gy.device_mut(), sums.device_mut()];
    launcher.launch(name, params.pass(), &pointers, &params)?;

    let mut totals = pairs(cx, params.groups, params.channels)?;
    let mut terms = pairs(cx, params.groups, params.channels)?;
    let pointers = [sums.device(), stats, totals.device_mut(), terms.device_mut()];
    launcher.launch("batch_norm_terms_f32", params.total(), &pointers, &params)?;
    add_to_parameters(cx, launcher, &params, saved, &totals, grads)?;
    Ok(Terms(terms))
}

/// Adds the gradients of γ and β where they are wanted.
fn add_to_parameters(
    cx: &Cx,
    launcher: &Launcher,
    params: &Params,
    saved: &[Tensor],
    totals: &Tensor,
    grads: &mut [Grad],
) -> Result<()> {
    let mut pointers = [totals.device(), DevicePtr::NULL, DevicePtr::NULL];
    let [max, accumulate] = [[0; 2]; 2];
    let (channels, groups) = (params.channels, params.groups);
    let mut params = ParametersParams { channels, groups, max, accumulate };
    for i in 0..2 {
        let meta = saved[i + 1].meta();
        params.max[i] = size(meta.shape.elems())?;
        grads[i + 1].write(cx, meta, |grad, accumulate| {
            pointers[i + 1] = grad.device_mut();
            params.accumulate[i] = accumulate.into();
            Ok(())
        })?;
    }
    if pointers[1..] == [DevicePtr::NULL; 2] {
        return Ok(());
    }
    let geometry = Geometry::cover(params.max[0].max(params.max[1]), THREADS);
    launcher.launch("batch_norm_parameters_f32", geometry, &pointers, &params)
}

/// The gradient of x, from that of y in `gy`, or in `gx` where that is `None`.
pub(super) fn input_gradient(
    op: &BatchNorm,
    launcher: &Launcher,
    saved: &[Tensor],
    terms: &Terms,
    gy: Option<&Tensor>,
    gx: &mut Tensor,
) -> Result<()> {
    let params = Params::new(op, saved[0].meta())?;
    let at_once = vector::row_width(gx.shape().c(), gx.dtype());
    let name = kernel!("batch_norm_backward", gx.dtype(), at_once);
    let gx = gx.device_mut();
    let [x, gamma, beta, stats] = [0, 1, 2, 3].map(|i| saved[i].device());
    let pointers = [x, gamma, beta, stats, terms.0.device(), gy.map_or(gx, Tensor::device), gx];
    launcher.launch(name, params.pass(), &pointers, &params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_groups() {
        for shape in [[1, 1, 1, 1], [5, 3, 2, 8], [256, 112, 112, 64], [70_000, 1, 1, 9]] {
            for group in [0, 1, 2, 32] {
                let x = Meta::new(Shape(shape), DType::BF16);
                let p = Params::new(&BatchNorm::batch(group), x).unwrap();
                assert!(p.parts * p.part_rows >= p.group_rows);
                assert!((p.parts - 1) * p.part_rows < p.group_rows);
                assert!(p.groups * p.group_rows >= p.rows);
                assert!((p.groups - 1) * p.group_rows < p.rows, "{p:?}");
            }
        }
    }
}
