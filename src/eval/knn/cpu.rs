//! Nearest neighbours in native code, by tiles of similarities.

use rayon::prelude::*;

use super::{Neighbour, Pair, nearer};
use crate::ops::gemm::{MatMut, MatRef, gemm};

/// Test images whose similarities are computed at a time.
pub(super) const TEST_TILE: usize = 256;
/// Training images whose similarities are computed at a time.
pub(super) const TRAIN_TILE: usize = 4096;

/// The nearest keys of each query, sorted.
pub(super) fn nearest(pair: &Pair) -> Vec<Vec<Neighbour>> {
    let (d, most) = (pair.dim, pair.most);
    let mut tile = vec![0.0f32; TEST_TILE * TRAIN_TILE];
    let mut all = Vec::with_capacity(pair.queries.len() / d);
    for queries in pair.queries.chunks(TEST_TILE * d) {
        let n = queries.len() / d;
        let mut best: Vec<Vec<Neighbour>> = vec![Vec::with_capacity(most + TRAIN_TILE); n];
        for (i, keys) in pair.keys.chunks(TRAIN_TILE * d).enumerate() {
            let m = keys.len() / d;
            let (queries, keys) = (MatRef::new(queries, n, d), MatRef::new(keys, m, d));
            gemm(1.0, queries, keys.t(), 0.0, MatMut::new(&mut tile[..n * m], n, m));
            best.par_iter_mut().zip(tile.par_chunks(m)).for_each(|(best, row)| {
                merge(best, row, i * TRAIN_TILE, most);
            });
        }
        best.iter_mut().for_each(Vec::shrink_to_fit);
        all.append(&mut best);
    }
    all
}

/// Keeps the `most` nearest of `best` (sorted) and a row of similarities to the training
/// images from `first` on.
fn merge(best: &mut Vec<Neighbour>, row: &[f32], first: usize, most: usize) {
    let bar = if best.len() == most { best.last().copied() } else { None };
    let all = row.iter().enumerate().map(|(j, &s)| (s, (first + j) as u32));
    best.extend(all.filter(|x| bar.is_none_or(|bar| nearer(x, &bar).is_lt())));
    if best.len() > most && most > 0 {
        best.select_nth_unstable_by(most - 1, nearer);
    }
    best.truncate(most);
    best.sort_unstable_by(nearer);
}
