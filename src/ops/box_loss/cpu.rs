//! Smooth L1 of boxes in native code. There are few of them: one thread has all.

use crate::error::{Error, Result};
use crate::tensor::Real;

/// Fails on a selected box that is not from −1 to below `boxes`.
pub(super) fn check(select: &[i32], boxes: usize) -> Result<()> {
    let is_box = |i: i32| i == -1 || usize::try_from(i).is_ok_and(|i| i < boxes);
    match select.iter().enumerate().find(|(_, i)| !is_box(**i)) {
        None => Ok(()),
        Some((row, wrong)) => Err(Error::data(format!(
            "expected selected boxes from 0 to below {boxes}, or -1 for none; found {wrong} in row \
             {row}"
        ))),
    }
}

/// Where the selected box of each row starts, where there is one.
fn selected(select: &[i32], width: usize) -> impl Iterator<Item = (usize, usize)> {
    let start =
        move |(row, i): (usize, &i32)| usize::try_from(*i).ok().map(|i| (row, row * width + 4 * i));
    select.iter().enumerate().filter_map(start)
}

/// Sum of the losses, in f64.
pub(super) fn loss<T: Real>(beta: f64, pred: &[T], targets: &[T], select: &[i32]) -> f64 {
    let width = pred.len() / select.len();
    let beta = T::of(beta);
    let deltas =
        selected(select, width).flat_map(|(row, at)| (0..4).map(move |i| (row * 4 + i, at + i)));
    let losses = deltas.map(|(target, at)| {
        let d = (pred[at] - targets[target]).abs();
        let half = T::of(0.5);
        if d < beta { half * d * d / beta } else { d - half * beta }
    });
    losses.map(T::f64).sum()
}

/// gx = g · ℓ′ of selected boxes, 0 of others.
pub(super) fn gradient<T: Real>(
    beta: f64,
    (pred, targets, select): (&[T], &[T], &[i32]),
    g: T,
    gx: &mut [T],
) {
    let beta = T::of(beta);
    gx.fill(T::zero());
    for (row, at) in selected(select, pred.len() / select.len()) {
        for i in at..at + 4 {
            let d = pred[i] - targets[row * 4 + i - at];
            let slope = match () {
                _ if d.abs() < beta => d / beta,
                _ if d == T::zero() => d,
                _ => d.signum(),
            };
            gx[i] = g * slope;
        }
    }
}
