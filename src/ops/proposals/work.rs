//! Proposals, to be timed or counted.

use super::{Level, propose};
use crate::error::Result;
use crate::geometry::{Anchors, Coder, ProposalSettings};
use crate::ops::Fill;
use crate::ops::work::{Work, random, repeat};
use crate::tensor::{DType, Meta, Shape};

/// Height and width of the first of two levels, and anchors of a position.
const LEVEL: [usize; 2] = [24, 32];
const RATIOS: [f64; 3] = [0.5, 1.0, 2.0];

/// Proposals of `images` images on two levels.
pub fn work(images: usize) -> Work {
    let anchors: Vec<Anchors> = [0, 1]
        .map(|level| {
            Anchors::new(8 << level, &[(32 << level) as f64], &RATIOS, LEVEL.map(|s| s >> level))
        })
        .to_vec();
    let settings = ProposalSettings { pre: 768, post: 500, nms: 0.7, coder: Coder::RPN };
    let all: usize = anchors.iter().map(Anchors::len).sum();
    let chosen: usize = anchors.iter().map(|a| a.len().min(settings.pre)).sum();
    let shape = format!("{} of {chosen} of {images}x{all}", settings.post);
    // Logits, the deltas of those that are considered, and boxes.
    let elems = images * (all + 4 * chosen + 4 * settings.post);
    Work {
        name: format!("proposals/{shape}/forward/f32"),
        op: "proposals",
        shape,
        bytes_floor: (elems * DType::F32.size_bytes()) as u64,
        flops: 0,
        prepare: Box::new(move |cx, seed| -> Result<_> {
            let tensor = |of: &Anchors, level: usize, each: usize| {
                let [h, w] = LEVEL.map(|s| s >> level);
                let shape = Shape::nhwc(images, h, w, each * of.per_position());
                random(cx, Meta::new(shape, DType::F32), Fill::Normal, seed + each as u64)
            };
            let said = |(i, a): (usize, &Anchors)| Ok([tensor(a, i, 1)?, tensor(a, i, 4)?]);
            let outputs = anchors.iter().enumerate().map(said).collect::<Result<Vec<_>>>()?;
            let anchors = anchors.clone();
            Ok(repeat(move |cx| {
                let pairs = anchors.iter().zip(&outputs);
                let levels: Vec<Level> = pairs
                    .map(|(anchors, [logits, deltas])| Level { anchors, logits, deltas })
                    .collect();
                let sizes = vec![LEVEL.map(|s| (8 * s) as f32); images];
                Ok(vec![propose(cx, &levels, &sizes, &settings)?])
            }))
        }),
    }
}
