//! Nearest neighbours in native code, by tiles of similarities.

use rayon::prelude::*;

use super::{Neighbour, Pair, nearer};
use crate::error::Result;
use crate::ops::gemm::{MatMut, MatRef, gemm};

/// Test images whose similarities are computed at a time.
pub(super) const TEST_TILE: usize = 256;
/// Training images whose similarities are computed at a time.
pub(super) const TRAIN_TILE: usize = 4096;

/// The nearest keys of each query, sorted. Keys are read once, as they may lie in a file.
pub(super) fn nearest(pair: &Pair) -> Result<Vec<Vec<Neighbour>>> {
    let (d, most) = (pair.dim, pair.most);
    let mut tile = vec![0.0f32; TEST_TILE * TRAIN_TILE];
    let mut all = vec![Vec::with_capacity(most); pair.queries.elems() / d];
    for (i, keys) in pair.keys.pieces(TRAIN_TILE * d).enumerate() {
        let keys = keys?;
        let m = keys.len() / d;
        let keys = MatRef::new(&keys, m, d);
        for (queries, best) in pair.queries.pieces(TEST_TILE * d).zip(all.chunks_mut(TEST_TILE)) {
            let (queries, n) = (queries?, best.len());
            let queries = MatRef::new(&queries, n, d);
            gemm(1.0, queries, keys.t(), 0.0, MatMut::new(&mut tile[..n * m], n, m));
            let rows = best.par_iter_mut().zip(tile.par_chunks(m));
            rows.for_each_init(Vec::new, |scratch, (best, row)| {
                merge(best, row, i * TRAIN_TILE, most, scratch);
            });
        }
    }
    Ok(all)
}

/// Keeps the `most` nearest of `best` (sorted) and a row of similarities to the training
/// images from `first` on.
fn merge(
    best: &mut Vec<Neighbour>,
    row: &[f32],
    first: usize,
    most: usize,
    scratch: &mut Vec<Neighbour>,
) {
    let bar = if best.len() == most { best.last().copied() } else { None };
    let all = row.iter().enumerate().map(|(j, &s)| (s, (first + j) as u32));
    scratch.clear();
    scratch.append(best);
    scratch.extend(all.filter(|x| bar.is_none_or(|bar| nearer(x, &bar).is_lt())));
    if scratch.len() > most && most > 0 {
        scratch.select_nth_unstable_by(most - 1, nearer);
    }
    scratch.truncate(most);
    scratch.sort_unstable_by(nearer);
    best.extend_from_slice(scratch);
}
