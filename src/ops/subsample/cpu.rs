//! Subsampling in native code, a row of the result at a time.

use crate::ops::passes::chunks_mut;
use crate::tensor::{Real, Shape};

/// y of x of shape `shape`.
pub(super) fn forward<T: Real>(shape: Shape, x: &[T], y: &mut [T]) {
    let [_, h, w, c] = shape.0;
    let rows = h.div_ceil(2);
    chunks_mut(y.len(), y, w.div_ceil(2) * c, |i, y| {
        let x = &x[(i / rows * h + i % rows * 2) * w * c..][..w * c];
        for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c).step_by(2)) {
            y.copy_from_slice(x);
        }
    });
}

/// gx of shape `shape`.
pub(super) fn backward<T: Real>(shape: Shape, gy: &[T], gx: &mut [T]) {
    let [_, h, w, c] = shape.0;
    let (rows, line) = (h.div_ceil(2), w.div_ceil(2) * c);
    chunks_mut(gx.len(), gx, w * c, |i, gx| {
        let (n, row) = (i / h, i % h);
        gx.fill(T::zero());
        if row % 2 == 0 {
            let gy = &gy[(n * rows + row / 2) * line..][..line];
            for (gx, gy) in gx.chunks_exact_mut(c).step_by(2).zip(gy.chunks_exact(c)) {
                gx.copy_from_slice(gy);
            }
        }
    });
}
