//! Cross-entropy in native code.

use crate::error::{Error, Result};
use crate::ops::passes::{chunks_mut, exp_in_place, max, vectorise};
use crate::tensor::Real;

/// Fails on a label that is not from 0 to below `classes`.
pub(super) fn check_labels(labels: &[i32], classes: usize) -> Result<()> {
    for (row, label) in labels.iter().enumerate() {
        if usize::try_from(*label).is_ok_and(|label| label < classes) {
            continue;
        }
        return Err(Error::data(format!(
            "expected labels from 0 to below {classes}, the number of classes; found {label} in \
             row {row}"
        )));
    }
    Ok(())
}

/// Overwrites a row of logits by exp(logit − max); returns the maximum and the sum.
#[inline(always)]
fn exp_row<T: Real>(row: &mut [T]) -> (T, T) {
    let most = max(row);
    (most, exp_in_place(row, most, T::one()))
}

/// weight · the mean loss of the rows.
pub(super) fn loss<T: Real>(weight: f64, c: usize, logits: &[T], labels: &[i32]) -> T {
    let mut losses = vec![0.0; labels.len()];
    chunks_mut(logits.len(), &mut losses, 1, |i, loss| {
        let mut row = logits[i * c..][..c].to_vec();
        let label = row[labels[i] as usize];
        let (most, sum) = vectorise(
            #[inline(always)]
            || exp_row(&mut row),
        );
        loss[0] = sum.f64().ln() - (label - most).f64();
    });
    T::of(weight * losses.iter().sum::<f64>() / labels.len() as f64)
}

/// gx = g/N · (softmax − one-hot label).
pub(super) fn gradient<T: Real>(c: usize, logits: &[T], labels: &[i32], g: T, gx: &mut [T]) {
    let weight = g / T::of(labels.len() as f64);
    chunks_mut(logits.len(), gx, c, |i, gx| {
        vectorise(
            #[inline(always)]
            || {
                gx.copy_from_slice(&logits[i * c..][..c]);
                let (_, sum) = exp_row(gx);
                for p in gx.iter_mut() {
                    *p = *p / sum * weight;
                }
            },
        );
        gx[labels[i] as usize] -= weight;
    });
}
