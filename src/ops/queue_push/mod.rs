//! The newest rows of a ring buffer. Not differentiated.

pub mod checks;
pub mod work;

use super::expect_float;
use crate::cx::{Cx, Exec};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Writes the rows of `keys` `[N,1,1,D]` over those of `queue` `[K,1,1,D]` from row `pointer` on,
/// around its end; returns the row after the last. Of more keys than rows only the last ones
/// stay. Fails on other shapes or types, and on a pointer that is no row.
pub fn push(cx: &Cx, queue: &mut Tensor, pointer: usize, keys: &Tensor) -> Result<usize> {
    let [rows, n] = [queue.shape().n(), keys.shape().n()];
    let dim = queue.shape().elems() / rows.max(1);
    if keys.shape().elems() != n * dim || keys.dtype() != queue.dtype() || pointer >= rows {
        return Err(Error::usage(format!(
            "queue_push: expected keys of {dim} elements of {:?} and a pointer below {rows}; \
             found {keys:?} and {pointer}",
            queue.dtype()
        )));
    }
    expect_float("the queue", &queue.meta())?;
    let skipped = n.saturating_sub(rows);
    let start = (pointer + skipped) % rows;
    // Up to the end, then from the beginning on.
    let first = (n - skipped).min(rows - start);
    let spans = [(start, skipped, first), (0, skipped + first, n - skipped - first)];
    for (to, from, count) in spans.map(|(to, from, n)| (to * dim, from * dim, n * dim)) {
        match cx.exec("queue_push") {
            _ if count == 0 => {}
            Exec::DryRun => {}
            Exec::Cpu => crate::dispatch!(queue.dtype(), T => {
                let (queue, keys) = (queue.host_mut::<T>(), keys.host::<T>());
                queue[to..to + count].copy_from_slice(&keys[from..from + count]);
            }),
            Exec::Device(launches) => {
                let size = queue.dtype().size_bytes();
                let (to, from) =
                    (queue.device_mut().offset(to * size), keys.device().offset(from * size));
                launches.driver.copy(to, from, count * size)?;
            }
        }
    }
    Ok((pointer + n) % rows)
}
