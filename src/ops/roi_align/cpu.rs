//! RoIAlign in native code: a product with A, then one with Bᵀ, each a sum of scaled rows of
//! channels. The gradient gathers: a row of the map asks the RoIs of its image.

use rayon::prelude::*;

use super::RoiAlign;
use super::axis::{ROI, Roi, group};
use crate::ops::gemm::scratch;
use crate::ops::passes::{chunks_mut, vectorise};
use crate::tensor::{Real, Shape};

/// sum += factor · x.
#[inline(always)]
fn add_scaled<T: Real>(sum: &mut [T], factor: T, x: &[T]) {
    for (sum, x) in sum.iter_mut().zip(x) {
        *sum += factor * *x;
    }
}

/// y from the maps of all levels.
pub(super) fn forward<T: Real>(op: &RoiAlign, maps: &[(Shape, &[T])], rois: &[T], y: &mut [T]) {
    let (size, c) = (op.size, maps[0].0.c());
    chunks_mut(y.len(), y, size * size * c, |r, y| {
        let roi = Roi::new(op, &rois[r * ROI..][..ROI], |level| maps[level].0);
        let (shape, map) = maps[roi.level];
        let (span, width) = (roi.columns.span(), shape.w());
        let image = &map[roi.image * shape.positions() * c..][..shape.positions() * c];
        scratch::with(span.len() * c, |line: &mut [T]| {
            vectorise(
                #[inline(always)]
                || {
                    for (i, y) in y.chunks_mut(size * c).enumerate() {
                        line.fill(T::zero());
                        for (row, a) in roi.rows.bin(i) {
                            add_scaled(line, a, &image[(row * width + span.start) * c..]);
                        }
                        for (j, y) in y.chunks_mut(c).enumerate() {
                            y.fill(T::zero());
                            for (column, b) in roi.columns.bin(j) {
                                add_scaled(y, b, &line[(column - span.start) * c..]);
                            }
                        }
                    }
                },
            );
        });
    });
}

/// Adds to `gx` of the map of a level.
pub(super) fn backward<T: Real>(
    op: &RoiAlign,
    level: usize,
    rois: &[T],
    gy: &[T],
    shape: Shape,
    gx: &mut [T],
) {
    let (size, [_, height, width, c]) = (op.size, shape.0);
    let rois: Vec<(usize, Roi<T>)> = rois
        .par_chunks_exact(ROI)
        .enumerate()
        .filter(|(_, roi)| group(roi)[1] == level)
        .map(|(r, roi)| (r, Roi::new(op, roi, |_| shape)))
        .collect();
    if rois.is_empty() {
        return;
    }
    chunks_mut(gx.len(), gx, width * c, |row, gx| {
        let (image, row) = (row / height, row % height);
        let first = rois.partition_point(|(_, roi)| roi.image < image);
        let of_image = rois[first..].iter().take_while(|(_, roi)| roi.image == image);
        scratch::with(size * c, |line: &mut [T]| {
            vectorise(
                #[inline(always)]
                || {
                    for (r, roi) in of_image.filter(|(_, roi)| roi.rows.span().contains(&row)) {
                        line.fill(T::zero());
                        for i in 0..size {
                            let a = roi.rows.weight(i, row);
                            if a > T::zero() {
                                add_scaled(line, a, &gy[(r * size + i) * size * c..]);
                            }
                        }
                        for (j, g) in line.chunks(c).enumerate() {
                            for (column, b) in roi.columns.bin(j) {
                                add_scaled(&mut gx[column * c..][..c], b, g);
                            }
                        }
                    }
                },
            );
        });
    });
}
