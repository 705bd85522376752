//! Rows of maps in native code. There are few of them: one thread moves them.

use crate::error::{Error, Result};
use crate::tensor::Real;

/// Fails on an index that is not below `rows`, or is there twice.
pub(super) fn check(index: &[i32], rows: usize) -> Result<()> {
    let is_row = |i: &i32| usize::try_from(*i).is_ok_and(|i| i < rows);
    if let Some((at, wrong)) = index.iter().enumerate().find(|(_, i)| !is_row(i)) {
        return Err(Error::data(format!(
            "expected indices from 0 to below {rows}, the rows of all maps; found {wrong} at {at}"
        )));
    }
    let mut sorted = index.to_vec();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => {
            Err(Error::data(format!("expected each index once; found {} twice", pair[0])))
        }
        None => Ok(()),
    }
}

/// y from maps whose first rows are `starts`.
pub(super) fn forward<T: Real>(
    width: usize,
    starts: &[usize],
    maps: &[&[T]],
    index: &[i32],
    y: &mut [T],
) {
    for (y, i) in y.chunks_exact_mut(width).zip(index) {
        let i = *i as usize;
        let map = starts.partition_point(|start| *start <= i) - 1;
        y.copy_from_slice(&maps[map][(i - starts[map]) * width..][..width]);
    }
}

/// Adds the rows of `gy` that the map took part in to `gx`; its first row is `start`.
pub(super) fn backward<T: Real>(width: usize, start: usize, index: &[i32], gy: &[T], gx: &mut [T]) {
    let end = start + gx.len() / width;
    for (i, gy) in index.iter().zip(gy.chunks_exact(width)) {
        let i = *i as usize;
        if (start..end).contains(&i) {
            let gx = &mut gx[(i - start) * width..][..width];
            gx.iter_mut().zip(gy).for_each(|(gx, gy)| *gx += *gy);
        }
    }
}
