//! Correspondence, to be timed or counted.

use crate::error::Result;
use crate::ops::Fill;
use crate::ops::work::{Work, kind, random, repeat};
use crate::tensor::Meta;

/// A student's map against a teacher's.
pub fn work(student: Meta, teacher: Meta) -> Work {
    let shape = format!("{} {}", student.shape, teacher.shape);
    let (rows, channels) = (student.shape.rows(), student.shape.c().min(teacher.shape.c()));
    Work {
        name: format!("matching/{shape}/forward/{}", kind(student.dtype)),
        op: "matching",
        shape,
        bytes_floor: (rows * (2 * channels * student.dtype.size_bytes() + 4)) as u64,
        flops: 2 * (rows * student.shape.positions() * channels) as u64,
        prepare: Box::new(move |cx, seed| -> Result<_> {
            let student = random(cx, student, Fill::Normal, 2 * seed)?;
            let teacher = random(cx, teacher, Fill::Normal, 2 * seed + 1)?;
            Ok(repeat(move |cx| Ok(vec![super::nearest(cx, &student, &teacher)?])))
        }),
    }
}
