//! Channels times factors in native code.

use crate::ops::passes::{chunks_mut, vectorise};
use crate::tensor::{Real, Shape};

/// y = x·s.
pub(super) fn forward<T: Real>(shape: Shape, x: &[T], s: &[T], y: &mut [T]) {
    let row = shape.w() * shape.c();
    over_rows(
        shape,
        s,
        y,
        #[inline(always)]
        |i, s, y| {
            let x = &x[i * row..][..row];
            for (y, x) in y.chunks_mut(s.len()).zip(x.chunks(s.len())) {
                for ((y, x), s) in y.iter_mut().zip(x).zip(s) {
                    *y = *x * *s;
                }
            }
        },
    );
}

/// g ← g·s.
pub(super) fn backward<T: Real>(shape: Shape, s: &[T], g: &mut [T]) {
    over_rows(
        shape,
        s,
        g,
        #[inline(always)]
        |_, s, g| {
            for g in g.chunks_mut(s.len()) {
                for (g, s) in g.iter_mut().zip(s) {
                    *g *= *s;
                }
            }
        },
    );
}

/// Calls `f(i, its image's factors, row i)` for the rows of `out`.
fn over_rows<T: Real>(
    shape: Shape,
    s: &[T],
    out: &mut [T],
    f: impl Fn(usize, &[T], &mut [T]) + Send + Sync,
) {
    let [_, h, w, c] = shape.0;
    chunks_mut(out.len(), out, w * c, |i, out| {
        let s = &s[i / h * c..][..c];
        vectorise(
            #[inline(always)]
            || f(i, s, out),
        );
    });
}
