//! Correspondence in native code, by tiles of products.

use crate::ops::gemm::{MatMut, MatRef, gemm_alone, scratch};
use crate::ops::l2_normalise::EPS;
use crate::ops::passes::{chunks_mut, dot};
use crate::tensor::Real;

/// The student's positions of a tile, and the teacher's.
const ROWS: usize = 128;
const COLS: usize = 256;

/// Fills, for each position of the student's, the row of the teacher's. An image is a task.
pub(super) fn nearest<T: Real>(
    positions: usize,
    channels: [usize; 2],
    maps: [&[T]; 2],
    index: &mut [i32],
) {
    let depth = channels[0].min(channels[1]);
    let work = index.len() * positions * depth;
    chunks_mut(work, index, positions, |image, index| {
        let [student, teacher] = [0, 1].map(|i| {
            let size = positions * channels[i];
            &maps[i][image * size..][..size]
        });
        let inverse = inverse_lengths(teacher, channels[1], depth);
        let student = MatRef::strided(student, positions, depth, channels[0], 1);
        let teacher = MatRef::strided(teacher, positions, depth, channels[1], 1);
        for first in (0..positions).step_by(ROWS) {
            let rows = first..(first + ROWS).min(positions);
            let found = tile(student.slice(rows.clone()), teacher, &inverse);
            for (index, found) in index[rows].iter_mut().zip(found) {
                *index = (image * positions + found) as i32;
            }
        }
    });
}

/// 1 / max(‖x‖, ε) of the first `depth` of each row's `channels`.
fn inverse_lengths<T: Real>(x: &[T], channels: usize, depth: usize) -> Vec<T> {
    let one = |row: &[T]| {
        let row = &row[..depth];
        T::one() / dot(row, row).sqrt().max(T::of(EPS))
    };
    x.chunks(channels).map(one).collect()
}

/// For each of the student's rows, the row of the teacher's.
fn tile<T: Real>(student: MatRef<T>, teacher: MatRef<T>, inverse: &[T]) -> Vec<usize> {
    let mut best = vec![(T::neg_infinity(), 0); student.rows()];
    for start in (0..teacher.rows()).step_by(COLS) {
        let columns = start..(start + COLS).min(teacher.rows());
        let cols = columns.len();
        scratch::with(student.rows() * cols, |products: &mut [T]| {
            let to = MatMut::new(products, student.rows(), cols);
            gemm_alone(T::one(), student, teacher.slice(columns.clone()).t(), T::zero(), to);
            for (best, row) in best.iter_mut().zip(products.chunks(cols)) {
                for ((product, inverse), at) in row.iter().zip(&inverse[start..]).zip(start..) {
                    let cosine = *product * *inverse;
                    if cosine > best.0 {
                        *best = (cosine, at);
                    }
                }
            }
        });
    }
    best.into_iter().map(|(_, at)| at).collect()
}
