//! One axis of a RoI: which positions of a map its bins read, and with which weights.

use std::ops::Range;

use super::RoiAlign;
use crate::tensor::{Real, Shape};

/// Elements of a RoI.
pub(super) const ROI: usize = 6;
/// Greatest coordinate, in pixels: it bounds the samples of a bin.
pub(super) const MOST: f64 = (1 << 20) as f64;

/// A matrix of bins × positions, of which each row holds a few weights side by side.
pub(super) struct Axis<T> {
    /// For each bin the first position, and its weights' places in `weights`.
    bins: Vec<(usize, Range<usize>)>,
    weights: Vec<T>,
}

impl<T: Real> Axis<T> {
    /// From coordinate `from` to `to`, in pixels, on an axis of a map with `positions`.
    pub(super) fn new([from, to]: [T; 2], scale: f64, size: usize, positions: usize) -> Self {
        let (scale, half) = (T::of(scale), T::of(0.5));
        let start = from * scale - half;
        let bin = (to * scale - half - start) / T::of(size as f64);
        // None where the RoI ends where it begins or before.
        let samples = bin.ceil().to_usize().unwrap_or(0);
        let count = T::of(samples as f64);
        let mut axis = Self { bins: Vec::with_capacity(size), weights: Vec::new() };
        for i in 0..size {
            let begin = axis.weights.len();
            let mut first = 0;
            for sample in 0..samples {
                let at =
                    start + T::of(i as f64) * bin + (T::of(sample as f64) + half) * bin / count;
                if at < -T::one() || at > T::of(positions as f64) {
                    continue;
                }
                let at = at.max(T::zero());
                let low = at.to_usize().unwrap_or(0).min(positions - 1);
                let share = if low + 1 < positions { at - T::of(low as f64) } else { T::zero() };
                if axis.weights.len() == begin {
                    first = low;
                }
                for (position, weight) in [(low, T::one() - share), (low + 1, share)] {
                    if weight > T::zero() {
                        let place = begin + position - first;
                        axis.weights.resize(axis.weights.len().max(place + 1), T::zero());
                        axis.weights[place] += weight;
                    }
                }
            }
            axis.weights[begin..].iter_mut().for_each(|weight| *weight /= count);
            axis.bins.push((first, begin..axis.weights.len()));
        }
        axis
    }

    /// Positions of a bin with their weights.
    pub(super) fn bin(&self, i: usize) -> impl Iterator<Item = (usize, T)> {
        let (first, weights) = self.bins[i].clone();
        (first..).zip(self.weights[weights].iter().copied())
    }

    /// Weight of a position in a bin.
    pub(super) fn weight(&self, i: usize, position: usize) -> T {
        let (first, weights) = self.bins[i].clone();
        let at = position.checked_sub(first).filter(|at| *at < weights.len());
        at.map_or(T::zero(), |at| self.weights[weights.start + at])
    }

    /// From the first to the last position that any bin reads.
    pub(super) fn span(&self) -> Range<usize> {
        let read = self.bins.iter().filter(|(_, weights)| !weights.is_empty());
        let ends = read.map(|(first, weights)| (*first, first + weights.len()));
        let span = ends.reduce(|(a, b), (first, end)| (a.min(first), b.max(end)));
        span.map_or(0..0, |(first, end)| first..end)
    }
}

/// A RoI on the map of its level.
pub(super) struct Roi<T> {
    /// Image.
    pub image: usize,
    /// Level.
    pub level: usize,
    /// Along the map's rows.
    pub rows: Axis<T>,
    /// Along the map's columns.
    pub columns: Axis<T>,
}

/// Image and level of a RoI that was checked.
pub(super) fn group<T: Real>(roi: &[T]) -> [usize; 2] {
    [0, 1].map(|i| roi[i].to_usize().unwrap_or(0))
}

impl<T: Real> Roi<T> {
    /// Of `roi`, where `shape` says the shape of the map of a level.
    pub(super) fn new(op: &RoiAlign, roi: &[T], shape: impl Fn(usize) -> Shape) -> Self {
        let [image, level] = group(roi);
        let (scale, shape) = (op.scales[level], shape(level));
        let axis = |from, to, positions| Axis::new([roi[from], roi[to]], scale, op.size, positions);
        Self { image, level, rows: axis(3, 5, shape.h()), columns: axis(2, 4, shape.w()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(from: f64, to: f64, scale: f64, size: usize, positions: usize) -> Vec<Vec<f64>> {
        let axis = Axis::new([from, to], scale, size, positions);
        (0..size).map(|i| (0..positions).map(|p| axis.weight(i, p)).collect()).collect()
    }

    #[test]
    fn weights_are_those_of_the_samples() {
        // From −½ to 3½: samples at 0.5 and 2.5 of bins of two, at 0, 1, 2, 3.
        let expected = vec![vec![0.5, 0.5, 0.0, 0.0], vec![0.0, 0.0, 0.5, 0.5]];
        assert_eq!(matrix(0.0, 4.0, 1.0, 2, 4), expected);
        assert_eq!(matrix(0.0, 32.0, 0.125, 2, 4), expected);
        // Between positions; clamped before the first and behind the last; beyond, none.
        assert_eq!(matrix(1.25, 2.25, 1.0, 1, 4), vec![vec![0.0, 0.75, 0.25, 0.0]]);
        assert_eq!(matrix(-0.75, 0.25, 1.0, 1, 4), vec![vec![1.0, 0.0, 0.0, 0.0]]);
        assert_eq!(matrix(3.5, 4.5, 1.0, 1, 4), vec![vec![0.0, 0.0, 0.0, 1.0]]);
        assert_eq!(matrix(4.75, 5.75, 1.0, 1, 4), vec![vec![0.0; 4]]);
        assert_eq!(matrix(-2.0, -1.0, 1.0, 1, 4), vec![vec![0.0; 4]]);
        // Samples outside count in the mean.
        assert_eq!(matrix(-3.0, 1.0, 1.0, 1, 4), vec![vec![0.5, 0.0, 0.0, 0.0]]);
    }

    #[test]
    fn rois_without_size_have_no_samples() {
        for (from, to) in [(1.0, 1.0), (2.0, 1.0)] {
            let axis = Axis::new([from, to], 1.0, 3, 4);
            assert_eq!((axis.span(), axis.bin(1).count()), (0..0, 0));
        }
    }

    #[test]
    fn the_span_holds_all_bins() {
        let axis = Axis::new([2.0f32, 9.0], 1.0, 7, 20);
        assert_eq!(axis.span(), 2..9);
        for i in 0..7 {
            assert_eq!(axis.bin(i).map(|(_, w)| w).sum::<f32>(), 1.0);
            assert!(axis.bin(i).all(|(p, w)| axis.span().contains(&p) && axis.weight(i, p) == w));
        }
    }
}
