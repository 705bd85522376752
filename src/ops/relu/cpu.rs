//! ReLU in native code.

use crate::ops::CHUNK;
use crate::ops::passes::{chunks_mut, relu_gradient, vectorise};
use crate::tensor::Real;

/// y = max(x, 0); NaN stays NaN.
pub(super) fn forward<T: Real>(x: &[T], y: &mut [T]) {
    let zero = T::zero();
    chunks_mut(x.len(), y, CHUNK, |i, y| {
        vectorise(
            #[inline(always)]
            || {
                for (y, x) in y.iter_mut().zip(&x[i * CHUNK..]) {
                    *y = if *x < zero { zero } else { *x };
                }
            },
        );
    });
}

/// g = 0 where y = 0.
pub(super) fn backward<T: Real>(y: &[T], g: &mut [T]) {
    chunks_mut(y.len(), g, CHUNK, |i, g| {
        vectorise(
            #[inline(always)]
            || {
                for (g, y) in g.iter_mut().zip(&y[i * CHUNK..]) {
                    *g = relu_gradient(*y, *g);
                }
            },
        );
    });
}
