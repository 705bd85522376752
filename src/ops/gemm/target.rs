//! Where a product goes, and what the loops of `blocked` need of a kernel.

use std::ops::Range;

use bytemuck::Pod;

use super::kernel::{Job, Kernel, MAX_MR, MAX_NR};
use crate::tensor::Real;

/// A kernel and the panels that it reads.
pub(crate) trait Microkernel<T: Real>: Sync {
    /// Element of a panel.
    type E: Pod + Send + Sync;
    /// Most depth of a packed block.
    const DEPTH: usize;
    /// Least depth of a part, so that adding the parts does not count.
    const MIN_PART: usize;
    /// Depth of a panel is a multiple of it: what a block has less is zeros.
    const STEP: usize;

    /// Rows of a tile.
    fn rows(&self) -> usize;
    /// Columns of a wide tile.
    fn cols(&self) -> usize;
    /// Columns of the panel that starts where `left` columns are left.
    fn width(&self, left: usize) -> usize;
    /// Depth of the blocks that a part of the depth is cut into: a multiple of the step.
    fn block_depth(&self, part: usize) -> usize;
    /// Runs `tiles`, in which tiles may be computed.
    fn ready(&self, tiles: impl FnOnce());
    /// Multiplies a panel of A and one of B into a tile of C.
    ///
    /// # Safety
    /// The panels must hold what they say, the tile lie in C, and nobody else write to it.
    /// Called within [`Microkernel::ready`] alone.
    unsafe fn tile(
        &self,
        target: &Target<T>,
        panel: &Panel<Self::E>,
        a: &[Self::E],
        rows: Range<usize>,
    );
}

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
    pub(super) fn place(&self, j: usize) -> usize {
        j / self.run * self.run_stride + j % self.run
    }
    /// Whether `len` columns from `j` on are neighbours.
    fn neighbours(&self, j: usize, len: usize) -> bool {
        self.run == self.run_stride || j % self.run + len <= self.run
    }
    /// Columns from `j` on that are neighbours, at most `len`.
    fn stretch(&self, j: usize, len: usize) -> usize {
        if self.neighbours(j, len) { len } else { self.run - j % self.run }
    }
}

/// Memory that tasks write disjoint places of.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(pub *mut T);
// SAFETY: the code that makes one ensures that tasks write different elements.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as for Send.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// The pointer. A method, so that closures capture the wrapper and not its field.
    pub(crate) fn get(self) -> *mut T {
        self.0
    }
}

/// C as tasks see it.
#[derive(Clone, Copy)]
pub(crate) struct Target<T> {
    /// Its first element.
    pub c: Shared<T>,
    /// From one row to the next, in elements.
    pub row_stride: usize,
    /// Where columns lie.
    pub columns: Columns,
    /// Factor of the product.
    pub alpha: T,
    /// Factor of what is in C.
    pub beta: T,
}

/// A packed panel of B and where its product goes.
pub(crate) struct Panel<'a, E> {
    /// What is packed.
    pub b: &'a [E],
    /// Its depth.
    pub depth: usize,
    /// Columns of the kernel.
    pub width: usize,
    /// Columns of C.
    pub cols: Range<usize>,
    /// Place of the first one, if the kernel can write to C: all its columns are there, and
    /// neighbours.
    pub direct: Option<usize>,
}

impl<'a, E> Panel<'a, E> {
    /// The panel of columns `cols`, for a kernel of `width`.
    pub(super) fn new<T>(
        target: &Target<T>,
        [width, depth]: [usize; 2],
        cols: Range<usize>,
        b: &'a [E],
    ) -> Self {
        let direct = cols.len() == width && target.columns.neighbours(cols.start, width);
        let direct = direct.then(|| target.columns.place(cols.start));
        Self { b, depth, width, cols, direct }
    }
}

impl<T: Real> Target<T> {
    /// Address of row i, `place` elements into it.
    pub(super) unsafe fn at(&self, i: usize, place: usize) -> *mut T {
        // SAFETY: the caller promises a row and a place inside C.
        unsafe { self.c.get().add(i * self.row_stride + place) }
    }

    #[inline(always)]
    pub(super) unsafe fn write(&self, at: *mut T, value: T) {
        // SAFETY: the caller promises that `at` is inside C and this task's own.
        let old = if self.beta == T::zero() { T::zero() } else { self.beta * unsafe { *at } };
        // SAFETY: as above.
        unsafe { *at = self.alpha * value + old };
    }

    /// Writes a tile whose rows are `stride` apart to C.
    #[inline(always)]
    pub(super) unsafe fn write_tile(
        &self,
        tile: *const T,
        stride: usize,
        rows: Range<usize>,
        cols: Range<usize>,
    ) {
        let mut col = cols.start;
        while col < cols.end {
            let (len, place) = (self.columns.stretch(col, cols.end - col), self.columns.place(col));
            for (i, row) in rows.clone().enumerate() {
                // SAFETY: the caller promises the tile, and rows and columns inside C.
                unsafe {
                    let (from, to) = (tile.add(i * stride + col - cols.start), self.at(row, place));
                    (0..len).for_each(|j| self.write(to.add(j), *from.add(j)));
                }
            }
            col += len;
        }
    }
}

impl<T: Real> Microkernel<T> for Kernel<T> {
    type E = T;
    /// A panel of B (16 columns of f32) takes 15.5 KiB. Not a power of two, which would put
    /// all panels into the same sets of the caches.
    const DEPTH: usize = 248;
    const MIN_PART: usize = 512;
    const STEP: usize = 1;

    fn rows(&self) -> usize {
        self.mr
    }
    fn cols(&self) -> usize {
        self.nr
    }
    fn width(&self, left: usize) -> usize {
        self.width(left)
    }
    fn block_depth(&self, _part: usize) -> usize {
        Self::DEPTH
    }
    fn ready(&self, tiles: impl FnOnce()) {
        tiles();
    }

    #[inline]
    unsafe fn tile(&self, target: &Target<T>, panel: &Panel<T>, a: &[T], rows: Range<usize>) {
        let Some(place) = panel.direct.filter(|_| rows.len() >= self.mr) else {
            // SAFETY: as the caller promises.
            return unsafe { tile_aside(self, target, panel, a, rows) };
        };
        // SAFETY: the panel's columns lie side by side at `place` in rows of C, which are there as the
        // caller promises.
        unsafe {
            let c = std::array::from_fn(|i| target.at(rows.start + i.min(self.mr - 1), place));
            multiply(self, panel, a, &c, target.alpha, target.beta);
        }
    }
}

/// As [`Microkernel::tile`], where the kernel would write beyond the tile.
#[cold]
unsafe fn tile_aside<T: Real>(
    kernel: &Kernel<T>,
    target: &Target<T>,
    panel: &Panel<T>,
    a: &[T],
    rows: Range<usize>,
) {
    let mut aside = [T::zero(); MAX_MR * MAX_NR];
    let aside = aside.as_mut_ptr();
    // SAFETY: `aside` has room for MAX_MR rows of the panel's width; rows and columns are inside C, as
    // the caller promises.
    unsafe {
        let c: [*mut T; MAX_MR] = std::array::from_fn(|i| aside.add(i * panel.width));
        multiply(kernel, panel, a, &c, T::one(), T::zero());
        target.write_tile(aside, panel.width, rows, panel.cols.clone());
    }
}

#[inline(always)]
unsafe fn multiply<T: Real>(
    kernel: &Kernel<T>,
    panel: &Panel<T>,
    a: &[T],
    c: &[*mut T; MAX_MR],
    alpha: T,
    beta: T,
) {
    // SAFETY: the caller promises that `a` and the panel hold the whole depth, and `c` as many rows as
    // the kernel has.
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
