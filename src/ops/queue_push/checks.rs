//! The ring buffer, row by row, on any context.

use super::push;
use crate::cx::Cx;
use crate::device::Backend;
use crate::error::Result;
use crate::ops::{Check, Outcome};
use crate::tensor::{DType, Shape};

/// Rows of the queue, rows pushed at a time, and columns.
const SIZES: [(&str, usize, usize, usize); 4] = [
    ("around the end", 5, 3, 2),
    ("one row", 1, 1, 8),
    ("as many keys as rows", 4, 4, 3),
    ("more keys than rows", 3, 7, 5),
];

/// All checks, as (name, check).
pub fn checks() -> Vec<(String, Check)> {
    let check = |(name, rows, n, dim): (&str, usize, usize, usize)| -> (String, Check) {
        (format!("queue_push/{name}"), Box::new(move |cx| holds_the_newest(cx, rows, n, dim)))
    };
    let mut all: Vec<(String, Check)> = SIZES.into_iter().map(check).collect();
    all.push(("queue_push/misfits".into(), Box::new(refuses)));
    all
}

fn holds_the_newest(cx: &Cx, rows: usize, n: usize, dim: usize) -> Result<Outcome, String> {
    let types = match cx.backend() {
        Backend::Plan => return Ok(Outcome::Skipped),
        Backend::Cpu => &[DType::F32][..],
        Backend::Driver(_) => &[DType::F32, DType::BF16],
    };
    for dtype in types {
        let run = || -> Result<Option<String>> {
            let mut expected = vec![-1.0; rows * dim];
            let mut queue = cx.upload(Shape::matrix(rows, dim), *dtype, &expected)?;
            let (mut pointer, mut next) = (0, 0);
            for step in 0..4 {
                // Small whole numbers, which all types hold.
                let keys: Vec<f32> = (0..n * dim).map(|i| (step * 60 + i) as f32).collect();
                for row in keys.chunks(dim) {
                    expected[next * dim..][..dim].copy_from_slice(row);
                    next = (next + 1) % rows;
                }
                let keys = cx.upload(Shape::matrix(n, dim), *dtype, &keys)?;
                pointer = push(cx, &mut queue, pointer, &keys)?;
                let found = cx.download(&queue)?;
                if found != expected || pointer != next {
                    let message = format!("{dtype:?}, step {step}: {found:?} at {pointer}");
                    return Ok(Some(format!("{message}, expected {expected:?} at {next}")));
                }
            }
            Ok(None)
        };
        match run() {
            Ok(None) => {}
            Ok(Some(why)) => return Err(why),
            Err(e) => return Err(e.to_string()),
        }
    }
    Ok(Outcome::Passed)
}

fn refuses(cx: &Cx) -> Result<Outcome, String> {
    let run = || -> Result<[bool; 2]> {
        let mut queue = cx.zeros(Shape::matrix(4, 3), DType::F32)?;
        let [wide, fitting] = [4, 3].map(|dim| cx.zeros(Shape::matrix(2, dim), DType::F32));
        let wide = push(cx, &mut queue, 0, &wide?).is_err();
        Ok([wide, push(cx, &mut queue, 4, &fitting?).is_err()])
    };
    match run().map_err(|e| e.to_string())? {
        [true, true] => Ok(Outcome::Passed),
        refused => Err(format!("wide keys, pointer beyond the end: refused {refused:?}")),
    }
}
