//! The matrix of which wgrad is a product, never stored: a row for each output pixel, a column
//! for each weight of a filter. Packing reads the input directly.

use std::ops::Range;

use super::Geometry;
use super::window::copy_clipped;
use crate::ops::gemm::Pack;
use crate::ops::gemm::pack::{STRETCH, copy_rows};
use crate::tensor::Real;

/// Columns (r, s, i) are lanes, output pixels depth.
pub(super) struct Im2col<'a, T> {
    /// Input, N×H×W×Cin.
    pub x: &'a [T],
    /// The convolution.
    pub g: Geometry,
}

/// Neighbouring columns that are neighbours in the input too: of one row of the filter, or of one
/// tap where these are dilated.
struct Run {
    /// Row of the input, counted from that of the first tap.
    row: usize,
    /// First element of it, counted from that of the first tap.
    from: usize,
    /// Panel that they go to.
    panel: usize,
    /// Their lanes in it.
    to: Range<usize>,
}

impl<T: Real> Im2col<'_, T> {
    fn runs(&self, lanes: &Range<usize>, width: usize) -> Vec<Run> {
        let g = &self.g;
        let taps = if g.dilation == 1 { g.kernel } else { 1 };
        let run = taps * g.cin;
        let mut runs = Vec::with_capacity(2 * lanes.len().div_ceil(width));
        let mut at = lanes.start;
        while at < lanes.end {
            let (panel, lane) = ((at - lanes.start) / width, (at - lanes.start) % width);
            let len = (width - lane).min(run - at % run).min(lanes.end - at);
            let tap = at / run * taps;
            let (row, column) = (tap / g.kernel * g.dilation, tap % g.kernel * g.dilation);
            let from = column * g.cin + at % run;
            runs.push(Run { row, from, panel, to: lane..lane + len });
            at += len;
        }
        runs
    }

    /// Packs one run for output pixels q… of one row, to the rows of a panel; `line` is the
    /// input row.
    fn pack_run(&self, line: &[T], q: usize, run: &Run, width: usize, out: &mut [T]) {
        let g = &self.g;
        let step = g.stride * g.cin;
        let first = (q * g.stride) as isize - g.pad as isize;
        let from = first * g.cin as isize + run.from as isize;
        match (&run.to, width) {
            (Range { start: 0, end: 16 }, 16) => copy_clipped_rows::<T, 16>(line, from, step, out),
            (Range { start: 0, end: 8 }, 8) => copy_clipped_rows::<T, 8>(line, from, step, out),
            (Range { start: 0, end: 32 }, 32) => copy_clipped_rows::<T, 32>(line, from, step, out),
            (to, _) => {
                for (i, out) in out.chunks_exact_mut(width).enumerate() {
                    let from = from.wrapping_add_unsigned(i * step);
                    copy_clipped(line, from, &mut out[to.clone()]);
                }
            }
        }
    }
}

impl<T: Real> Pack<T> for Im2col<'_, T> {
    fn pack(&self, depth: Range<usize>, lanes: Range<usize>, width: usize, out: &mut [T]) {
        let g = &self.g;
        let panel = depth.len() * width;
        if !lanes.len().is_multiple_of(width) {
            out[lanes.len() / width * panel..][..panel].fill(T::zero());
        }
        let runs = self.runs(&lanes, width);
        let mut at = depth.start;
        while at < depth.end {
            // Some output pixels of one row.
            let (row, q) = (at / g.q, at % g.q);
            let pixels = (g.q - q).min(depth.end - at).min(STRETCH);
            let (n, h0) = (row / g.p, row % g.p * g.stride);
            for run in &runs {
                let h = (h0 + run.row).wrapping_sub(g.pad);
                let line = (h < g.h).then(|| &self.x[(n * g.h + h) * g.w * g.cin..][..g.w * g.cin]);
                let start = run.panel * panel + (at - depth.start) * width;
                let out = &mut out[start..start + pixels * width];
                self.pack_run(line.unwrap_or_default(), q, run, width, out);
            }
            at += pixels;
        }
    }
}

/// Row i of `out` = W elements of `line` from `from + i · step` on, zeros outside of it.
fn copy_clipped_rows<T: Real, const W: usize>(line: &[T], from: isize, step: usize, out: &mut [T]) {
    let rows = out.len() / W;
    // The rows that lie inside as a whole.
    let start = from.min(0).unsigned_abs().div_ceil(step).min(rows);
    let end = usize::try_from(line.len() as isize - W as isize - from)
        .map_or(start, |space| (space / step + 1).clamp(start, rows));
    for i in (0..start).chain(end..rows) {
        copy_clipped(line, from.wrapping_add_unsigned(i * step), &mut out[i * W..][..W]);
    }
    if start < end {
        let first = from.wrapping_add_unsigned(start * step).unsigned_abs();
        copy_rows::<T, W>(&line[first..], step, &mut out[start * W..end * W]);
    }
}
