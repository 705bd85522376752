//! The gradient of the weight: a product over all output pixels.
//!
//! With many channels it is a product of packed operands. With few, packing would take as long
//! as multiplying; then the microkernel reads the input where it lies: its rows are weights of
//! a filter, its depth is pixels, a whole row of them for each tap.

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use super::Geometry;
use super::im2col::Im2col;
use super::window::Window;
use crate::ops::gemm::blocked::each_task;
use crate::ops::gemm::kernel::{self, Job, Kernel, MAX_NR};
use crate::ops::gemm::pack::pack_panels;
use crate::ops::gemm::target::Shared;
use crate::ops::gemm::{Columns, MatRef, Pack, Product, scratch};
use crate::tensor::Real;

/// Least output pixels in a row for the input to be read in place.
const MIN_COLS: usize = 3;
/// Input channels for which it always pays, and those from which on neighbouring pixels would
/// push each other out of the first-level cache.
const FEW_CHANNELS: usize = 64;
const MANY_CHANNELS: usize = 256;
/// Weights of one tap for which it pays: with more, packed operands are used often enough.
const FEW_WEIGHTS: usize = 1 << 14;
/// Output pixels of which the gradient is packed at a time.
const PIXELS: usize = 192;
/// Parts of the sum, and least pixels of one.
const PARTS: usize = 16;
const MIN_PART: usize = 512;

/// Adds the gradient of the active part of `w` to `gw`.
pub(super) fn wgrad<T: Real>(g: &Geometry, x: &[T], gy: &[T], gw: &mut [T]) {
    if g.n * g.cin * g.cout == 0 {
        return;
    }
    let pixels = g.n * g.p * g.q;
    let flat = g.is_pointwise();
    let mut window = g.window();
    if flat && let Some(cols) = (MIN_COLS..=PIXELS).rev().find(|c| pixels.is_multiple_of(*c)) {
        // All pixels follow each other: rows of any length will do.
        window.src = [1, pixels / cols, cols, g.cin];
        window.grid = [pixels / cols, cols];
    }
    let few = g.cin <= FEW_CHANNELS || g.cin <= MANY_CHANNELS && g.cin * g.cout <= FEW_WEIGHTS;
    if few && window.cols() >= MIN_COLS {
        return InPlace::new(g, x, gy, window).run(gw);
    }
    let a = MatRef::new(gy, pixels, g.cout).t();
    let (pointwise, im2col);
    let b: &dyn Pack<T> = if flat {
        pointwise = MatRef::new(x, pixels, g.cin).t();
        &pointwise
    } else {
        im2col = Im2col { x, g: *g };
        &im2col
    };
    let (m, n, k) = (g.cout, g.kernel * g.kernel * g.cin, pixels);
    let product = Product { m, n, k, a: &a, b, alpha: T::one(), beta: T::one() };
    product.run(gw, g.filter_stride(), Columns { run: g.cin, run_stride: g.cin_max });
}

/// The product (weights of a filter × pixels) · (pixels × output channels) on an input that is
/// read in place.
struct InPlace<'a, T> {
    g: &'a Geometry,
    x: &'a [T],
    gy: &'a [T],
    window: Window,
    kernel: &'a Kernel<T>,
    /// Weights of a filter.
    weights: usize,
    /// The same, filled up to whole tiles.
    padded: usize,
    /// Output channels, filled up to whole panels.
    columns: usize,
}

impl<'a, T: Real> InPlace<'a, T> {
    fn new(g: &'a Geometry, x: &'a [T], gy: &'a [T], window: Window) -> Self {
        let kernel = kernel::fastest::<T>();
        let weights = g.kernel * g.kernel * g.cin;
        let padded = weights.next_multiple_of(kernel.mr);
        Self { g, x, gy, window, kernel, weights, padded, columns: kernel.padded(g.cout) }
    }

    /// Adds the gradient to `gw`.
    fn run(&self, gw: &mut [T]) {
        let rows = self.window.src[0] * self.window.grid[0];
        let pixels = rows * self.window.cols();
        let parts = (pixels / MIN_PART).clamp(1, PARTS);
        let part = rows.div_ceil(parts);
        let parts = rows.div_ceil(part);
        let each = self.padded * self.columns;
        scratch::with(parts * each, |sums: &mut [T]| {
            let all = Shared(sums.as_mut_ptr());
            each_task(parts, each * pixels / parts, |p| {
                // SAFETY: there are `parts` of these sums, and each task has its own.
                let sums = unsafe { std::slice::from_raw_parts_mut(all.get().add(p * each), each) };
                self.part(p * part..((p + 1) * part).min(rows), sums);
            });
            self.add_up(sums, gw);
        });
    }

    /// The sum over some output rows.
    fn part(&self, rows: Range<usize>, sums: &mut [T]) {
        let (window, cols) = (&self.window, self.window.cols());
        let step = (PIXELS / cols).max(1).min(rows.len());
        let copy = window.most_copy_elems(step);
        scratch::with(copy + step * cols * self.columns, |memory: &mut [T]| {
            let (copy, packed) = memory.split_at_mut(copy);
            scratch::with_uninit(self.padded, |table: &mut [MaybeUninit<*const T>]| {
                for first in rows.clone().step_by(step) {
                    let now = first..(first + step).min(rows.end);
                    window.copy(self.x, now.clone(), copy);
                    let gy = MatRef::new(self.gy, self.gy.len() / self.g.cout, self.g.cout).t();
                    let depth = now.start * cols..now.end * cols;
                    pack_panels(self.kernel, &gy, depth, 0..self.g.cout, packed);
                    let x = if window.in_place() { self.x } else { &*copy };
                    self.point(x, table);
                    self.multiply(x, now, first == rows.start, table, packed, sums);
                }
            })
        });
    }

    /// Sets pointers to what the weights meet first.
    fn point(&self, x: &[T], table: &mut [MaybeUninit<*const T>]) {
        let (window, run) = (&self.window, self.window.run());
        let places = (0..window.runs()).flat_map(|r| (0..run).map(move |i| (r, i)));
        let places = places.map(|(r, i)| window.run_offset(r) + i);
        // What fills up the last tile reads something that is there, and is not used.
        for (pointer, at) in table.iter_mut().zip(places.chain(std::iter::repeat(0))) {
            pointer.write(x[at..].as_ptr());
        }
    }

    /// Adds the product of a few rows of pixels to `sums`, or writes it there.
    fn multiply(
        &self,
        x: &[T],
        rows: Range<usize>,
        write: bool,
        table: &[MaybeUninit<*const T>],
        packed: &[T],
        sums: &mut [T],
    ) {
        let (kernel, window) = (self.kernel, &self.window);
        let taps = rows.len();
        let mut offsets = [0; PIXELS];
        for (offset, row) in offsets.iter_mut().zip(window.rows(rows)) {
            *offset = row.start;
            let last = row.start + (window.cols() - 1) * window.pixel();
            assert!(last + window.span() <= x.len(), "input ends too early");
        }
        for lane in (0..self.g.cout).step_by(kernel.nr) {
            let width = kernel.width(self.g.cout - lane);
            let depth = taps * window.cols();
            let panel = &packed[lane * depth..][..width * depth];
            let tiles = sums.chunks_exact_mut(kernel.mr * self.columns);
            for (pointers, out) in table.chunks_exact(kernel.mr).zip(tiles) {
                let mut c = [std::ptr::null_mut(); kernel::MAX_MR];
                for (c, row) in c.iter_mut().zip(out.chunks_exact_mut(self.columns)) {
                    *c = row[lane..lane + width].as_mut_ptr();
                }
                let job = Job {
                    rows: pointers.as_ptr().cast(),
                    offsets: offsets.as_ptr(),
                    taps,
                    len: window.cols(),
                    stride: window.pixel(),
                    b: panel.as_ptr(),
                    c: c.as_ptr(),
                    c_offset: 0,
                    alpha: T::one(),
                    beta: if write { T::zero() } else { T::one() },
                };
                // SAFETY: the pointers were set to rows of pixels, the panel has a row for
                // each of them, and the tile lies in the sums.
                unsafe { kernel.run(width, &job) };
            }
        }
    }

    /// Adds the sums, transposed, to the gradient, part by part in order.
    fn add_up(&self, sums: &[T], gw: &mut [T]) {
        let g = self.g;
        let active = &mut gw[..g.cout * g.filter_stride()];
        let filters = active.par_chunks_mut(MAX_NR * g.filter_stride()).enumerate();
        filters.for_each(|(block, filters)| {
            let first = block * MAX_NR;
            let count = filters.len() / g.filter_stride();
            for weight in 0..self.weights {
                let mut sum = [T::zero(); MAX_NR];
                for part in sums.chunks_exact(self.padded * self.columns) {
                    let row = &part[weight * self.columns + first..][..count];
                    sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += *x);
                }
                let at = weight / g.cin * g.cin_max + weight % g.cin;
                for (filter, sum) in filters.chunks_exact_mut(g.filter_stride()).zip(sum) {
                    filter[at] += sum;
                }
            }
        });
    }
}
