//! Normalisation of rows in native code.

use super::EPS;
use crate::ops::CHUNK;
use crate::ops::passes::{chunks_mut, chunks_mut2, dot, vectorise};
use crate::tensor::Real;

/// Rows that a thread takes at a time.
fn rows_at_a_time(c: usize) -> usize {
    (CHUNK / c).max(1)
}

/// y = x / max(‖x‖, ε) for each row of `c` elements, and the divisors.
pub(crate) fn forward<T: Real>(c: usize, x: &[T], y: &mut [T], lengths: &mut [T]) {
    let rows = rows_at_a_time(c);
    chunks_mut2(x.len(), (y, rows * c), (lengths, rows), |i, y, lengths| {
        let x = &x[i * rows * c..];
        vectorise(
            #[inline(always)]
            || {
                for ((y, x), length) in y.chunks_mut(c).zip(x.chunks(c)).zip(lengths) {
                    *length = dot(x, x).sqrt();
                    // Written so that NaN stays NaN.
                    *length = if *length < T::of(EPS) { T::of(EPS) } else { *length };
                    for (y, x) in y.iter_mut().zip(x) {
                        *y = *x / *length;
                    }
                }
            },
        );
    });
}

/// The gradient of x, in place of that of y: (g − y·(y·g)) / ‖x‖, or g/ε where ‖x‖ ≤ ε.
pub(super) fn backward<T: Real>(c: usize, y: &[T], lengths: &[T], g: &mut [T]) {
    let rows = rows_at_a_time(c);
    chunks_mut(y.len(), g, rows * c, |i, g| {
        let (y, lengths) = (&y[i * rows * c..], &lengths[i * rows..]);
        vectorise(
            #[inline(always)]
            || {
                for ((g, y), &length) in g.chunks_mut(c).zip(y.chunks(c)).zip(lengths) {
                    let along = if length > T::of(EPS) { dot(y, g) } else { T::zero() };
                    for (g, y) in g.iter_mut().zip(y) {
                        *g = (*g - *y * along) / length;
                    }
                }
            },
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_zeros_stays_zero() {
        let (mut y, mut lengths) = ([1.0f32; 4], [0.0f32; 2]);
        forward(2, &[0.0, 0.0, 3.0, -4.0], &mut y, &mut lengths);
        assert_eq!((y, lengths), ([0.0, 0.0, 0.6, -0.8], [1e-12, 5.0]));
        let mut g = [1.0f32, 2.0, 3.0, -4.0];
        backward(2, &y, &lengths, &mut g);
        assert_eq!(&g[..2], &[1e12, 2e12]);
        assert!(g[2].abs() < 1e-6 && g[3].abs() < 1e-6);
    }
}
