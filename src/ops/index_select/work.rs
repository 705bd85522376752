//! Images in another order, and rows by indices, to be timed or counted.

use crate::error::Result;
use crate::ops::Fill;
use crate::ops::work::{Work, kind, random, repeat};
use crate::rng::{Philox, Purpose};
use crate::tensor::{DType, Meta, Shape};

/// A batch x `[N,H,W,C]` shuffled, as the teacher's is.
pub fn work(x: Meta) -> Work {
    let n = x.shape.n();
    Work {
        name: format!("index_select/{}/forward/{}", x.shape, kind(x.dtype)),
        op: "index_select",
        shape: x.shape.to_string(),
        // Of each image it is read where it is and where it goes, two numbers of 4 bytes.
        bytes_floor: (2 * x.size_bytes() + 8 * n) as u64,
        flops: 0,
        prepare: Box::new(move |cx, seed| -> Result<_> {
            let images = random(cx, x, Fill::Normal, seed)?;
            let mut order: Vec<usize> = (0..n).collect();
            Philox::new(seed, Purpose::Check, 0, 0).shuffle(&mut order);
            Ok(repeat(move |cx| Ok(vec![super::rows(cx, &images, &order)?])))
        }),
    }
}

/// Each of `n` rows of length `d` taken once, as the teacher's dense embeddings are.
pub fn gather(n: usize, d: usize, dtype: DType) -> Work {
    let x = Meta::new(Shape::matrix(n, d), dtype);
    Work {
        name: format!("index_select/{}/gather/{}", x.shape, kind(dtype)),
        op: "index_select",
        shape: x.shape.to_string(),
        bytes_floor: (2 * x.size_bytes() + 4 * n) as u64,
        flops: 0,
        prepare: Box::new(move |cx, seed| -> Result<_> {
            let x = random(cx, x, Fill::Normal, seed)?;
            let mut order: Vec<i32> = (0..n as i32).collect();
            Philox::new(seed, Purpose::Check, 0, 0).shuffle(&mut order);
            let index = cx.upload_i32(Shape::matrix(n, 1), &order)?;
            Ok(repeat(move |cx| Ok(vec![super::gather(cx, &x, &index)?])))
        }),
    }
}
