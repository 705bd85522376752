//! The relation score in native code, by tiles of both Gram matrices.
//!
//! With e = exp((T − 1)/τ) of the teacher's cosines T and l = exp((S − 1)/τ) of the student's
//! (no cosine is above 1, so nothing overflows), position i scores
//! (Σⱼ e·S / Σⱼ e − 1)/τ − log Σⱼ l. Both matrices are symmetric: only j ≥ i is computed, and
//! counts for i and for j.

use std::ops::Range;

use rayon::prelude::*;

use crate::ops::gemm::{MatMut, MatRef, gemm_alone, scratch};
use crate::ops::passes::{exp_in_place, sum, vectorise};
use crate::tensor::Real;

/// Rows of a tile.
const ROWS: usize = 128;
/// Columns of a tile: two tiles of f32 take half of a second-level cache.
const COLS: usize = 256;
/// Most tasks for one image.
const STRIPS: usize = 16;
/// Least blocks of rows of a task.
const MIN_BLOCKS: usize = 4;

/// Σ e·S, Σ e and Σ l for every position.
struct Sums {
    weighted: Vec<f64>,
    teacher: Vec<f64>,
    student: Vec<f64>,
}

/// The score of each of `n` images.
pub(super) fn scores<T: Real>(
    positions: usize,
    teacher: &[T],
    student: &[T],
    n: usize,
    tau: f64,
) -> Vec<f64> {
    let (teacher_size, student_size) = (teacher.len() / n, student.len() / n);
    let image = |i: usize| {
        let teacher = &teacher[i * teacher_size..][..teacher_size];
        let student = &student[i * student_size..][..student_size];
        let maps = [teacher, student].map(|x| MatRef::new(x, positions, x.len() / positions));
        score(maps, tau)
    };
    (0..n).into_par_iter().map(image).collect()
}

/// The score of one image.
fn score<T: Real>(maps: [MatRef<T>; 2], tau: f64) -> f64 {
    let positions = maps[0].rows();
    let blocks = positions.div_ceil(ROWS);
    let strips = blocks.div_ceil(MIN_BLOCKS).min(STRIPS);
    let parts: Vec<Sums> =
        (0..strips).into_par_iter().map(|s| sum_strip(maps, tau, s, strips)).collect();
    let total =
        |part: fn(&Sums) -> &Vec<f64>, i: usize| parts.iter().map(|p| part(p)[i]).sum::<f64>();
    let position = |i: usize| {
        let expected = total(|p| &p.weighted, i) / total(|p| &p.teacher, i);
        (expected - 1.0) / tau - total(|p| &p.student, i).ln()
    };
    (0..positions).map(position).sum::<f64>() / positions as f64
}

/// What the blocks of rows `strip`, `strip` + `strips`, … contribute: every task gets long
/// rows and short ones.
fn sum_strip<T: Real>(maps: [MatRef<T>; 2], tau: f64, strip: usize, strips: usize) -> Sums {
    let positions = maps[0].rows();
    let zeros = || vec![0.0; positions];
    let mut sums = Sums { weighted: zeros(), teacher: zeros(), student: zeros() };
    for first in (strip * ROWS..positions).step_by(strips * ROWS) {
        let rows = first..(first + ROWS).min(positions);
        for start in (first..positions).step_by(COLS) {
            let cols = start..(start + COLS).min(positions);
            let size = rows.len() * cols.len();
            scratch::with(2 * size + 4 * cols.len(), |memory: &mut [T]| {
                let (teacher, memory) = memory.split_at_mut(size);
                let (student, columns) = memory.split_at_mut(size);
                for (tile, map) in [&mut *teacher, &mut *student].into_iter().zip(maps) {
                    let (a, b) = (map.slice(rows.clone()), map.slice(cols.clone()));
                    gemm_alone(
                        T::one(),
                        a,
                        b.t(),
                        T::zero(),
                        MatMut::new(tile, rows.len(), cols.len()),
                    );
                }
                columns.fill(T::zero());
                let mut tile = Tile { rows: rows.clone(), cols, teacher, student };
                tile.add(tau, columns, &mut sums);
            });
        }
    }
    sums
}

/// Cosines of some rows with some columns.
struct Tile<'a, T> {
    rows: Range<usize>,
    cols: Range<usize>,
    teacher: &'a mut [T],
    student: &'a mut [T],
}

impl<T: Real> Tile<'_, T> {
    /// Adds what lies on and right of the diagonal, to rows and to columns. `memory` is four
    /// rows of zeros, which are used up, as are the cosines.
    fn add(&mut self, tau: f64, memory: &mut [T], sums: &mut Sums) {
        let (width, scale) = (self.cols.len(), T::of(1.0 / tau));
        let (spare, columns) = memory.split_at_mut(width);
        for (r, i) in self.rows.clone().enumerate() {
            // The row starts at the diagonal, which counts once: not for its column.
            let from = i.saturating_sub(self.cols.start).min(width);
            let diagonal = usize::from(self.cols.contains(&i));
            let at = r * width + from..(r + 1) * width;
            let (t, s) = (&mut self.teacher[at.clone()], &mut self.student[at]);
            let spare = &mut spare[from..];
            let row = vectorise(
                #[inline(always)]
                || {
                    let row = row_terms(scale, t, s, spare);
                    let terms = [&s[diagonal..], &t[diagonal..], &spare[diagonal..]];
                    for (sums, terms) in columns.chunks_mut(width).zip(terms) {
                        for (sum, term) in sums[from + diagonal..].iter_mut().zip(terms) {
                            *sum += *term;
                        }
                    }
                    row
                },
            );
            sums.weighted[i] += row[0].f64();
            sums.teacher[i] += row[1].f64();
            sums.student[i] += row[2].f64();
        }
        for (i, j) in self.cols.clone().enumerate() {
            sums.weighted[j] += columns[i].f64();
            sums.teacher[j] += columns[width + i].f64();
            sums.student[j] += columns[2 * width + i].f64();
        }
    }
}

/// From the cosines of one row: e goes to `t`, e·S to `s`, l to `spare`. Returns the sums of
/// e·S, e and l.
#[inline(always)]
fn row_terms<T: Real>(scale: T, t: &mut [T], s: &mut [T], spare: &mut [T]) -> [T; 3] {
    spare.copy_from_slice(s);
    let student = exp_in_place(spare, T::one(), scale);
    let teacher = exp_in_place(t, T::one(), scale);
    for (s, t) in s.iter_mut().zip(&*t) {
        *s *= *t;
    }
    [sum(s), teacher, student]
}
