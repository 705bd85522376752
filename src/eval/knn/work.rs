//! Nearest neighbours, to be timed or counted.

use std::sync::Arc;

use super::kernels::Search;
use super::{Pair, cpu};
use crate::cx::Exec;
use crate::error::Result;
use crate::eval::store::Store;
use crate::ops::Fill;
use crate::ops::check::values;
use crate::ops::work::{Work, random, repeat};
use crate::tensor::{DType, Meta, Shape};

/// The `most` nearest of each of `n` queries among `m` keys, rows of length `dim` that lie on the
/// device already.
pub fn work([n, m, dim, most]: [usize; 4]) -> Work {
    let shape = format!("{most} of {m} for {n} of {dim}");
    Work {
        name: format!("knn/{shape}/forward/f32"),
        op: "knn",
        shape,
        // Of a neighbour are written 8 bytes.
        bytes_floor: (4 * (n + m) * dim + 8 * n * most) as u64,
        flops: (2 * n * m * dim) as u64,
        prepare: Box::new(move |cx, seed| -> Result<_> {
            let rows = |rows| Meta::new(Shape::matrix(rows, dim), DType::F32);
            if cx.is_device() {
                let queries = random(cx, rows(n), Fill::Normal, seed)?;
                let keys = random(cx, rows(m), Fill::Normal, seed + 1)?;
                return Ok(repeat(move |cx| {
                    let mut search = Search::new(cx, queries.clone(), m, most)?;
                    if let Exec::Device(launcher) = cx.exec("knn") {
                        search.add(&launcher, &keys)?;
                    }
                    Ok(vec![search.into_best()])
                }));
            }
            let both =
                [n, m].map(|n| Store::from(values(rows(n).shape, Fill::Normal, seed + n as u64)));
            let both = Arc::new(both);
            Ok(repeat(move |_| {
                let [queries, keys] = &*both;
                cpu::nearest(&Pair { queries, keys, dim, most })?;
                Ok(Vec::new())
            }))
        }),
    }
}
