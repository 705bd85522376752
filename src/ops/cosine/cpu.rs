//! Products of rows in native code.

use crate::ops::CHUNK;
use crate::ops::passes::{chunks_mut, dot, vectorise};
use crate::tensor::Real;

/// The mean over rows of `d` elements of 2 − 2·p·k, summed in f64.
pub(super) fn mean<T: Real>(d: usize, p: &[T], k: &[T]) -> f64 {
    let mut losses = vec![0.0; p.len() / d];
    let rows = (CHUNK / d).max(1);
    chunks_mut(p.len(), &mut losses, rows, |i, losses| {
        let (p, k) = (&p[i * rows * d..], &k[i * rows * d..]);
        vectorise(
            #[inline(always)]
            || {
                for ((loss, p), k) in losses.iter_mut().zip(p.chunks(d)).zip(k.chunks(d)) {
                    *loss = 2.0 - 2.0 * dot(p, k).f64();
                }
            },
        );
    });
    losses.iter().sum::<f64>() / losses.len() as f64
}

/// y = factor · x.
pub(super) fn scale<T: Real>(factor: T, x: &[T], y: &mut [T]) {
    chunks_mut(x.len(), y, CHUNK, |i, y| {
        y.iter_mut().zip(&x[i * CHUNK..]).for_each(|(y, x)| *y = factor * *x);
    });
}
