//! The relation score to be timed or counted.

use super::Teacher;
use crate::cx::Cx;
use crate::error::Result;
use crate::ops::Fill;
use crate::ops::check::values;
use crate::ops::work::{Ready, Work, kind, repeat};
use crate::tensor::{Meta, Tensor};

const TAU: f64 = 0.2;

/// A teacher's preparation, and a student's score against it, for features of these shapes.
pub fn work(teacher: Meta, student: Meta) -> [Work; 2] {
    [
        one("teacher", &[teacher], move |cx, seed| {
            let map = features(cx, teacher, seed)?;
            Ok(repeat(move |cx| Teacher::new(cx, &map, TAU).map(|_| Vec::new())))
        }),
        one("student", &[teacher, student], move |cx, seed| {
            let teacher = Teacher::new(cx, &features(cx, teacher, seed)?, TAU)?;
            let map = features(cx, student, seed + 1)?;
            Ok(repeat(move |cx| teacher.compare(cx, &map).map(|_| Vec::new())))
        }),
    ]
}

/// What reads `maps` once, and 12 bytes of each position besides. Half of a symmetric matrix is
/// multiplied.
fn one(
    name: &str,
    maps: &[Meta],
    prepare: impl Fn(&Cx, u64) -> Result<Ready> + Send + Sync + 'static,
) -> Work {
    let shapes: Vec<String> = maps.iter().map(|m| m.shape.to_string()).collect();
    let (shape, first) = (shapes.join(" "), maps[0]);
    let elems: usize = maps.iter().map(|m| m.shape.elems()).sum();
    let bytes: usize = maps.iter().map(Meta::size_bytes).sum();
    Work {
        name: format!("relation/{shape}/{name}/{}", kind(first.dtype)),
        op: "relation",
        bytes_floor: (bytes + 12 * first.shape.rows()) as u64,
        flops: (elems * (first.shape.positions() + 1)) as u64,
        shape,
        prepare: Box::new(prepare),
    }
}

fn features(cx: &Cx, meta: Meta, seed: u64) -> Result<Tensor> {
    cx.upload(meta.shape, meta.dtype, &values(meta.shape, Fill::Normal, seed))
}
