//! fprop and dgrad as convolutions that gather.
//!
//! dgrad of stride s gathers once for each of the s² classes of input pixels, which see
//! different parts of the filter, so that no zeros are multiplied.

use super::Geometry;
use super::gather::Gather;
use super::window::Window;
use crate::tensor::Real;

impl Geometry {
    /// What the output pixels read of the input.
    pub(super) fn window(&self) -> Window {
        Window {
            src: [self.n, self.h, self.w, self.cin],
            grid: [self.p, self.q],
            step: self.stride,
            first: [-(self.pad() as isize); 2],
            taps: [self.kernel; 2],
        }
    }
    /// Where the matrices of some rows and columns of the filter start in the weight.
    fn matrices(&self, rows: &[usize], cols: &[usize]) -> Vec<usize> {
        let at = |r: &usize, s: &usize| (r * self.kernel + s) * self.cin_max;
        rows.iter().flat_map(|r| cols.iter().map(move |s| at(r, s))).collect()
    }
}

/// What makes `y` N×P×Q×cout of `x` and `w`.
pub(super) fn fprop<'a, T: Real>(g: &Geometry, x: &'a [T], w: &'a [T]) -> Gather<'a, T> {
    let filter: Vec<usize> = (0..g.kernel).collect();
    Gather {
        src: x,
        window: g.window(),
        weight: w,
        matrices: g.matrices(&filter, &filter),
        lanes: g.cout,
        lane_stride: g.filter_stride(),
        depth_stride: 1,
        dst_size: [g.p, g.q],
        dst_origin: [0, 0],
        dst_step: 1,
        accumulate: false,
    }
}

/// What together write, or add to, the gradient of `x`, from `gy`, that of `y`.
pub(super) fn dgrad<'a, T: Real>(
    g: &Geometry,
    gy: &'a [T],
    w: &'a [T],
    accumulate: bool,
) -> impl Iterator<Item = Gather<'a, T>> {
    let classes = (0..g.stride).flat_map(|ph| (0..g.stride).map(move |pw| (ph, pw)));
    classes.map(move |(ph, pw)| {
        let (rows, first_row) = class(g, ph);
        let (cols, first_col) = class(g, pw);
        Gather {
            src: gy,
            window: Window {
                src: [g.n, g.p, g.q, g.cout],
                grid: [
                    g.h.saturating_sub(ph).div_ceil(g.stride),
                    g.w.saturating_sub(pw).div_ceil(g.stride),
                ],
                step: 1,
                first: [first_row, first_col],
                taps: [rows.len(), cols.len()],
            },
            weight: w,
            matrices: g.matrices(&rows, &cols),
            lanes: g.cin,
            lane_stride: 1,
            depth_stride: g.filter_stride(),
            dst_size: [g.h, g.w],
            dst_origin: [ph, pw],
            dst_step: g.stride,
            accumulate,
        }
    })
}

/// What input rows `phase`, `phase` + stride, … are multiplied with: input row h meets filter
/// row r in output row (h + pad − r) / stride, where that is whole. Rows of the filter in the
/// order of the output rows, which follow each other, and the first of these for `phase`.
fn class(g: &Geometry, phase: usize) -> (Vec<usize>, isize) {
    let (at, stride) = ((phase + g.pad()) as isize, g.stride as isize);
    let whole = |r: &usize| (at - *r as isize).rem_euclid(stride) == 0;
    let rows: Vec<usize> = (0..g.kernel).rev().filter(whole).collect();
    let first = rows.first().map_or(0, |r| (at - *r as isize).div_euclid(stride));
    (rows, first)
}
