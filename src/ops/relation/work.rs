//! The relation score to be timed or counted.

use super::Teacher;
use crate::device::Cx;
use crate::error::Result;
use crate::ops::Fill;
use crate::ops::check::values;
use crate::ops::work::{Run, Work};
use crate::tensor::{DType, Shape, Tensor};

/// ResNet-50's second stage on a picture of 224×224, and that of a narrower student.
const TEACHER: Shape = Shape([1, 28, 28, 512]);
const STUDENT: Shape = Shape([1, 28, 28, 384]);
const TAU: f64 = 0.2;

/// A teacher's preparation and a student's score.
pub fn work() -> Vec<Work> {
    [DType::F32, DType::BF16]
        .into_iter()
        .flat_map(|dtype| [teacher(dtype), student(dtype)])
        .collect()
}

fn teacher(dtype: DType) -> Work {
    one("teacher", dtype, &[TEACHER], 12, move |cx| {
        let map = features(cx, TEACHER, dtype)?;
        Ok(Box::new(move |cx: &Cx| Teacher::new(cx, &map, TAU).map(drop)))
    })
}

fn student(dtype: DType) -> Work {
    one("student", dtype, &[TEACHER, STUDENT], 12, move |cx| {
        let teacher = Teacher::new(cx, &features(cx, TEACHER, dtype)?, TAU)?;
        let map = features(cx, STUDENT, dtype)?;
        Ok(Box::new(move |cx: &Cx| teacher.score(cx, &map).map(drop)))
    })
}

/// What reads `maps` once, and reads or writes `bytes` of each position. Half of a symmetric
/// matrix is multiplied.
fn one(
    name: &str,
    dtype: DType,
    maps: &[Shape],
    bytes: usize,
    prepare: impl Fn(&Cx) -> Result<Run> + Send + Sync + 'static,
) -> Work {
    let shapes: Vec<String> = maps.iter().map(Shape::to_string).collect();
    let elems: usize = maps.iter().map(Shape::elems).sum();
    let positions = TEACHER.positions();
    Work {
        name: format!("relation/stage 2/{name}/{}", format!("{dtype:?}").to_lowercase()),
        op: "relation",
        shape: shapes.join(" "),
        bytes_floor: (elems * dtype.size_bytes() + bytes * positions) as u64,
        flops: (elems * (positions + 1)) as u64,
        prepare: Box::new(prepare),
    }
}

fn features(cx: &Cx, shape: Shape, dtype: DType) -> Result<Tensor> {
    cx.upload(shape, dtype, &values(shape, Fill::Normal, shape.c() as u64))
}
