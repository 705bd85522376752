//! Means of a queue's rows, to be timed or counted.

use crate::error::Result;
use crate::ops::Fill;
use crate::ops::work::{Work, kind, random, repeat};
use crate::tensor::{DType, Meta, Shape};

const TAU: f64 = 0.04;

/// `n` keys of length `dim` against a queue of `rows`.
pub fn work(rows: usize, n: usize, dim: usize, dtype: DType) -> Work {
    let shape = format!("{n}x{dim} against {rows}");
    let read = (n + rows) * dim * dtype.size_bytes();
    let written = n * (dim + 1) * dtype.accumulation().size_bytes();
    Work {
        name: format!("queue_mean/{shape}/forward/{}", kind(dtype)),
        op: "queue_mean",
        shape,
        bytes_floor: (read + written) as u64,
        // Logits, and the sum of rows, which is a second product.
        flops: 4 * (n * rows * dim) as u64,
        prepare: Box::new(move |cx, seed| -> Result<_> {
            let tensor = |rows, seed| {
                random(cx, Meta::new(Shape::matrix(rows, dim), dtype), Fill::UnitRows, seed)
            };
            let (keys, queue) = (tensor(n, 2 * seed)?, tensor(rows, 2 * seed + 1)?);
            Ok(repeat(move |cx| {
                let (mean, log_z) = super::mean(cx, &keys, &queue, TAU)?;
                Ok(vec![mean, log_z])
            }))
        }),
    }
}
