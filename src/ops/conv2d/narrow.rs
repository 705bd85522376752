//! The three passes with operands rounded to bf16: products of panels that are packed from
//! wherever pixels and weights lie. Of a gather's depth each run of neighbouring taps is filled up
//! to whole steps of the kernel.

use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use super::Geometry;
use super::im2col::Im2col;
use super::implicit_gemm::Gather;
use super::window::copy_clipped;
use crate::ops::gemm::narrow::{self, Lanes, Pairs, STEP, TILE_LANES, Transposed};
use crate::ops::gemm::pack::strided;
use crate::ops::gemm::{Columns, MatRef, Pack, Product, scratch};

impl Gather<'_, f32> {
    /// As [`Gather::run`], with operands rounded to bf16.
    pub(super) fn run_narrow(&self, dst: &mut [f32]) {
        let Some(pixels) = self.begin(dst) else { return };
        let depth = self.window.runs() * self.padded_run();
        let filters = Filters(self);
        let (rows, pairs) = (Transposed(filters), Pairs(filters));
        let b: &dyn Pack<bf16> = if self.depth_stride == 1 { &rows } else { &pairs };
        let a = Patches(self);
        narrow::with_packed(b, self.lanes, depth, |b| {
            let product = |beta, dst: &mut [f32]| {
                let (m, n) = (pixels, self.lanes);
                let product = Product { m, n, k: depth, a: &a, b, alpha: 1.0, beta };
                product.run(dst, n, Columns { run: n, run_stride: n });
            };
            if self.dst_step == 1 {
                return product(if self.accumulate { 1.0 } else { 0.0 }, dst);
            }
            scratch::with(pixels * self.lanes, |own: &mut [f32]| {
                product(0.0, own);
                self.scatter(own, dst);
            });
        });
    }

    /// Elements of a run of taps, filled up to whole steps.
    fn padded_run(&self) -> usize {
        self.window.run().next_multiple_of(STEP)
    }

    /// Writes or adds pixels of the grid to where they go.
    fn scatter(&self, own: &[f32], dst: &mut [f32]) {
        let ([h, w], [top, left]) = (self.dst_size, self.dst_origin);
        let [grid_h, grid_w] = self.window.grid;
        dst.par_chunks_mut(w * self.lanes).enumerate().for_each(|(row, dst)| {
            let (n, row) = (row / h, row % h);
            if row % self.dst_step != top {
                return;
            }
            let from = (n * grid_h + row / self.dst_step) * grid_w * self.lanes;
            let own = own[from..][..grid_w * self.lanes].chunks_exact(self.lanes);
            let dst = dst.chunks_exact_mut(self.lanes).skip(left).step_by(self.dst_step);
            for (dst, own) in dst.zip(own) {
                match self.accumulate {
                    true => dst.iter_mut().zip(own).for_each(|(d, x)| *d += x),
                    false => dst.copy_from_slice(own),
                }
            }
        });
    }
}

/// What output pixels, the lanes, read of the source: a run of taps after the other.
#[derive(Clone, Copy)]
struct Patches<'a>(&'a Gather<'a, f32>);

impl Pack<bf16> for Patches<'_> {
    fn pack(&self, depth: Range<usize>, lanes: Range<usize>, width: usize, out: &mut [bf16]) {
        let (window, padded) = (&self.0.window, self.0.padded_run());
        let ([_, h, w, c], run) = (window.src, window.run());
        scratch::with(run, |clipped: &mut [f32]| {
            narrow::groups(depth.clone(), lanes, width, out, |pixel, out, stride| {
                let (row, b) = (pixel / window.grid[1], pixel % window.grid[1]);
                let (n, a) = (row / window.grid[0], row % window.grid[0]);
                let left = (b * window.step) as isize + window.first[1];
                let top = (a * window.step).wrapping_add_signed(window.first[0]);
                let mut at = depth.start;
                while at < depth.end {
                    let (number, from) = (at / padded, at % padded);
                    let [down, right] = window.run_origin(number);
                    let len = (padded - from).min(depth.end - at);
                    let out = &mut out[(at - depth.start) / STEP * stride..];
                    let y = top.wrapping_add(down);
                    let line =
                        if y < h { &self.0.src[(n * h + y) * w * c..][..w * c] } else { &[] };
                    let start = left.wrapping_add_unsigned(right) * c as isize + from as isize;
                    let values = len.min(run - from);
                    let inside = usize::try_from(start).ok().and_then(|s| line.get(s..s + values));
                    let values = inside.unwrap_or_else(|| {
                        copy_clipped(line, start, &mut clipped[..values]);
                        &clipped[..values]
                    });
                    narrow::round_rows(values, out, stride);
                    at += len;
                }
            });
        });
    }
}

/// The weight of a gather: output channels are lanes.
#[derive(Clone, Copy)]
struct Filters<'a>(&'a Gather<'a, f32>);

impl Filters<'_> {
    /// The parts of matrices that make up a step of the depth: for each where it starts in the
    /// step and in the weight, and its length.
    fn parts(&self, depth: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        let (gather, padded) = (self.0, self.0.padded_run());
        let channels = gather.window.src[3];
        let (run, first) = (depth / padded, depth % padded);
        let end = (first + STEP).min(gather.window.run());
        let mut at = first;
        std::iter::from_fn(move || {
            let (from, tap, channel) = (at, at / channels, at % channels);
            let len = (channels - channel).min(end.saturating_sub(at));
            at += len;
            let matrix = || gather.matrices[run * gather.window.taps_of_run() + tap];
            (len > 0).then(|| (from - first, matrix() + channel * gather.depth_stride, len))
        })
    }
}

/// Tiles of rows, where source channels are neighbours.
impl Pack<bf16> for Filters<'_> {
    fn pack(&self, depth: Range<usize>, lanes: Range<usize>, width: usize, out: &mut [bf16]) {
        narrow::groups(depth.clone(), lanes, width, out, |lane, out, stride| {
            for (step, at) in depth.clone().step_by(STEP).enumerate() {
                let mut values = [0.0; STEP];
                for (to, from, len) in self.parts(at) {
                    let from = from + lane * self.0.lane_stride;
                    values[to..to + len].copy_from_slice(&self.0.weight[from..from + len]);
                }
                narrow::round_rows(&values, &mut out[step * stride..], stride);
            }
        });
    }
}

/// One step of the depth, in panels of a tile's width.
impl Pack<f32> for Filters<'_> {
    fn pack(&self, depth: Range<usize>, lanes: Range<usize>, width: usize, out: &mut [f32]) {
        let strides = [self.0.lane_stride, self.0.depth_stride];
        debug_assert!(
            depth.start.is_multiple_of(STEP) && depth.len() == STEP && width == TILE_LANES
        );
        for (lane, out) in lanes.clone().step_by(width).zip(out.chunks_mut(STEP * width)) {
            let size = width.min(lanes.end - lane);
            let mut done = 0;
            for (to, from, len) in self.parts(depth.start) {
                let from = &self.0.weight[from + lane * self.0.lane_stride..];
                strided(from, strides, [size, len], width, &mut out[to * width..][..len * width]);
                done = to + len;
            }
            out[done * width..].fill(0.0);
        }
    }
}

/// As `wgrad::wgrad`, with operands rounded to bf16.
pub(super) fn wgrad(g: &Geometry, x: &[f32], gy: &[f32], gw: &mut [f32]) {
    let pixels = g.n * g.p * g.q;
    if pixels * g.cin * g.cout == 0 {
        return;
    }
    let a = Transposed(Lanes(MatRef::new(gy, pixels, g.cout).t()));
    let (pointwise, im2col);
    let b: &dyn Pack<bf16> = if g.is_pointwise() {
        pointwise = Lanes(MatRef::new(x, pixels, g.cin).t());
        &pointwise
    } else {
        im2col = Pairs(Im2col { x, g: *g });
        &im2col
    };
    let (m, n, k) = (g.cout, g.kernel * g.kernel * g.cin, pixels);
    let product = Product { m, n, k, a: &a, b, alpha: 1.0, beta: 1.0 };
    product.run(gw, g.filter_stride(), Columns { run: g.cin, run_stride: g.cin_max });
}
