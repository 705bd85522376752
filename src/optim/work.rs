//! Updates to be timed or counted.

use std::sync::{Arc, Mutex, PoisonError};

use super::checks::{Pass, State};
use crate::device::Cx;
use crate::error::Result;
use crate::ops::norm::norm;
use crate::ops::work::{Ready, Work};
use crate::tensor::Tensor;

/// What an update does to its state.
type Update = fn(&Cx, &mut State) -> Result<Vec<Tensor>>;

/// The optimizer's passes and the gradient's norm, for parameters of so many elements each.
pub fn work(sizes: &[usize]) -> Vec<Work> {
    let elems: u64 = sizes.iter().map(|n| *n as u64).sum();
    let shape = format!("{} tensors, {elems} elements", sizes.len());
    let one = |name: &str, op, bytes_each: u64, flops_each: u64, update: Update| {
        let sizes = sizes.to_vec();
        Work {
            name: format!("{op}/{shape}/{name}/f32"),
            op,
            shape: shape.clone(),
            bytes_floor: bytes_each * elems,
            flops: flops_each * elems,
            prepare: Box::new(move |cx, _| prepare(State::new(cx, &sizes)?, update)),
        }
    };
    vec![
        // Weight, momentum and gradient are read and written; the gradient is set to zero.
        one("update", "sgd", 24, 6, |cx, state| run(cx, state, Pass::Update)),
        // The teacher besides, and two copies of 2 bytes.
        one("update, ema, copies", "sgd", 36, 9, |cx, s| run(cx, s, Pass::UpdateAndFollow)),
        // The teacher is read and written, the weight read, the teacher's copy written.
        one("copies", "ema", 14, 3, |cx, state| run(cx, state, Pass::Follow)),
        one("gradients", "norm", 4, 2, |cx, state| {
            norm(cx, state.gradients())?;
            Ok(Vec::new())
        }),
    ]
}

fn run(cx: &Cx, state: &mut State, pass: Pass) -> Result<Vec<Tensor>> {
    state.update(cx, pass)?;
    Ok(Vec::new())
}

fn prepare(state: State, update: Update) -> Result<Ready> {
    let state = Arc::new(Mutex::new(state));
    Ok(Box::new(move |_| {
        let state = state.clone();
        Ok(Box::new(move |cx| {
            update(cx, &mut state.lock().unwrap_or_else(PoisonError::into_inner))
        }))
    }))
}
