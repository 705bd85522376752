//! Sums of squares in native code.

use rayon::prelude::*;

use crate::ops::CHUNK;
use crate::tensor::{Real, Tensor};

/// Σx², and the number of values that are not finite.
pub(super) fn sum(tensors: &[&Tensor]) -> (f64, u64) {
    let square = |t: &&Tensor| -> f64 {
        crate::dispatch!(t.dtype(), T => {
            let chunks: Vec<f64> = t.host::<T>().par_chunks(CHUNK).map(sum_of_squares).collect();
            chunks.iter().sum()
        })
    };
    let sums: Vec<f64> = tensors.par_iter().map(square).collect();
    let sum: f64 = sums.iter().sum();
    // Squares of finite f32 stay finite in f64; of f64 they may not.
    let non_finite = if sum.is_finite() { 0 } else { tensors.iter().map(|t| non_finite(t)).sum() };
    (sum, non_finite)
}

/// In f64, eight sums side by side so that the compiler can use vectors.
fn sum_of_squares<T: Real>(x: &[T]) -> f64 {
    let mut sums = [0.0; 8];
    let mut rows = x.chunks_exact(8);
    for row in &mut rows {
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += x.f64() * x.f64();
        }
    }
    sums.iter().sum::<f64>() + rows.remainder().iter().map(|x| x.f64() * x.f64()).sum::<f64>()
}

fn non_finite(t: &Tensor) -> u64 {
    crate::dispatch!(t.dtype(), T => {
        t.host::<T>().iter().filter(|x| !T::is_finite(**x)).count() as u64
    })
}

/// Whether all values are finite.
pub(super) fn all_finite(t: &Tensor) -> bool {
    crate::dispatch!(t.dtype(), T => t.host::<T>().iter().all(|x| T::is_finite(*x)))
}
