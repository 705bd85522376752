//! Bilinear resizing, to be timed or counted.

use super::resize_bilinear;
use crate::error::Result;
use crate::ops::Fill;
use crate::ops::work::{Work, kind, random, repeat};
use crate::tensor::{Meta, Shape};

/// How many times larger a result is.
const SCALE: usize = 8;

/// Maps x `[N,H,W,C]` resized to eight times their size.
pub fn work(x: Meta) -> Work {
    let [n, h, w, c] = x.shape.0;
    let y = Shape::nhwc(n, SCALE * h, SCALE * w, c);
    let shape = format!("{} to {}x{}", x.shape, y.h(), y.w());
    Work {
        name: format!("resize_bilinear/{shape}/forward/{}", kind(x.dtype)),
        op: "resize_bilinear",
        shape,
        bytes_floor: (x.size_bytes() + Meta::new(y, x.dtype).size_bytes()) as u64,
        flops: 0,
        prepare: Box::new(move |cx, seed| -> Result<_> {
            let x = random(cx, x, Fill::Normal, seed)?;
            Ok(repeat(move |cx| Ok(vec![resize_bilinear(cx, &x, y.h(), y.w(), false)?])))
        }),
    }
}
