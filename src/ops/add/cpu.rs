//! Addition in native code.

use crate::ops::CHUNK;
use crate::ops::passes::{chunks_mut, vectorise};
use crate::tensor::Real;

/// y = a + b.
pub(super) fn add<T: Real>(a: &[T], b: &[T], y: &mut [T]) {
    chunks_mut(a.len(), y, CHUNK, |i, y| {
        vectorise(
            #[inline(always)]
            || {
                let (a, b) = (&a[i * CHUNK..], &b[i * CHUNK..]);
                for (y, (a, b)) in y.iter_mut().zip(a.iter().zip(b)) {
                    *y = *a + *b;
                }
            },
        );
    });
}

/// sum += x.
pub(super) fn accumulate<T: Real>(sum: &mut [T], x: &[T]) {
    chunks_mut(sum.len(), sum, CHUNK, |i, sum| {
        vectorise(
            #[inline(always)]
            || {
                for (sum, x) in sum.iter_mut().zip(&x[i * CHUNK..]) {
                    *sum += *x;
                }
            },
        );
    });
}
