//! Views, to be timed or counted.

use std::sync::Arc;

use super::checks::image;
use super::{RgbImages, ViewFormat};
use crate::data::Image;
use crate::data::views::{ViewParams, Views};
use crate::error::Result;
use crate::ops::work::{Work, kind, repeat};

/// One view of each of `n` images, drawn by `settings`, of images twice as wide and high as a
/// view, about the size of photographs where views have 224 pixels a side. Bytes are all that is
/// counted of its least: filters of many widths, colours and orders of steps make arithmetic of no
/// fixed number.
pub fn work(settings: &Views, n: usize, format: ViewFormat) -> Work {
    let side = 2 * format.side;
    let settings = settings.clone();
    let draw = move |seed: u64| -> Vec<ViewParams> {
        (0..n as u64).map(|i| settings.draw(seed, i, 0, side, side)).collect()
    };
    let crops: usize = draw(0).iter().map(|view| 3 * view.crop.width * view.crop.height).sum();
    let out = n * format.side * format.side * format.channels * format.dtype.size_bytes();
    let shape = format!("{n}x{side}x{side}x3 to {0}x{0}x{1}", format.side, format.channels);
    Work {
        name: format!("augment/{shape}/forward/{}", kind(format.dtype)),
        op: "augment",
        shape,
        bytes_floor: (crops + out) as u64,
        flops: 0,
        prepare: Box::new(move |cx, seed| -> Result<_> {
            let images: Vec<Image> = (0..n).map(|i| image(i, (side, side))).collect();
            let (images, views) = (Arc::new(RgbImages::new(cx, images)?), draw(seed));
            let format = format.clone();
            Ok(repeat(move |cx| Ok(vec![images.views(cx, &views, &format)?])))
        }),
    }
}
