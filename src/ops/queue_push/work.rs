//! The ring buffer, to be timed or counted.

use std::sync::{Arc, Mutex, PoisonError};

use super::push;
use crate::error::Result;
use crate::ops::Fill;
use crate::ops::work::{Work, kind, random, repeat};
use crate::tensor::{DType, Meta, Shape};

/// `n` keys of length `dim` written over the oldest of `rows`. A device copies them: it launches
/// no kernel.
pub fn work(rows: usize, n: usize, dim: usize, dtype: DType) -> Work {
    let shape = format!("{n} of {rows}x{dim}");
    Work {
        name: format!("queue_push/{shape}/forward/{}", kind(dtype)),
        op: "queue_push",
        shape,
        bytes_floor: (2 * n.min(rows) * dim * dtype.size_bytes()) as u64,
        flops: 0,
        prepare: Box::new(move |cx, seed| -> Result<_> {
            let tensor =
                |rows| random(cx, Meta::new(Shape::matrix(rows, dim), dtype), Fill::Normal, seed);
            let (keys, queue) = (tensor(n)?, tensor(rows)?);
            let state = Arc::new(Mutex::new((queue, 0)));
            Ok(repeat(move |cx| {
                let (queue, pointer) = &mut *state.lock().unwrap_or_else(PoisonError::into_inner);
                *pointer = push(cx, queue, *pointer, &keys)?;
                Ok(Vec::new())
            }))
        }),
    }
}
