//! The linear layer as matrix products.

use rayon::prelude::*;

use super::Geometry;
use crate::ops::gemm::{MatMut, MatRef};
use crate::tensor::Real;

/// How a product is computed: [`gemm`](crate::ops::gemm::gemm), or from operands rounded to bf16.
pub(super) type Gemm<T> = fn(T, MatRef<T>, MatRef<T>, T, MatMut<T>);

/// Columns of `gy` that a thread sums at a time.
const SUM_COLS: usize = 64;

impl Geometry {
    /// The active part of the weight, `out` × `cin`.
    fn weight<'a, T: Real>(&self, w: &'a [T]) -> MatRef<'a, T> {
        MatRef::strided(w, self.out, self.cin, self.cin_max, 1)
    }
}

/// `y` N×out = x · wᵀ (+ b).
pub(super) fn fprop<T: Real>(
    gemm: Gemm<T>,
    g: &Geometry,
    x: &[T],
    w: &[T],
    b: Option<&[T]>,
    y: &mut [T],
) {
    if let Some(b) = b {
        y.chunks_exact_mut(g.out.max(1)).for_each(|row| row.copy_from_slice(&b[..g.out]));
    }
    let beta = if b.is_some() { T::one() } else { T::zero() };
    let (x, y) = (MatRef::new(x, g.n, g.cin), MatMut::new(y, g.n, g.out));
    gemm(T::one(), x, g.weight(w).t(), beta, y);
}

/// Gradient of `x`, gy · w, written or added to `gx`.
pub(super) fn dgrad<T: Real>(
    gemm: Gemm<T>,
    g: &Geometry,
    gy: &[T],
    w: &[T],
    gx: &mut [T],
    accumulate: bool,
) {
    let beta = if accumulate { T::one() } else { T::zero() };
    let (gy, gx) = (MatRef::new(gy, g.n, g.out), MatMut::new(gx, g.n, g.cin));
    gemm(T::one(), gy, g.weight(w), beta, gx);
}

/// Adds gyᵀ · x to the active part of `gw`.
pub(super) fn wgrad<T: Real>(gemm: Gemm<T>, g: &Geometry, x: &[T], gy: &[T], gw: &mut [T]) {
    let (gy, x) = (MatRef::new(gy, g.n, g.out), MatRef::new(x, g.n, g.cin));
    gemm(T::one(), gy.t(), x, T::one(), MatMut::strided(gw, g.out, g.cin, g.cin_max, 1));
}

/// Adds the sum of the rows of `gy` to the active part of `gb`.
pub(super) fn bias_grad<T: Real>(g: &Geometry, gy: &[T], gb: &mut [T]) {
    gb[..g.out].par_chunks_mut(SUM_COLS).enumerate().for_each(|(chunk, sums)| {
        for row in gy.chunks_exact(g.out) {
            let row = &row[chunk * SUM_COLS..];
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += *x);
        }
    });
}
