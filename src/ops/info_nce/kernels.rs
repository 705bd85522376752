//! Launches of `kernels/info_nce.cu`.

use bytemuck::NoUninit;

use super::InfoNCE;
use crate::cx::Cx;
use crate::device::{Geometry, Launcher, size};
use crate::error::Result;
use crate::kernel;
use crate::ops::{gemm_nt, mean, vector};
use crate::tensor::{DType, Meta, Shape, Tensor};

/// Blocks that are enough to keep any device busy.
const BLOCKS: u32 = 256;
/// Channels of the sum of negatives that a block keeps.
const PIECE: u32 = 128;

/// `InfoNceParams`: how the queue is cut is a function of the shapes alone.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    rows: u32,
    negatives: u32,
    channels: u32,
    strips: u32,
    strip: u32,
    pieces: u32,
    scale: f32,
}

/// `InfoNceBackwardParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct BackwardParams {
    elems: u32,
    factor: f32,
}

impl Params {
    fn new(tau: f64, q: Shape, queue: Shape) -> Result<Self> {
        let [rows, negatives, channels] = [size(q.n())?, size(queue.n())?, size(q.c())?];
        size(q.elems().max(queue.elems()))?;
        let pieces = channels.div_ceil(PIECE);
        let blocks = rows.div_ceil(gemm_nt::TILE) * pieces;
        let tiles = negatives.div_ceil(gemm_nt::TILE);
        let strip = tiles.div_ceil((BLOCKS / blocks).clamp(1, tiles)) * gemm_nt::TILE;
        let strips = negatives.div_ceil(strip);
        size(strips as usize * q.elems())?;
        let scale = tau.recip() as f32;
        Ok(Self { rows, negatives, channels, strips, strip, pieces, scale })
    }

    /// A warp has a row.
    fn warps(&self) -> Geometry {
        Geometry::linear(self.rows.div_ceil(vector::THREADS / 32), vector::THREADS)
    }
}

/// What blocks found of the softmax of each row's logits, in f32.
struct Parts {
    params: Params,
    states: Tensor,
    sums: Tensor,
}

fn parts(cx: &Cx, launcher: &Launcher, tau: f64, q: &Tensor, queue: &Tensor) -> Result<Parts> {
    let params = Params::new(tau, q.shape(), queue.shape())?;
    let Params { rows, strips, pieces, channels, .. } = params;
    let per_row = |n: u32| {
        let elems = strips as usize * rows as usize * n as usize;
        cx.scratch(Meta::new(Shape::vector(elems), DType::F32))
    };
    let (mut states, mut sums) = (per_row(2)?, per_row(channels)?);
    let at_once = vector::row_width(q.shape().c(), q.dtype());
    let name = kernel!("info_nce_parts", q.dtype(), at_once);
    let blocks = rows.div_ceil(gemm_nt::TILE) * strips * pieces;
    let pointers = [q.device(), queue.device(), states.device_mut(), sums.device_mut()];
    launcher.launch(name, Geometry::linear(blocks, gemm_nt::THREADS), &pointers, &params)?;
    Ok(Parts { params, states, sums })
}

/// Fills the loss and the direction of q's gradient, both f32.
pub(super) fn forward(
    op: &InfoNCE,
    cx: &Cx,
    launcher: &Launcher,
    [q, k, queue]: [&Tensor; 3],
    loss: &mut Tensor,
    direction: &mut Tensor,
) -> Result<()> {
    let Parts { params, states, sums } = parts(cx, launcher, op.tau, q, queue)?;
    let mut losses = cx.scratch(Meta::new(Shape::vector(params.rows as usize), DType::F32))?;
    let [states, sums] = [&states, &sums].map(Tensor::device);
    let pointers =
        [q.device(), k.device(), states, sums, direction.device_mut(), losses.device_mut()];
    let name = match op.own {
        true => kernel!("info_nce_combine", q.dtype()),
        false => kernel!("info_nce_combine_target", q.dtype()),
    };
    launcher.launch(name, params.warps(), &pointers, &params)?;
    mean::rows(launcher, &losses, op.weight, loss)
}

/// Fills Σ p·negative `[N,1,1,D]` and ln Σ exp(l) `[N,1,1,1]` of each row, both f32.
pub(in crate::ops) fn mean(
    cx: &Cx,
    launcher: &Launcher,
    tau: f64,
    [keys, queue]: [&Tensor; 2],
    mean: &mut Tensor,
    log_z: &mut Tensor,
) -> Result<()> {
    let Parts { params, states, sums } = parts(cx, launcher, tau, keys, queue)?;
    let pointers = [states.device(), sums.device(), mean.device_mut(), log_z.device_mut()];
    launcher.launch("queue_mean_f32", params.warps(), &pointers, &params)
}

/// The gradient of q from its direction.
pub(super) fn backward(
    op: &InfoNCE,
    launcher: &Launcher,
    direction: &Tensor,
    gy: &Tensor,
    gq: &mut Tensor,
) -> Result<()> {
    let factor = (op.weight / (op.tau * gq.shape().n() as f64)) as f32;
    let params = BackwardParams { elems: size(gq.shape().elems())?, factor };
    let geometry = vector::elementwise(gq.shape().elems(), gq.dtype())?;
    let pointers = [direction.device(), gy.device(), gq.device_mut()];
    launcher.launch(kernel!("info_nce_backward", gq.dtype()), geometry, &pointers, &params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_cover_the_queue() {
        for (n, d, k) in [(1, 7, 1), (131, 8, 4500), (256, 128, 65_536), (4096, 300, 129)] {
            let p = Params::new(0.2, Shape::matrix(n, d), Shape::matrix(k, d)).unwrap();
            assert!(p.strips * p.strip >= p.negatives, "{p:?}");
            assert!((p.strips - 1) * p.strip < p.negatives, "{p:?}");
            assert_eq!(p.strip % gemm_nt::TILE, 0);
        }
    }
}
