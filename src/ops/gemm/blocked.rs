//! The loops around the microkernel for products of packed operands. A task takes a block of
//! C and a part of the depth: it packs a block of A for the second-level cache and, one after
//! the other, panels of B for the first. Where C has few blocks, the depth is split and the
//! parts are added in order.

use std::ops::Range;

use rayon::prelude::*;

use super::kernel::{self, Job, Kernel, MAX_MR, MAX_NR};
use super::pack::pack_panels;
use super::{Pack, scratch};
use crate::tensor::Real;

/// Depth of a packed block: a panel of B (16 columns of f32) takes 15.5 KiB. Not a power of
/// two, which would put all panels into the same sets of the caches.
const DEPTH: usize = 248;
/// Most rows of a block of A: 264 KiB of f32.
const ROWS: usize = 264;
/// Most columns of a block of C.
const COLS: usize = 384;
/// Least columns of a block of C, so that packing A for it pays.
const MIN_COLS: usize = 192;
/// Least depth of a part, so that adding the parts does not count.
const MIN_PART: usize = 512;
/// Panels of B that are packed together, so that whole lines and pages of it are read.
const PANELS: usize = 4;
/// Least depth of a part where the columns could be split further instead, which costs more.
const GOOD_PART: usize = 2048;
/// Tasks to aim for.
const TASKS: usize = 16;
/// Multiplications below which it does not pay to take another thread.
pub(crate) const SHARE_MACS: usize = 1 << 18;

/// Where the columns of C lie: runs of `run` neighbours, `run_stride` apart.
#[derive(Clone, Copy)]
pub(crate) struct Columns {
    /// Columns that are neighbours.
    pub run: usize,
    /// From one run to the next, in elements.
    pub run_stride: usize,
}

impl Columns {
    /// Place of column `j`, in elements.
    fn place(&self, j: usize) -> usize {
        j / self.run * self.run_stride + j % self.run
    }
    /// Whether `len` columns from `j` on are neighbours.
    fn neighbours(&self, j: usize, len: usize) -> bool {
        self.run == self.run_stride || j % self.run + len <= self.run
    }
}

/// A product to compute: C (m × n) = alpha · A (m × k) · B (k × n) + beta · C.
pub(crate) struct Product<'a, T> {
    /// Rows of C.
    pub m: usize,
    /// Columns of C.
    pub n: usize,
    /// Depth.
    pub k: usize,
    /// A, whose rows are lanes.
    pub a: &'a dyn Pack<T>,
    /// B, whose columns are lanes.
    pub b: &'a dyn Pack<T>,
    /// Factor of the product.
    pub alpha: T,
    /// Factor of what is in C.
    pub beta: T,
}

/// Memory that tasks write disjoint places of.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(pub *mut T);
// SAFETY: whoever makes one sees to it that tasks write different elements.
unsafe impl<T: Send> Send for Shared<T> {}
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// The pointer. A method, so that closures capture the wrapper and not its field.
    pub(crate) fn get(self) -> *mut T {
        self.0
    }
}

/// C as tasks see it.
#[derive(Clone, Copy)]
struct Target<T> {
    c: Shared<T>,
    row_stride: usize,
    columns: Columns,
    alpha: T,
    beta: T,
}

/// How a product is cut: a function of its shape alone.
struct Split {
    rows: usize,
    cols: usize,
    depth: usize,
    blocks: [usize; 3],
}

impl Split {
    fn new<T: Real>(m: usize, n: usize, k: usize, kernel: &Kernel<T>) -> Self {
        let row_blocks = m.div_ceil(ROWS);
        let rows = m.div_ceil(row_blocks).next_multiple_of(kernel.mr);
        let blocks = TASKS.div_ceil((k / GOOD_PART).max(1));
        let wanted = (n * row_blocks / blocks).clamp(MIN_COLS, COLS);
        let cols = n.div_ceil(n.div_ceil(wanted)).next_multiple_of(kernel.nr);
        let blocks = m.div_ceil(rows) * n.div_ceil(cols);
        let parts = TASKS.div_ceil(blocks).min(k / MIN_PART).max(1);
        // Whole packed blocks, so that no part ends in a short one.
        let depth = k.div_ceil(parts).next_multiple_of(if parts > 1 { DEPTH } else { 1 });
        Self { rows, cols, depth, blocks: [m.div_ceil(rows), n.div_ceil(cols), k.div_ceil(depth)] }
    }
}

impl<T: Real> Product<'_, T> {
    /// Computes it into `c`, whose rows are `row_stride` apart. The rows and `columns` must
    /// lie within `c` and not overlap.
    pub(crate) fn run(&self, c: &mut [T], row_stride: usize, columns: Columns) {
        self.run_with(kernel::fastest(), c, row_stride, columns);
    }

    /// As [`Product::run`], on a given kernel.
    pub(super) fn run_with(
        &self,
        kernel: &Kernel<T>,
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
        let split = Split::new(m, n, k, kernel);
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

    fn run_tasks(
        &self,
        kernel: &Kernel<T>,
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
    fn block(
        &self,
        kernel: &Kernel<T>,
        rows: Range<usize>,
        cols: Range<usize>,
        depth: Range<usize>,
        target: Target<T>,
    ) {
        let tiles = rows.len().div_ceil(kernel.mr);
        let most = DEPTH.min(depth.len());
        let group = PANELS * kernel.nr;
        scratch::with(most * (tiles * kernel.mr + group), |memory: &mut [T]| {
            let (a, b) = memory.split_at_mut(most * tiles * kernel.mr);
            for k in steps(depth.clone(), DEPTH) {
                self.a.pack(k.clone(), rows.clone(), kernel.mr, a);
                let beta = if k.start == depth.start { target.beta } else { T::one() };
                let target = Target { beta, ..target };
                for group in steps(cols.clone(), group) {
                    pack_panels(kernel, self.b, k.clone(), group.clone(), b);
                    for (lanes, b) in steps(group, kernel.nr).zip(b.chunks(k.len() * kernel.nr)) {
                        let panel = Panel::new(kernel, &target, lanes, k.len(), b);
                        let panels = a.chunks(k.len() * kernel.mr);
                        for (rows, a) in steps(rows.clone(), kernel.mr).zip(panels) {
                            // SAFETY: the panels hold `k.len()` rows of the kernel's tile, and
                            // the tile lies in C, in a block that is this task's.
                            unsafe { target.tile(kernel, &panel, a, rows) };
                        }
                    }
                }
            }
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

/// A packed panel of B and where its product goes.
struct Panel<'a, T> {
    b: &'a [T],
    depth: usize,
    /// Columns of the kernel.
    width: usize,
    /// Columns of C.
    cols: Range<usize>,
    /// Place of the first one.
    place: usize,
    /// Whether the kernel can write to C: all its columns are there, and neighbours.
    direct: bool,
}

impl<'a, T: Real> Panel<'a, T> {
    fn new(
        kernel: &Kernel<T>,
        target: &Target<T>,
        cols: Range<usize>,
        depth: usize,
        b: &'a [T],
    ) -> Self {
        let width = kernel.width(cols.len());
        let direct = cols.len() == width && target.columns.neighbours(cols.start, width);
        Self { b, depth, width, place: target.columns.place(cols.start), cols, direct }
    }
}

impl<T: Real> Target<T> {
    /// Address of row i, `place` elements into it.
    unsafe fn at(&self, i: usize, place: usize) -> *mut T {
        unsafe { self.c.get().add(i * self.row_stride + place) }
    }

    unsafe fn write(&self, at: *mut T, value: T) {
        let old = if self.beta == T::zero() { T::zero() } else { self.beta * unsafe { *at } };
        unsafe { *at = self.alpha * value + old };
    }

    /// Multiplies a panel of A and one of B into a tile of C.
    #[inline]
    unsafe fn tile(&self, kernel: &Kernel<T>, panel: &Panel<T>, a: &[T], rows: Range<usize>) {
        if !panel.direct || rows.len() < kernel.mr {
            return unsafe { self.tile_aside(kernel, panel, a, rows) };
        }
        unsafe {
            let c =
                std::array::from_fn(|i| self.at(rows.start + i.min(kernel.mr - 1), panel.place));
            self.multiply(kernel, panel, a, &c, self.alpha, self.beta);
        }
    }

    /// As [`Target::tile`], where the kernel would write beyond the tile.
    #[cold]
    unsafe fn tile_aside(&self, kernel: &Kernel<T>, panel: &Panel<T>, a: &[T], rows: Range<usize>) {
        let mut aside = [T::zero(); MAX_MR * MAX_NR];
        let aside = aside.as_mut_ptr();
        unsafe {
            let c: [*mut T; MAX_MR] = std::array::from_fn(|i| aside.add(i * panel.width));
            self.multiply(kernel, panel, a, &c, T::one(), T::zero());
            for (row, values) in rows.zip(c) {
                for (j, col) in panel.cols.clone().enumerate() {
                    self.write(self.at(row, self.columns.place(col)), *values.add(j));
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply(
        &self,
        kernel: &Kernel<T>,
        panel: &Panel<T>,
        a: &[T],
        c: &[*mut T; MAX_MR],
        alpha: T,
        beta: T,
    ) {
        unsafe {
            let rows: [*const T; MAX_MR] = std::array::from_fn(|i| a.as_ptr().add(i));
            let job = Job {
                rows: rows.as_ptr(),
                offsets: &0,
                taps: 1,
                len: panel.depth,
                stride: kernel.mr,
                b: panel.b.as_ptr(),
                c: c.as_ptr(),
                c_offset: 0,
                alpha,
                beta,
            };
            kernel.run(panel.width, &job);
        }
    }
}
