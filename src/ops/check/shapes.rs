//! Shapes: what is announced, planned and refused.

use super::*;
use crate::error::Kind;

/// A plan counts what a run takes; inputs that do not fit are errors.
pub(super) fn shapes<O: Op>(case: &Case<O>, _: &Cx) -> Result<Outcome> {
    let text = |e: crate::Error| e.to_string();
    let (real, plan) = (Cx::cpu(1).map_err(text)?, Cx::plan().map_err(text)?);
    let trial = Trial::new(case);
    trial.run(&real, DType::F32, false)?;
    trial.run(&plan, DType::F32, false)?;
    if real.memory() != plan.memory() {
        return Err(format!("planned {:?} but took {:?}", plan.memory(), real.memory()));
    }
    let meta = |i: &Input| Meta::new(i.shape, i.dtype(DType::F32));
    let metas: Vec<Meta> = case.inputs.iter().map(meta).collect();
    // An op may do without some of its inputs: the cases tell how few and how many it takes.
    let all = O::cases();
    let counts = all.iter().map(|case| case.inputs.len()).chain([metas.len()]);
    let (least, most) = counts.fold((usize::MAX, 0), |(a, b), n| (a.min(n), b.max(n)));
    let too_many = metas.iter().cycle().take(most + 1).copied().collect();
    let mut wrong = vec![metas[..least.saturating_sub(1)].to_vec(), too_many];
    // Ops that only compare types with each other would take integers for all.
    wrong.push(metas.iter().map(|m| Meta::new(m.shape, DType::I32)).collect());
    for i in 0..metas.len() {
        let mut mixed = metas.clone();
        mixed[i].dtype = DType::F64;
        let differs = case.inputs.iter().enumerate().any(|(j, other)| j != i && !other.index);
        wrong.extend(differs.then_some(mixed));
        let mut mistaken = metas.clone();
        mistaken[i].dtype = if case.inputs[i].index { DType::F32 } else { DType::I32 };
        wrong.push(mistaken);
        let mut empty = metas.clone();
        empty[i].shape.0[1] = 0;
        wrong.push(empty);
    }
    for metas in wrong {
        if guarded(|| Ok(case.op.infer(&metas)))?.is_ok() {
            return Err(format!("took wrong inputs: {metas:?}"));
        }
    }
    for (i, input) in case.inputs.iter().enumerate() {
        for d in 0..4 {
            for size in [input.shape.0[d] - 1, input.shape.0[d] + 1] {
                let mut inputs = case.inputs.clone();
                inputs[i].shape.0[d] = size;
                let changed = inputs[i].shape;
                let trial = Trial::with(&case.op, inputs);
                guarded(|| misfit(&trial, &real))
                    .map_err(|e| format!("input {i} of shape {changed}: {e}"))?;
            }
        }
    }
    Ok(Outcome::Passed)
}

/// Inputs that may not fit: where shapes are accepted the op must run on them, or say what is
/// wrong with the values.
fn misfit<O: Op>(trial: &Trial<O>, cx: &Cx) -> Result {
    if trial.announced(DType::F32).is_err() {
        return Ok(());
    }
    match cx.install(|| trial.run_inside(cx, DType::F32, false)) {
        Err(e) if e.kind() != Kind::Data => Err(e.to_string()),
        _ => Ok(()),
    }
}
