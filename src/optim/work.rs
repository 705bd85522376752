//! Updates to be timed or counted.

use std::sync::{Arc, Mutex, PoisonError};

use super::checks::{Pass, State};
use crate::cx::Cx;
use crate::error::Result;
use crate::nn::ParamSpec;
use crate::ops::global_norm::norm;
use crate::ops::work::{Ready, Work};
use crate::tensor::Tensor;

/// What an update does to its state.
type Update = fn(&Cx, &mut State) -> Result<Vec<Tensor>>;

/// The optimizer's passes and the gradient's norm, for these parameters.
pub fn work(specs: &[ParamSpec]) -> Vec<Work> {
    let count = |specs: &mut dyn Iterator<Item = &ParamSpec>| -> u64 {
        specs.map(|s| s.shape.elems() as u64).sum()
    };
    let elems = count(&mut specs.iter());
    // Those that are read in bf16 where nets compute in it.
    let copied = count(&mut specs.iter().filter(|s| s.role.is_weight()));
    let shape = format!("{} tensors, {elems} elements", specs.len());
    let one = |name: &str, op, bytes_floor: u64, flops_each: u64, update: Update| {
        let specs = specs.to_vec();
        Work {
            name: format!("{op}/{shape}/{name}/f32"),
            op,
            shape: shape.clone(),
            bytes_floor,
            flops: flops_each * elems,
            prepare: Box::new(move |cx, _| prepare(State::new(cx, &specs)?, update)),
        }
    };
    vec![
        // Weight, momentum and gradient are read and written; the gradient is set to zero.
        one("update", "sgd", 24 * elems + 2 * copied, 6, |cx, s| run(cx, s, Pass::Update)),
        // LARS reads weight and gradient once more.
        one("lars", "sgd", 32 * elems + 2 * copied, 12, |cx, s| run(cx, s, Pass::Lars)),
        // The teacher is read and written, the weight read, the teacher's copy written.
        one("follow", "ema", 12 * elems + 2 * copied, 3, |cx, s| run(cx, s, Pass::Ema)),
        one("gradients", "global_norm", 4 * elems, 2, |cx, state| {
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
