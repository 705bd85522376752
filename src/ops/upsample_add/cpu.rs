//! Upsampling and addition in native code, a row of the result at a time.

use crate::ops::passes::{chunks_mut, vectorise};
use crate::tensor::{Real, Shape};

/// Rows, columns and channels of a, and the same rows and elements of a row of b.
fn extents(shape: Shape) -> ([usize; 3], [usize; 2]) {
    let [_, h, w, c] = shape.0;
    ([h, w, c], [h.div_ceil(2), w.div_ceil(2) * c])
}

/// y of a of shape `shape`.
pub(super) fn forward<T: Real>(shape: Shape, a: &[T], b: &[T], y: &mut [T]) {
    let ([h, w, c], [rows, line]) = extents(shape);
    chunks_mut(y.len(), y, w * c, |i, y| {
        let (a, b) = (&a[i * w * c..], &b[(i / h * rows + i % h / 2) * line..][..line]);
        vectorise(
            #[inline(always)]
            || {
                for (column, (y, a)) in y.chunks_exact_mut(c).zip(a.chunks_exact(c)).enumerate() {
                    let b = &b[column / 2 * c..][..c];
                    for (y, (a, b)) in y.iter_mut().zip(a.iter().zip(b)) {
                        *y = *a + *b;
                    }
                }
            },
        );
    });
}

/// gb from gy, which has shape `shape`.
pub(super) fn backward<T: Real>(shape: Shape, gy: &[T], gb: &mut [T]) {
    let ([h, w, c], [rows, line]) = extents(shape);
    chunks_mut(gy.len(), gb, line, |i, gb| {
        let (n, row) = (i / rows, i % rows * 2);
        let gy = &gy[(n * h + row) * w * c..(n * h + (row + 2).min(h)) * w * c];
        vectorise(
            #[inline(always)]
            || {
                gb.fill(T::zero());
                for gy in gy.chunks_exact(w * c) {
                    for (column, gy) in gy.chunks_exact(c).enumerate() {
                        let gb = &mut gb[column / 2 * c..][..c];
                        for (gb, gy) in gb.iter_mut().zip(gy) {
                            *gb += *gy;
                        }
                    }
                }
            },
        );
    });
}
