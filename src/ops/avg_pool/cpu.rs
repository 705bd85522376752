//! Global average pooling in native code.

use crate::ops::gemm::scratch;
use crate::ops::passes::{chunks_mut, vectorise};
use crate::tensor::{Real, Shape};

/// Positions that are added up in one run, so that rounding does not grow with the map.
const RUN: usize = 64;

/// Means over positions: `[N,H,W,C]` to `[N,C]`.
pub(super) fn forward<T: Real>(shape: Shape, x: &[T], y: &mut [T]) {
    let (positions, c) = (shape.positions(), shape.c());
    let n = T::of(positions as f64);
    chunks_mut(x.len(), y, c, |i, y| {
        let x = &x[i * positions * c..][..positions * c];
        scratch::with(c, |run: &mut [T]| {
            vectorise(
                #[inline(always)]
                || {
                    y.fill(T::zero());
                    for x in x.chunks(RUN * c) {
                        run.fill(T::zero());
                        for x in x.chunks(c) {
                            add(run, x);
                        }
                        add(y, run);
                    }
                    for y in y.iter_mut() {
                        *y /= n;
                    }
                },
            );
        });
    });
}

/// sum += x.
#[inline(always)]
fn add<T: Real>(sum: &mut [T], x: &[T]) {
    for (sum, x) in sum.iter_mut().zip(x) {
        *sum += *x;
    }
}

/// Every position gets its share of the gradient.
pub(super) fn backward<T: Real>(shape: Shape, gy: &[T], gx: &mut [T]) {
    let (positions, c) = (shape.positions(), shape.c());
    let n = T::of(positions as f64);
    chunks_mut(gx.len(), gx, positions * c, |i, gx| {
        let gy = &gy[i * c..][..c];
        for gx in gx.chunks_mut(c) {
            gx.iter_mut().zip(gy).for_each(|(gx, gy)| *gx = *gy / n);
        }
    });
}
