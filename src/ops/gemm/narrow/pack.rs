//! Operands as panels of bf16. Those whose depths are neighbours in memory become tiles of rows
//! ([`Rows`]), those whose lanes are neighbours tiles of pairs ([`Lanes`], [`Pairs`]), and [`Transposed`]
//! turns one into the other.

use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use super::round::{self, Tiles};
use super::{STEP, TILE, TILE_LANES, WIDTH, width};
use crate::ops::gemm::{MatRef, Pack, scratch};

/// The lanes of a matrix whose depths are neighbours: tiles of rows.
pub(crate) struct Rows<'a>(pub MatRef<'a, f32>);

impl Pack<bf16> for Rows<'_> {
    fn pack(&self, depth: Range<usize>, lanes: Range<usize>, width: usize, out: &mut [bf16]) {
        let matrix = &self.0;
        assert_eq!(matrix.col_stride, 1, "depths that are neighbours");
        groups(depth.clone(), lanes, width, out, |lane, out, stride| {
            let lane = &matrix.data[lane * matrix.row_stride..];
            round::rows(&lane[depth.clone()], out, stride);
        });
    }
}

/// Packs lanes one by one as tiles of rows: `lane` writes group g of 32 depths of the lane that
/// it gets the number of to `out[g · stride..]`. Lanes that the last panel lacks are zeros.
pub(crate) fn groups(
    depth: Range<usize>,
    lanes: Range<usize>,
    width: usize,
    out: &mut [bf16],
    mut lane: impl FnMut(usize, &mut [bf16], usize),
) {
    let steps = depth.len().div_ceil(STEP);
    let stride = STEP * width;
    let panels = lanes.clone().step_by(width).zip(out.chunks_exact_mut(steps * stride));
    for (first, panel) in panels {
        for i in 0..width {
            let out = &mut panel[i * STEP..];
            if first + i < lanes.end {
                lane(first + i, out, stride);
            } else {
                (0..steps).for_each(|step| out[step * stride..][..STEP].fill(bf16::ZERO));
            }
        }
    }
}

/// A matrix whose lanes are neighbours: tiles of pairs.
pub(crate) struct Lanes<'a>(pub MatRef<'a, f32>);

impl Pack<bf16> for Lanes<'_> {
    fn pack(&self, depth: Range<usize>, lanes: Range<usize>, width: usize, out: &mut [bf16]) {
        let matrix = &self.0;
        assert_eq!(matrix.row_stride, 1, "lanes that are neighbours");
        let tiles = tiles(lanes.len(), depth.len(), width);
        for (i, step) in depth.clone().step_by(STEP).enumerate() {
            let out = &mut out[i * STEP * width..];
            let from = &matrix.data[step * matrix.col_stride + lanes.start..];
            let size = [lanes.len(), STEP.min(depth.end - step)];
            round::pairs(from, matrix.col_stride, size, out, &tiles);
        }
    }
}

/// An operand as panels of f32 are packed of it: tiles of pairs.
pub(crate) struct Pairs<P>(pub P);

impl<P: Pack<f32>> Pack<bf16> for Pairs<P> {
    fn pack(&self, depth: Range<usize>, lanes: Range<usize>, width: usize, out: &mut [bf16]) {
        let all = tiles(lanes.len(), depth.len(), width);
        let one = Tiles { count: 1, ..all };
        scratch::with(all.count * TILE, |wide: &mut [f32]| {
            for (i, step) in depth.clone().step_by(STEP).enumerate() {
                let out = &mut out[i * STEP * width..];
                let now = step..(step + STEP).min(depth.end);
                self.0.pack(now.clone(), lanes.clone(), TILE_LANES, wide);
                for t in 0..all.count {
                    // What the last tile of f32 lacks is zeros; a whole one is left out.
                    let there = if t * TILE_LANES < lanes.len() { TILE_LANES } else { 0 };
                    let from = &wide[t * now.len() * TILE_LANES..];
                    round::pairs(
                        from,
                        TILE_LANES,
                        [there, now.len()],
                        &mut out[all.place(t)..],
                        &one,
                    );
                }
            }
        });
    }
}

/// Where the tiles of a step lie in panels of `width` lanes.
fn tiles(lanes: usize, depth: usize, width: usize) -> Tiles {
    let of_panel = width / TILE_LANES;
    let panel = depth.next_multiple_of(STEP) * width;
    Tiles { count: lanes.div_ceil(width) * of_panel, of_panel, panel }
}

/// The tiles of an operand, transposed.
pub(crate) struct Transposed<P>(pub P);

impl<P: Pack<bf16>> Pack<bf16> for Transposed<P> {
    fn pack(&self, depth: Range<usize>, lanes: Range<usize>, width: usize, out: &mut [bf16]) {
        let elems = lanes.len().next_multiple_of(width) * depth.len().next_multiple_of(STEP);
        self.0.pack(depth, lanes, width, out);
        out[..elems].as_chunks_mut::<TILE>().0.iter_mut().for_each(round::transpose);
    }
}

/// Panels of B for all of its depth, which all blocks of a product read.
pub(crate) struct Packed<'a> {
    panels: &'a [bf16],
    /// Filled up to whole steps.
    depth: usize,
}

impl<'a> Packed<'a> {
    /// Packs `lanes` × `depth` of `b`.
    pub(super) fn new(
        b: &dyn Pack<bf16>,
        lanes: usize,
        depth: usize,
        panels: &'a mut [bf16],
    ) -> Self {
        let padded = depth.next_multiple_of(STEP);
        panels.par_chunks_mut(WIDTH * padded.max(1)).enumerate().for_each(|(i, panel)| {
            let lanes = i * WIDTH..((i + 1) * WIDTH).min(lanes);
            let width = width(lanes.len());
            b.pack(0..depth, lanes, width, panel);
        });
        Self { panels, depth: padded }
    }
}

impl Pack<bf16> for Packed<'_> {
    /// Nothing: all is packed.
    fn pack(&self, _: Range<usize>, _: Range<usize>, _: usize, _: &mut [bf16]) {}

    fn packed(&self, depth: &Range<usize>, lane: usize, width: usize) -> Option<&[bf16]> {
        let elems = depth.len().next_multiple_of(STEP) * width;
        Some(&self.panels[lane * self.depth + depth.start * width..][..elems])
    }
}
