//! Where the source pixels of an output pixel lie, and copies of them with zeros around.

use std::ops::Range;

use crate::tensor::Real;

/// The taps of a filter over a grid of output pixels: tap (r, s) of output pixel (a, b) reads
/// source pixel (a·step + first\[0\] + r·dilation, b·step + first\[1\] + s·dilation).
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// Shape of the source, N×H×W×C.
    pub src: [usize; 4],
    /// Rows and columns of output pixels of one image.
    pub grid: [usize; 2],
    /// Source pixels from one output pixel to the next.
    pub step: usize,
    /// Source pixel of the first tap of the first output pixel.
    pub first: [isize; 2],
    /// Rows and columns of taps.
    pub taps: [usize; 2],
    /// Source pixels from one tap to the next.
    pub dilation: usize,
}

/// An output row whose source rows are at hand.
pub(super) struct Row {
    /// Image.
    pub n: usize,
    /// Row in its image.
    pub a: usize,
    /// Where the source pixels of its first output pixel start, in elements.
    pub start: usize,
}

impl Window {
    /// Output pixels of one row.
    pub(super) fn cols(&self) -> usize {
        self.grid[1]
    }
    /// Elements from the source of one output pixel to that of the next.
    pub(super) fn pixel(&self) -> usize {
        self.step * self.src[3]
    }
    /// Taps that are neighbours in the source: a row of them, or one where they are dilated.
    pub(super) fn taps_of_run(&self) -> usize {
        if self.dilation == 1 { self.taps[1] } else { 1 }
    }
    /// Elements of a run of neighbouring taps.
    pub(super) fn run(&self) -> usize {
        self.taps_of_run() * self.src[3]
    }
    /// Runs that make up all taps, row by row.
    pub(super) fn runs(&self) -> usize {
        self.taps[0] * (self.taps[1] / self.taps_of_run())
    }
    /// Source row and column of a run's first tap, counted from the pixel's first tap.
    pub(super) fn run_origin(&self, run: usize) -> [usize; 2] {
        let of_row = self.taps[1] / self.taps_of_run();
        [run / of_row * self.dilation, run % of_row * self.dilation]
    }
    /// The same in elements of the source, or of its copy.
    pub(super) fn run_offset(&self, run: usize) -> usize {
        let [row, column] = self.run_origin(run);
        row * self.line() + column * self.src[3]
    }
    /// Elements that the taps of one output pixel span.
    pub(super) fn span(&self) -> usize {
        self.run_offset(self.runs() - 1) + self.run()
    }
    /// Rows (0) or columns (1) of the source that the taps of one output pixel span.
    fn reach(&self, axis: usize) -> usize {
        (self.taps[axis] - 1) * self.dilation + 1
    }
    /// Elements from one row of the source, or of its copy, to the next.
    pub(super) fn line(&self) -> usize {
        match self.in_place() {
            true => self.src[2] * self.src[3],
            false => ((self.grid[1] - 1) * self.step + self.reach(1)) * self.src[3],
        }
    }
    /// Whether the source can be read where it lies: one tap, nowhere outside.
    pub(super) fn in_place(&self) -> bool {
        let inside =
            |i: usize| self.first[i] == 0 && (self.grid[i] - 1) * self.step < self.src[1 + i];
        self.taps == [1, 1] && inside(0) && inside(1)
    }
    /// Elements of the copy for some output rows, numbered through all images.
    pub(super) fn copy_elems(&self, rows: &Range<usize>) -> usize {
        if self.in_place() || rows.is_empty() {
            return 0;
        }
        let images = (rows.end - 1) / self.grid[0] - rows.start / self.grid[0] + 1;
        let lines = (rows.len() - images) * self.step + images * self.reach(0);
        lines * self.line()
    }
    /// The most that [`Window::copy_elems`] can be for so many output rows.
    pub(super) fn most_copy_elems(&self, rows: usize) -> usize {
        if self.in_place() { 0 } else { rows * (self.step + self.reach(0)) * self.line() }
    }

    /// The output rows, and where their source starts in `src` itself or in its copy.
    pub(super) fn rows(&self, rows: Range<usize>) -> impl Iterator<Item = Row> {
        let [_, h, _, _] = self.src;
        let (gh, line, in_place) = (self.grid[0], self.line(), self.in_place());
        let mut at = 0;
        rows.clone().map(move |row| {
            let (n, a) = (row / gh, row % gh);
            if in_place {
                return Row { n, a, start: (n * h + a * self.step) * line };
            }
            if row > rows.start {
                at += if a > 0 { self.step } else { self.reach(0) };
            }
            Row { n, a, start: at * line }
        })
    }

    /// Copies what the output rows read from `src` to `out`, of [`Window::copy_elems`].
    pub(super) fn copy<T: Real>(&self, src: &[T], rows: Range<usize>, out: &mut [T]) {
        if self.in_place() {
            return;
        }
        let [_, h, w, c] = self.src;
        let (line, mut done) = (self.line(), 0);
        for row in self.rows(rows) {
            for r in 0..self.reach(0) {
                let at = row.start + r * line;
                if at < done {
                    continue;
                }
                let y = (row.a * self.step).wrapping_add_signed(self.first[0]).wrapping_add(r);
                let line_src = match y < h {
                    true => &src[(row.n * h + y) * w * c..][..w * c],
                    false => &[],
                };
                copy_clipped(line_src, self.first[1] * c as isize, &mut out[at..at + line]);
                done = at + line;
            }
        }
    }
}

/// `out[i] = line[from + i]`, and 0 outside of the line.
#[inline]
pub(super) fn copy_clipped<T: Real>(line: &[T], from: isize, out: &mut [T]) {
    let before = from.min(0).unsigned_abs().min(out.len());
    let (zeros, out) = out.split_at_mut(before);
    zeros.fill(T::zero());
    let src = line.get(from.max(0).unsigned_abs()..).unwrap_or_default();
    let (inside, zeros) = out.split_at_mut(src.len().min(out.len()));
    inside.copy_from_slice(&src[..inside.len()]);
    zeros.fill(T::zero());
}
