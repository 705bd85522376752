//! Principal components: the two directions along which features differ most, for maps to look at.

use rayon::prelude::*;

use crate::ops::gemm::{MatMut, MatRef, gemm};
use crate::rng::{Philox, Purpose};

/// Turns of the power iteration at most, and the change at which it ends.
const MOST_TURNS: usize = 500;
const STILL: f64 = 1e-9;
/// Rows of a matrix that a thread takes at a time.
const MOST_ROWS: usize = 64;

/// Features by their first two principal components.
#[derive(Clone, Debug, PartialEq)]
pub struct Components {
    /// The part of the features' variance that lies along each.
    pub explained: [f64; 2],
    /// Where each row lies.
    pub places: Vec<[f64; 2]>,
}

/// Projects rows of `dim` numbers onto their first two principal components; the largest entry of a
/// component is positive, so that equal rows always give the same picture. Power iteration on the
/// covariance, whose start is fixed. None where the rows do not differ.
pub fn components(rows: &[f32], dim: usize) -> Option<Components> {
    let n = rows.len() / dim.max(1);
    if n < 2 {
        return None;
    }
    let mut means = vec![0.0f64; dim];
    for row in rows.chunks_exact(dim) {
        means.iter_mut().zip(row).for_each(|(mean, x)| *mean += f64::from(*x) / n as f64);
    }
    let centred = rows.iter().enumerate().map(|(i, x)| (f64::from(*x) - means[i % dim]) as f32);
    let centred: Vec<f32> = centred.collect();
    let mut products = vec![0.0f32; dim * dim];
    let x = MatRef::new(&centred, n, dim);
    gemm(1.0 / n as f32, x.t(), x, 0.0, MatMut::new(&mut products, dim, dim));
    let mut covariance: Vec<f64> = products.into_iter().map(f64::from).collect();
    let total: f64 = (0..dim).map(|i| covariance[i * dim + i]).sum();
    if !total.is_finite() || total <= 0.0 {
        return None;
    }
    let axes: [(f64, Vec<f64>); 2] = std::array::from_fn(|i| {
        let found = largest(&covariance, dim, i as u64);
        deflate(&mut covariance, &found);
        found
    });
    let along = |row: &[f32], axis: &[f64]| -> f64 {
        row.iter().zip(axis).map(|(x, a)| f64::from(*x) * a).sum()
    };
    let place = |row: &[f32]| axes.each_ref().map(|(_, axis)| along(row, axis));
    Some(Components {
        explained: axes.each_ref().map(|(variance, _)| (variance / total).clamp(0.0, 1.0)),
        places: centred.chunks_exact(dim).map(place).collect(),
    })
}

/// The largest eigenvalue of a symmetric matrix with its vector.
fn largest(matrix: &[f64], dim: usize, stream: u64) -> (f64, Vec<f64>) {
    let mut rng = Philox::new(0, Purpose::Subset, stream, 4);
    let mut axis: Vec<f64> = (0..dim).map(|_| f64::from(rng.normal())).collect();
    let mut value = 0.0;
    to_unit(&mut axis);
    for _ in 0..MOST_TURNS {
        let product = |row: &[f64]| row.iter().zip(&axis).map(|(a, b)| a * b).sum::<f64>();
        let rows = matrix.par_chunks_exact(dim).with_min_len(MOST_ROWS);
        let mut next: Vec<f64> = rows.map(product).collect();
        value = to_unit(&mut next);
        let change = next.iter().zip(&axis).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        axis = next;
        if change < STILL {
            break;
        }
    }
    let most = axis.iter().copied().fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a });
    if most < 0.0 {
        axis.iter_mut().for_each(|a| *a = -*a);
    }
    (value, axis)
}

/// Takes what lies along an axis away from a symmetric matrix.
fn deflate(matrix: &mut [f64], (value, axis): &(f64, Vec<f64>)) {
    for (row, a) in matrix.chunks_exact_mut(axis.len()).zip(axis) {
        row.iter_mut().zip(axis).for_each(|(x, b)| *x -= value * a * b);
    }
}

/// Gives a vector length 1 and returns the length it had; zeros stay.
fn to_unit(values: &mut [f64]) -> f64 {
    let norm = values.iter().map(|v| v * v).sum::<f64>().sqrt();
    if norm > 0.0 {
        values.iter_mut().for_each(|v| *v /= norm);
    }
    norm
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_directions_are_found() {
        // Along (3, 4)/5 with a deviation of 10, along (−4, 3)/5 with 2, along the third with 0.5.
        let mut rng = Philox::new(1, Purpose::Check, 0, 0);
        let mut at = Vec::new();
        let mut rows = Vec::new();
        for _ in 0..2000 {
            let (a, b, c) = (10.0 * rng.normal(), 2.0 * rng.normal(), 0.5 * rng.normal());
            at.push((a, b));
            rows.extend([0.6 * a - 0.8 * b + 5.0, 0.8 * a + 0.6 * b - 1.0, c]);
        }
        let found = components(&rows, 3).unwrap();
        let [first, second] = found.explained;
        assert!((first - 100.0 / 104.25).abs() < 0.01 && (second - 4.0 / 104.25).abs() < 0.01);
        let mean = |f: fn(&(f32, f32)) -> f32| at.iter().map(f).sum::<f32>() / 2000.0;
        let means = (mean(|x| x.0), mean(|x| x.1));
        for (place, (a, b)) in found.places.iter().zip(&at) {
            let far = |x: f64, y: f32| (x.abs() - f64::from(y.abs())).abs() > 0.4;
            assert!(!far(place[0], a - means.0) && !far(place[1], b - means.1), "{place:?}");
        }
        assert_eq!(components(&rows, 3).unwrap(), found);
    }

    #[test]
    fn rows_that_do_not_differ_have_none() {
        assert_eq!(components(&[1.0; 12], 3), None);
        assert_eq!(components(&[1.0; 3], 3), None);
        let line = components(&[0.0, 0.0, 1.0, 1.0, 2.0, 2.0], 2).unwrap();
        assert!((line.explained[0] - 1.0).abs() < 1e-6 && line.explained[1] < 1e-6);
    }
}
