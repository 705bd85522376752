//! CutMix to be timed or counted.

use super::Window;
use crate::error::Result;
use crate::ops::Fill;
use crate::ops::work::{Work, kind, random, repeat};
use crate::tensor::Meta;

/// A batch x `[N,H,W,C]`, of which a quarter of each image is its neighbour's.
pub fn work(x: Meta) -> Work {
    let [n, h, w, _] = x.shape.0;
    Work {
        name: format!("cut_mix/{}/forward/{}", x.shape, kind(x.dtype)),
        op: "cut_mix",
        shape: x.shape.to_string(),
        bytes_floor: (2 * x.size_bytes() + 4 * n) as u64,
        flops: 0,
        prepare: Box::new(move |cx, seed| -> Result<_> {
            let images = random(cx, x, Fill::Normal, seed)?;
            let partners: Vec<usize> = (0..n).map(|i| (i + 1) % n).collect();
            let window = Window { top: h / 4, left: w / 4, bottom: 3 * h / 4, right: 3 * w / 4 };
            Ok(repeat(move |cx| Ok(vec![super::cut_mix(cx, &images, &partners, &window)?])))
        }),
    }
}
