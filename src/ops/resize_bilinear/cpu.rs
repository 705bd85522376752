//! Bilinear resizing in native code: rows first, then the pixels of a row.

use super::{Axis, blend};
use crate::ops::gemm::scratch;
use crate::ops::passes::{chunks_mut, vectorise};
use crate::tensor::{Real, Shape};

/// x of `shape` resized to the sizes of two axes: rows and columns.
pub(super) fn resize<T: Real>(shape: Shape, [rows, columns]: &[Axis; 2], x: &[T], y: &mut [T]) {
    let [_, h, w, c] = shape.0;
    let row = |image: usize, y: usize| &x[(image * h + y) * w * c..][..w * c];
    chunks_mut(y.len(), y, columns.size() * c, |i, y| {
        let (image, tap) = (i / rows.size(), rows.taps[i % rows.size()]);
        let (upper, lower) = (row(image, tap.first), row(image, tap.next));
        scratch::with(w * c, |line: &mut [T]| {
            vectorise(
                #[inline(always)]
                || {
                    mix(T::of(tap.share), upper, lower, line);
                    for (y, tap) in y.chunks_mut(c).zip(&columns.taps) {
                        let [left, right] = [tap.first, tap.next].map(|x| &line[x * c..][..c]);
                        mix(T::of(tap.share), left, right, y);
                    }
                },
            );
        });
    });
}

/// out = (1 − share)·a + share·b.
#[inline(always)]
fn mix<T: Real>(share: T, a: &[T], b: &[T], out: &mut [T]) {
    for (out, (a, b)) in out.iter_mut().zip(a.iter().zip(b)) {
        *out = blend(share, *a, *b);
    }
}
