//! fprop and dgrad as convolutions that gather; the bias and its gradient.
//!
//! dgrad of stride s gathers once for each of the s² classes of input pixels, which see
//! different parts of the filter, so that no zeros are multiplied. With dilation d a class sees
//! every (s / gcd(d, s))-th filter row, or none.

use rayon::prelude::*;

use super::Geometry;
use super::implicit_gemm::Gather;
use super::window::Window;
use crate::ops::CHUNK;
use crate::ops::passes::chunks_mut;
use crate::tensor::Real;

impl Geometry {
    /// What the output pixels read of the input.
    pub(super) fn window(&self) -> Window {
        Window {
            src: [self.n, self.h, self.w, self.cin],
            grid: [self.p, self.q],
            step: self.stride,
            first: [-(self.pad as isize); 2],
            taps: [self.kernel; 2],
            dilation: self.dilation,
        }
    }
    /// Where the matrices of some rows and columns of the filter start in the weight.
    fn matrices(&self, rows: &[usize], cols: &[usize]) -> Vec<usize> {
        let at = |r: &usize, s: &usize| (r * self.kernel + s) * self.cin_max;
        rows.iter().flat_map(|r| cols.iter().map(move |s| at(r, s))).collect()
    }
}

/// What makes `y` N×P×Q×cout of `x` and `w`, or adds to what is there.
pub(super) fn fprop<'a, T: Real>(
    g: &Geometry,
    x: &'a [T],
    w: &'a [T],
    accumulate: bool,
) -> Gather<'a, T> {
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
        accumulate,
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
                dilation: g.dilation / gcd(g.dilation, g.stride),
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
/// row r in output row (h + pad − dilation·r) / stride, where that is whole. Rows of the filter in
/// the order of the output rows, which are dilation / gcd(dilation, stride) apart, and the first
/// of these for `phase`.
fn class(g: &Geometry, phase: usize) -> (Vec<usize>, isize) {
    let (at, stride) = ((phase + g.pad) as isize, g.stride as isize);
    let before = |r: usize| at - (g.dilation * r) as isize;
    let whole = |r: &usize| before(*r).rem_euclid(stride) == 0;
    let rows: Vec<usize> = (0..g.kernel).rev().filter(whole).collect();
    let first = rows.first().map_or(0, |r| before(*r).div_euclid(stride));
    (rows, first)
}

/// Greatest common divisor.
pub(super) fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Fills the pixels of `y` with a bias, which may be longer.
pub(super) fn fill_bias<T: Real>(cout: usize, b: &[T], y: &mut [T]) {
    let pixels = (CHUNK / cout.max(1)).max(1);
    chunks_mut(y.len(), y, pixels * cout.max(1), |_, y| {
        y.chunks_exact_mut(cout).for_each(|pixel| pixel.copy_from_slice(&b[..cout]));
    });
}

/// Adds the sum over the pixels of `gy` to the first `cout` of `gb`: parts of fixed size in f64,
/// added in order. (A linear layer sums its few rows in their own type.)
pub(super) fn bias_grad<T: Real>(cout: usize, gy: &[T], gb: &mut [T]) {
    if cout == 0 {
        return;
    }
    let pixels = (CHUNK / cout).max(1);
    let part = |pixels: &[T]| {
        let mut sums = vec![0.0; cout];
        for pixel in pixels.chunks_exact(cout) {
            sums.iter_mut().zip(pixel).for_each(|(sum, g)| *sum += g.f64());
        }
        sums
    };
    let parts: Vec<Vec<f64>> = gy.par_chunks(pixels * cout).map(part).collect();
    for (c, gb) in gb[..cout].iter_mut().enumerate() {
        *gb += T::of(parts.iter().map(|part| part[c]).sum());
    }
}
