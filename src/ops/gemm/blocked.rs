//! The loops around the microkernel for products of packed operands. A task takes a block of
//! C and a part of the depth: it packs a block of A for the second-level cache and, one after
//! the other, panels of B for the first. Where C has few blocks, the depth is split and the
//! parts are added in order.

use std::ops::Range;

use rayon::prelude::*;

use bytemuck::Pod;
use half::bf16;

use super::pack::pack_panels;
use super::target::{Columns, Microkernel, Panel, Shared, Target};
use super::{Pack, kernel, narrow, scratch};
use crate::tensor::Real;

/// Most rows of a block of A: 264 KiB of f32.
const ROWS: usize = 264;
/// Most columns of a block of C.
const COLS: usize = 384;
/// Least columns of a block of C, so that packing A for it pays.
const MIN_COLS: usize = 192;
/// Panels of B that are packed together, so that whole lines and pages of it are read.
const PANELS: usize = 4;
/// Least depth of a part where the columns could be split further instead, which costs more.
const GOOD_PART: usize = 2048;
/// Tasks to aim for.
const TASKS: usize = 16;
/// Multiplications below which it does not pay to take another thread.
pub(crate) const SHARE_MACS: usize = 1 << 18;

/// A product to compute: C (m × n) = alpha · A (m × k) · B (k × n) + beta · C, of operands that
/// are packed as E and sums of T.
pub(crate) struct Product<'a, T, E = T> {
    /// Rows of C.
    pub m: usize,
    /// Columns of C.
    pub n: usize,
    /// Depth.
    pub k: usize,
    /// A, whose rows are lanes.
    pub a: &'a dyn Pack<E>,
    /// B, whose columns are lanes.
    pub b: &'a dyn Pack<E>,
    /// Factor of the product.
    pub alpha: T,
    /// Factor of what is in C.
    pub beta: T,
}

/// How a product is cut: a function of its shape alone.
struct Split {
    rows: usize,
    cols: usize,
    depth: usize,
    blocks: [usize; 3],
}

impl Split {
    fn new<T: Real, K: Microkernel<T>>([m, n, k]: [usize; 3], kernel: &K) -> Self {
        let row_blocks = m.div_ceil(ROWS);
        let rows = m.div_ceil(row_blocks).next_multiple_of(kernel.rows());
        let blocks = TASKS.div_ceil((k / GOOD_PART).max(1));
        let wanted = (n * row_blocks / blocks).clamp(MIN_COLS, COLS);
        let cols = n.div_ceil(n.div_ceil(wanted)).next_multiple_of(kernel.cols());
        let blocks = m.div_ceil(rows) * n.div_ceil(cols);
        let parts = TASKS.div_ceil(blocks).min(k / K::MIN_PART).max(1);
        // Whole packed blocks, so that no part ends in a short one.
        let depth = k.div_ceil(parts).next_multiple_of(if parts > 1 { K::DEPTH } else { 1 });
        Self { rows, cols, depth, blocks: [m.div_ceil(rows), n.div_ceil(cols), k.div_ceil(depth)] }
    }
}

impl<T: Real> Product<'_, T> {
    /// Computes it into `c`, whose rows are `row_stride` apart. The rows and `columns` must
    /// lie within `c` and not overlap.
    pub(crate) fn run(&self, c: &mut [T], row_stride: usize, columns: Columns) {
        self.run_with(kernel::fastest(), c, row_stride, columns);
    }

    /// As [`Product::run`], as one block on the calling thread: for tasks of an op that makes
    /// its own.
    pub(crate) fn run_alone(&self, c: &mut [T], row_stride: usize, columns: Columns) {
        let (m, n, k) = (self.m, self.n, self.k);
        if m == 0 || n == 0 {
            return;
        }
        assert!((m - 1) * row_stride + columns.place(n - 1) < c.len(), "C is too short");
        let c = Shared(c.as_mut_ptr());
        let target = Target { c, row_stride, columns, alpha: self.alpha, beta: self.beta };
        match k {
            0 => self.reduce(&[], 0, target),
            _ => self.block(kernel::fastest(), 0..m, 0..n, 0..k, target),
        }
    }
}

impl Product<'_, f32, bf16> {
    /// As the other [`Product::run`].
    pub(crate) fn run(&self, c: &mut [f32], row_stride: usize, columns: Columns) {
        self.run_with(narrow::fastest(), c, row_stride, columns);
    }
}

impl<T: Real, E: Pod + Send + Sync> Product<'_, T, E> {
    /// As [`Product::run`], on a given kernel.
    pub(super) fn run_with<K: Microkernel<T, E = E>>(
        &self,
        kernel: &K,
        c: &mut [T],
        row_stride: usize,
        columns: Columns,
    ) {
        let (m, n, k) = (self.m, self.n, self.k);
        if m == 0 || n == 0 {
            return;
        }
        assert!((m - 1) * row_stride + columns.place(n - 1) < c.len(), "C is too short");
        let c = Shared(c.as_mut_ptr());
        let target = Target { c, row_stride, columns, alpha: self.alpha, beta: self.beta };
        if k == 0 {
            return self.reduce(&[], 0, target);
        }
        let split = Split::new([m, n, k], kernel);
        let [_, _, parts] = split.blocks;
        if parts == 1 {
            return self.run_tasks(kernel, &split, |_| target);
        }
        scratch::with(parts * m * n, |sums: &mut [T]| {
            let columns = Columns { run: n, run_stride: n };
            let all = Shared(sums.as_mut_ptr());
            self.run_tasks(kernel, &split, |part| Target {
                // SAFETY: there are `parts` of these sums.
                c: Shared(unsafe { all.get().add(part * m * n) }),
                row_stride: n,
                columns,
                alpha: T::one(),
                beta: T::zero(),
            });
            self.reduce(sums, parts, target);
        });
    }

    fn run_tasks<K: Microkernel<T, E = E>>(
        &self,
        kernel: &K,
        split: &Split,
        target: impl Fn(usize) -> Target<T> + Sync,
    ) {
        let [row_blocks, col_blocks, parts] = split.blocks;
        let task = |t: usize| {
            let (part, block) = (t / (row_blocks * col_blocks), t % (row_blocks * col_blocks));
            let (r, c) = (block / col_blocks * split.rows, block % col_blocks * split.cols);
            let d = part * split.depth;
            let rows = r..(r + split.rows).min(self.m);
            let cols = c..(c + split.cols).min(self.n);
            self.block(kernel, rows, cols, d..(d + split.depth).min(self.k), target(part));
        };
        let tasks = row_blocks * col_blocks * parts;
        each_task(tasks, split.rows * split.cols * split.depth, task);
    }

    /// One block of C over one part of the depth.
    fn block<K: Microkernel<T, E = E>>(
        &self,
        kernel: &K,
        rows: Range<usize>,
        cols: Range<usize>,
        depth: Range<usize>,
        target: Target<T>,
    ) {
        let [mr, nr] = [kernel.rows(), kernel.cols()];
        let tiles = rows.len().div_ceil(mr);
        let block_depth = kernel.block_depth(depth.len());
        let most = block_depth.min(depth.len().next_multiple_of(K::STEP));
        let group = PANELS * nr;
        scratch::with(most * (tiles * mr + group), |memory: &mut [E]| {
            let (a, b) = memory.split_at_mut(most * tiles * mr);
            kernel.ready(|| {
                for k in steps(depth.clone(), block_depth) {
                    let len = k.len().next_multiple_of(K::STEP);
                    self.a.pack(k.clone(), rows.clone(), mr, a);
                    let beta = if k.start == depth.start { target.beta } else { T::one() };
                    let target = Target { beta, ..target };
                    for group in steps(cols.clone(), group) {
                        pack_panels(kernel, self.b, k.clone(), group.clone(), b);
                        for (lanes, b) in steps(group, nr).zip(b.chunks(len * nr)) {
                            let size = [kernel.width(lanes.len()), len];
                            let b = self.b.packed(&k, lanes.start, size[0]).unwrap_or(b);
                            let panel = Panel::new(&target, size, lanes, b);
                            for (rows, a) in steps(rows.clone(), mr).zip(a.chunks(len * mr)) {
                                // SAFETY: the panels hold `len` rows of the kernel's tile,
                                // which lies in C, in a block that is this task's.
                                unsafe { kernel.tile(&target, &panel, a, rows) };
                            }
                        }
                    }
                }
            });
        });
    }

    /// C = alpha · (sum of the parts, in order) + beta · C.
    fn reduce(&self, sums: &[T], parts: usize, target: Target<T>) {
        let (m, n) = (self.m, self.n);
        let row = |i: usize| {
            for cols in steps(0..n, SUM_COLS) {
                let mut sum = [T::zero(); SUM_COLS];
                for part in 0..parts {
                    let part = &sums[(part * m + i) * n..][cols.clone()];
                    sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += *x);
                }
                for (j, sum) in cols.zip(sum) {
                    // SAFETY: the place of (i, j) lies in C and row i is this task's.
                    unsafe { target.write(target.at(i, target.columns.place(j)), sum) };
                }
            }
        };
        if m * n < CHUNK_ELEMS {
            (0..m).for_each(row);
        } else {
            (0..m).into_par_iter().with_min_len((CHUNK_ELEMS / n).max(1)).for_each(row);
        }
    }
}

/// Elements of C that a thread takes at a time when parts are added.
const CHUNK_ELEMS: usize = 1 << 12;
/// Columns that are summed in registers.
const SUM_COLS: usize = 64;

/// Runs `tasks` of `macs` multiplications each on the threads of the pool, on the calling one
/// where they are too few to share.
pub(crate) fn each_task(tasks: usize, macs: usize, task: impl Fn(usize) + Sync + Send) {
    let at_once = SHARE_MACS.div_ceil(macs.max(1));
    if at_once >= tasks {
        return (0..tasks).for_each(task);
    }
    (0..tasks).into_par_iter().with_min_len(at_once).with_max_len(at_once).for_each(task);
}

/// Consecutive ranges of `step`, the last one shorter.
fn steps(range: Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(step).map(move |at| at..(at + step).min(end))
}
