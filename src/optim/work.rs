//! Updates to be timed or counted.

use super::checks::{Pass, State};
use crate::device::Cx;
use crate::error::Result;
use crate::ops::norm::norm;
use crate::ops::work::{Run, Work};

/// Sizes of the parameters: a large one, and small ones as batch norms have.
const SIZES: [usize; 5] = [512 * 512, 64, 64, 1000, 3 * 64 * 49];

/// The optimizer's passes and the gradient's norm.
pub fn work() -> Vec<Work> {
    let elems: u64 = SIZES.iter().map(|n| *n as u64).sum();
    // Every other one is a weight, which has copies in bf16.
    let copied: u64 = SIZES.iter().step_by(2).map(|n| *n as u64).sum();
    let shape = format!("{} tensors, {elems} elements", SIZES.len());
    let one =
        |name: &str, op, bytes_floor: u64, flops_each: u64, prepare: fn(&Cx) -> Result<Run>| Work {
            name: format!("{name}/f32"),
            op,
            shape: shape.clone(),
            bytes_floor,
            flops: flops_each * elems,
            prepare: Box::new(prepare),
        };
    vec![
        // Weight, momentum and gradient are read and written; the gradient is set to zero.
        one("sgd/update", "sgd", 24 * elems + 2 * copied, 6, |cx| prepare(cx, Pass::Update)),
        // The teacher and its copy besides.
        one("sgd/update, ema", "sgd", 32 * elems + 4 * copied, 9, |cx| {
            prepare(cx, Pass::UpdateAndFollow)
        }),
        // The teacher is read and written, the weight read, the teacher's copy written.
        one("sgd/ema", "ema", 12 * elems + 2 * copied, 3, |cx| prepare(cx, Pass::Follow)),
        one("norm/gradients", "norm", 4 * elems, 2, |cx| {
            let state = State::new(cx, &SIZES)?;
            Ok(Box::new(move |cx| norm(cx, state.gradients()).map(drop)))
        }),
    ]
}

fn prepare(cx: &Cx, pass: Pass) -> Result<Run> {
    let mut state = State::new(cx, &SIZES)?;
    Ok(Box::new(move |cx| state.update(cx, pass)))
}
