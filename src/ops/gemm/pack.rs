//! Packing: from a matrix wherever it lies to the panels that the microkernel reads.

use std::ops::Range;

use super::MatRef;
use super::target::Microkernel;
use crate::tensor::Real;

/// Depths that are copied at a time: few enough for the lines read, and those prefetched for
/// the next, to stay in the first-level cache even where they are a power of two apart.
pub(crate) const STRETCH: usize = 4;
/// Depths of a lane that are a cache line of f32.
const LINE: usize = 16;

/// One operand of a product, as *lanes* (rows of A, columns of B) by depth.
pub(crate) trait Pack<E>: Sync {
    /// Writes panels of `width` lanes, one after the other, with zeros for lanes that the last
    /// panel lacks. Of f32 and f64: element (depth k, lane l) of the ranges to row k of its
    /// panel. Of bf16: see `narrow`.
    fn pack(&self, depth: Range<usize>, lanes: Range<usize>, width: usize, out: &mut [E]);

    /// The panel of `width` lanes from `lane` on, where it is there without packing.
    fn packed(&self, _depth: &Range<usize>, _lane: usize, _width: usize) -> Option<&[E]> {
        None
    }
}

/// Lanes are the matrix's rows and depth its columns.
impl<T: Real> Pack<T> for MatRef<'_, T> {
    fn pack(&self, depth: Range<usize>, lanes: Range<usize>, width: usize, out: &mut [T]) {
        let first = lanes.start * self.row_stride + depth.start * self.col_stride;
        let src = self.data.get(first..).unwrap_or_default();
        strided(src, [self.row_stride, self.col_stride], [lanes.len(), depth.len()], width, out);
    }
}

/// Packs all panels of B's columns `lanes`, the last of which may be narrow.
pub(crate) fn pack_panels<T: Real, K: Microkernel<T>>(
    kernel: &K,
    b: &dyn Pack<K::E>,
    depth: Range<usize>,
    lanes: Range<usize>,
    out: &mut [K::E],
) {
    let nr = kernel.cols();
    let whole = lanes.start + lanes.len() / nr * nr;
    let len = depth.len().next_multiple_of(K::STEP);
    let (wide, narrow) = out.split_at_mut((whole - lanes.start) * len);
    if lanes.start < whole {
        b.pack(depth.clone(), lanes.start..whole, nr, wide);
    }
    if whole < lanes.end {
        b.pack(depth, whole..lanes.end, kernel.width(lanes.end - whole), narrow);
    }
}

/// Packs `lanes` × `depth` elements of `src`, which lie `strides` apart.
pub(crate) fn strided<T: Real>(
    src: &[T],
    [lane_stride, depth_stride]: [usize; 2],
    [lanes, depth]: [usize; 2],
    width: usize,
    out: &mut [T],
) {
    let whole = lanes / width;
    let (full, rest) =
        out[..lanes.div_ceil(width) * width * depth].split_at_mut(whole * width * depth);
    let strides = [lane_stride, depth_stride];
    match (lane_stride, width) {
        (1, 6) => copy_panels::<T, 6>(src, depth_stride, depth, full),
        (1, 8) => copy_panels::<T, 8>(src, depth_stride, depth, full),
        (1, 16) => copy_panels::<T, 16>(src, depth_stride, depth, full),
        (1, 32) => copy_panels::<T, 32>(src, depth_stride, depth, full),
        (_, 6) if depth_stride == 1 => transpose_panels::<T, 6>(src, lane_stride, depth, full),
        (_, 8) if depth_stride == 1 => transpose_panels::<T, 8>(src, lane_stride, depth, full),
        (_, 16) if depth_stride == 1 => transpose_panels::<T, 16>(src, lane_stride, depth, full),
        (_, 32) if depth_stride == 1 => transpose_panels::<T, 32>(src, lane_stride, depth, full),
        _ => {
            for panel in 0..whole {
                let out = &mut full[panel * width * depth..][..width * depth];
                any_panel(&src[panel * width * lane_stride..], strides, width, width, out);
            }
        }
    }
    if !rest.is_empty() {
        rest.fill(T::zero());
        let left = lanes - whole * width;
        any_panel(&src[whole * width * lane_stride..], strides, left, width, rest);
    }
}

/// Copies whole panels of lanes that are neighbours in memory.
fn copy_panels<T: Real, const W: usize>(
    src: &[T],
    depth_stride: usize,
    depth: usize,
    out: &mut [T],
) {
    for start in (0..depth).step_by(STRETCH) {
        let stretch = start..(start + STRETCH).min(depth);
        for (panel, out) in out.chunks_exact_mut(W * depth).enumerate() {
            let out = &mut out[stretch.start * W..stretch.end * W];
            copy_rows::<T, W>(&src[start * depth_stride + panel * W..], depth_stride, out);
        }
    }
}

/// Packs whole panels where depths are neighbours in memory.
fn transpose_panels<T: Real, const W: usize>(
    src: &[T],
    lane_stride: usize,
    depth: usize,
    out: &mut [T],
) {
    for (panel, out) in out.chunks_exact_mut(W * depth).enumerate() {
        let src = &src[panel * W * lane_stride..];
        let (rows, _) = out.as_chunks_mut::<W>();
        let (stretches, rest) = rows.as_chunks_mut::<LINE>();
        for (s, rows) in stretches.iter_mut().enumerate() {
            for lane in 0..W {
                let src = &src[lane * lane_stride + s * LINE..][..LINE];
                prefetch(src.as_ptr().wrapping_add(2 * LINE));
                for k in 0..LINE {
                    rows[k][lane] = src[k];
                }
            }
        }
        let done = depth - rest.len();
        for (k, row) in rest.iter_mut().enumerate() {
            for (lane, x) in row.iter_mut().enumerate() {
                *x = src[lane * lane_stride + done + k];
            }
        }
    }
}

/// Row i of `out`, W long, = `src[i · stride..]`. Panics where `src` is too short.
#[inline]
pub(crate) fn copy_rows<T: Real, const W: usize>(src: &[T], stride: usize, out: &mut [T]) {
    let rows = out.len() / W;
    assert!(rows == 0 || (rows - 1) * stride + W <= src.len(), "rows to pack end too early");
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx") {
        // SAFETY: the instructions are there, and so are the rows, as was just checked.
        return unsafe { copy_rows_avx::<T, W>(src, stride, out.as_mut_ptr(), rows) };
    }
    // SAFETY: the rows are there, as was just checked.
    unsafe { copy_rows_at::<T, W>(src, stride, out.as_mut_ptr(), rows) }
}

/// [`copy_rows_at`] with registers of 32 bytes.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
unsafe fn copy_rows_avx<T: Real, const W: usize>(
    src: &[T],
    stride: usize,
    out: *mut T,
    rows: usize,
) {
    // SAFETY: as the caller promises.
    unsafe { copy_rows_at::<T, W>(src, stride, out, rows) }
}

#[inline(always)]
unsafe fn copy_rows_at<T: Real, const W: usize>(
    src: &[T],
    stride: usize,
    out: *mut T,
    rows: usize,
) {
    // Whole registers are faster than rows of six, and what is too much is overwritten by the
    // next row: possible in all rows but the last.
    let over = W.next_multiple_of(8);
    const { assert!(W.next_multiple_of(8) <= 2 * W) };
    let wide = match over > W && rows > 0 {
        true => src.len().saturating_sub(over).checked_div(stride).unwrap_or(0).min(rows - 1),
        false => 0,
    };
    // SAFETY: the caller promises `rows` rows in `src` and in `out`; what is read beyond a row is inside
    // `src`, by `wide`.
    unsafe {
        for row in 0..rows {
            let (from, to) = (src.as_ptr().add(row * stride), out.add(row * W));
            prefetch(from.wrapping_add(STRETCH * stride));
            if row < wide {
                from.copy_to_nonoverlapping(to, over);
            } else {
                from.copy_to_nonoverlapping(to, W);
            }
        }
    }
}

/// Hints that what is at `p`, if anything, will be read soon: packing waits for memory more
/// than for anything else.
#[inline(always)]
fn prefetch<T>(p: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which may name any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// Packs one panel of `lanes` ≤ `width` at any strides.
fn any_panel<T: Real>(
    src: &[T],
    [lane_stride, depth_stride]: [usize; 2],
    lanes: usize,
    width: usize,
    out: &mut [T],
) {
    for (s, out) in out.chunks_mut(LINE * width).enumerate() {
        for lane in 0..lanes {
            let src = &src[lane * lane_stride + s * LINE * depth_stride..];
            let column = out[lane..].iter_mut().step_by(width);
            column.zip(src.iter().step_by(depth_stride.max(1))).for_each(|(o, x)| *o = *x);
        }
    }
}
