//! Conformance of the ops: every [`Case`] of every op goes through the same checks.
//!
//! - *finite differences*: backward in f64 agrees with central differences of forward;
//! - *precision*: f32 on the context under test agrees with f64 on the CPU, bit for bit where
//!   all inputs are whole numbers;
//! - *accumulation*: gradients add to what is in their slots;
//! - *threads*: the bits do not depend on the number of threads;
//! - *shapes*: the output is what was announced, in a memory plan too, and inputs that do not
//!   fit give errors, not panics.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::{Case, Check, Fill, Input, Op, Outcome};
use crate::device::{Backend, Cx};
use crate::error::Kind;
use crate::rng::{Philox, Purpose};
use crate::tape::Grad;
use crate::tensor::{DType, Meta, Shape, Tensor};

/// Least agreement of f32 with f64: ‖difference‖ / ‖f64‖.
const PRECISION: f64 = 1e-5;
/// Step of finite differences, for values around 1.
const STEP: f64 = 1e-6;
/// Most that finite differences may be off, as a share of the typical gradient.
const DIFFERENCE: f64 = 1e-6;
/// Elements of each input that are moved one at a time: most, and fewer for large outputs so
/// that no more than so many outputs are computed.
const SAMPLED: usize = 12;
const SAMPLED_OUTPUTS: usize = 400_000;

type Result<T = (), E = String> = std::result::Result<T, E>;

/// How many checks went how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Checks that passed.
    pub passed: usize,
    /// Checks that failed.
    pub failed: usize,
    /// Checks that do not apply to the context.
    pub skipped: usize,
}

/// Runs the checks of all ops whose name `wanted` lets through, on `cx`; `failure` is told
/// the name of each that fails, and why. A panic counts as a failure.
pub fn run_all(
    cx: &Cx,
    wanted: impl Fn(&str) -> bool,
    mut failure: impl FnMut(&str, &str),
) -> Summary {
    let mut summary = Summary::default();
    for (name, check) in super::registry().into_iter().filter(|(name, _)| wanted(name)) {
        match guarded(|| check(cx)) {
            Ok(Outcome::Passed) => summary.passed += 1,
            Ok(Outcome::Skipped) => summary.skipped += 1,
            Err(why) => {
                summary.failed += 1;
                failure(&name, &why);
            }
        }
    }
    summary
}

/// Turns a panic into an error.
fn guarded<R>(f: impl FnOnce() -> Result<R>) -> Result<R> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|cause| {
        let text = cause.downcast_ref::<String>().cloned();
        let text = text.or_else(|| cause.downcast_ref::<&str>().map(|s| s.to_string()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

/// Adds the checks of all cases of an op, named `op/case/check`.
pub fn add_cases<O: Op>(all: &mut Vec<(String, Check)>) {
    for case in O::cases() {
        let case = Arc::new(case);
        let mut add = |what: &str, check: fn(&Case<O>, &Cx) -> Result<Outcome>| {
            let name = format!("{}/{}/{what}", O::NAME, case.name);
            let case = case.clone();
            all.push((name, Box::new(move |cx: &Cx| check(&case, cx))));
        };
        if case.inputs.iter().any(|i| i.grad) {
            add("finite differences", finite_differences);
            add("accumulation", accumulation);
        }
        add("precision", precision);
        add("threads", threads);
        add("shapes", shapes);
    }
}

/// Values of an input, the same in f32 and f64: a function of `seed`.
pub fn values(shape: Shape, fill: Fill, seed: u64) -> Vec<f32> {
    let mut rng = Philox::new(seed, Purpose::Check, 0, 0);
    let n = shape.elems();
    match fill {
        Fill::Normal => (0..n).map(|_| rng.normal()).collect(),
        Fill::Uniform { lo, hi } => (0..n).map(|_| rng.range(lo as f32, hi as f32)).collect(),
        Fill::Integers { lo, hi } => {
            let width = (i64::from(hi) - i64::from(lo) + 1) as usize;
            (0..n).map(|_| lo as f32 + rng.below(width) as f32).collect()
        }
        Fill::Distinct => {
            let mut x: Vec<f32> = (1..=n)
                .map(|i| i as f32 * 4.0 / n as f32 * if rng.chance(0.5) { 1.0 } else { -1.0 })
                .collect();
            rng.shuffle(&mut x);
            x
        }
        Fill::UnitRows => {
            let mut x: Vec<f32> = (0..n).map(|_| rng.normal()).collect();
            for row in x.chunks_mut(shape.c().max(1)) {
                let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
                row.iter_mut().for_each(|x| *x /= norm);
            }
            x
        }
    }
}

/// An op with inputs to run it on: a case, or one changed.
struct Trial<'a, O> {
    op: &'a O,
    inputs: Vec<Input>,
    values: Vec<Vec<f32>>,
    /// Weights of the output in the scalar that is differentiated; `None`: random.
    weights: Option<Vec<f32>>,
}

/// An output and the gradients of the inputs that have one.
struct Run {
    y: Vec<f64>,
    weights: Vec<f32>,
    grads: Vec<Option<Vec<f64>>>,
}

impl<'a, O: Op> Trial<'a, O> {
    fn new(case: &'a Case<O>) -> Self {
        Self::with(&case.op, case.inputs.clone())
    }

    fn with(op: &'a O, inputs: Vec<Input>) -> Self {
        let value = |(i, input): (usize, &Input)| values(input.shape, input.fill, i as u64);
        let values = inputs.iter().enumerate().map(value).collect();
        Self { op, inputs, values, weights: None }
    }

    /// Whether sums are exact in f32.
    fn is_whole(&self) -> bool {
        self.inputs.iter().all(|i| matches!(i.fill, Fill::Integers { .. }))
    }

    fn weights(&self, y: Shape) -> Vec<f32> {
        let whole = Fill::Integers { lo: -3, hi: 3 };
        let fill = if self.is_whole() { whole } else { Fill::Normal };
        self.weights.clone().unwrap_or_else(|| values(y, fill, 1000))
    }

    /// What gradient `i` is added to, where it is added to something.
    fn prefill(&self, i: usize) -> Vec<f32> {
        values(self.inputs[i].shape, Fill::Integers { lo: -9, hi: 9 }, 2000 + i as u64)
    }

    /// Runs forward and backward. Gradients start from nothing or from [`Trial::prefill`].
    fn run(&self, cx: &Cx, dtype: DType, prefill: bool) -> Result<Run> {
        cx.install(|| self.run_inside(cx, dtype, prefill)).map_err(|e| e.to_string())
    }

    fn run_inside(&self, cx: &Cx, dtype: DType, prefill: bool) -> crate::Result<Run> {
        let upload = |(x, input): (&Vec<f32>, &Input)| cx.upload(input.shape, dtype, x);
        let tensors: Vec<Tensor> =
            self.values.iter().zip(&self.inputs).map(upload).collect::<crate::Result<_>>()?;
        let announced = self.announced(dtype)?;
        spoil(cx, tensors.iter().map(Tensor::meta).chain([announced]))?;
        let (y, saved) = self.op.forward(cx, &tensors.iter().collect::<Vec<_>>())?;
        expect(y.meta() == announced, || format!("made {:?}, announced {announced:?}", y.meta()))?;
        let values = read(cx, &y)?;
        let weights = self.weights(y.shape());
        let gy = cx.upload(y.shape(), dtype, &weights)?;
        drop(y);
        let slot = |(i, input): (usize, &Input)| {
            Ok(match (input.grad, prefill) {
                (false, _) => Grad::unwanted(),
                (true, false) => Grad::wanted(None),
                (true, true) => {
                    Grad::wanted(Some(cx.upload(input.shape, dtype, &self.prefill(i))?))
                }
            })
        };
        let mut slots: Vec<Grad> =
            self.inputs.iter().enumerate().map(slot).collect::<crate::Result<_>>()?;
        self.op.backward(cx, saved, gy, &mut slots)?;
        let mut grads = Vec::new();
        for (i, (slot, input)) in slots.into_iter().zip(&self.inputs).enumerate() {
            let grad = slot.into_value();
            let found = grad.as_ref().map(Tensor::meta);
            let wanted = input.grad.then(|| Meta::new(input.shape, dtype));
            expect(found == wanted, || format!("gradient {i} is {found:?}, wanted {wanted:?}"))?;
            grads.push(grad.map(|g| read(cx, &g)).transpose()?);
        }
        Ok(Run { y: values, weights, grads })
    }

    /// Shape and type of the output.
    fn announced(&self, dtype: DType) -> crate::Result<Meta> {
        let metas: Vec<Meta> = self.inputs.iter().map(|i| Meta::new(i.shape, dtype)).collect();
        self.op.infer(&metas)
    }

    /// The output in f64 with input `i` moved by `step` times a direction.
    fn moved(&self, cx: &Cx, i: usize, direction: &[f64], step: f64) -> Result<Vec<f64>> {
        let forward = || {
            let mut tensors = Vec::new();
            for (j, input) in self.inputs.iter().enumerate() {
                let mut t = cx.upload(input.shape, DType::F64, &self.values[j])?;
                if i == j {
                    let pairs = t.host_mut::<f64>().iter_mut().zip(direction);
                    pairs.for_each(|(x, d)| *x += step * d);
                }
                tensors.push(t);
            }
            let (y, _) = self.op.forward(cx, &tensors.iter().collect::<Vec<_>>())?;
            read(cx, &y)
        };
        cx.install(forward).map_err(|e: crate::Error| e.to_string())
    }
}

/// An error unless `ok`.
fn expect(ok: bool, message: impl FnOnce() -> String) -> crate::Result<()> {
    if ok { Ok(()) } else { Err(crate::Error::usage(message())) }
}

/// Leaves NaN in the buffers that the pool will hand out next, so that what an op reads
/// without having written it shows.
fn spoil(cx: &Cx, metas: impl Iterator<Item = Meta>) -> crate::Result<()> {
    let fill = |m: Meta| Ok([0, 1].map(|_| cx.full(m.shape, m.dtype, f64::NAN)));
    metas.map(fill).collect::<crate::Result<Vec<_>>>().map(drop)
}

/// All values of a tensor.
fn read(cx: &Cx, t: &Tensor) -> crate::Result<Vec<f64>> {
    match t.dtype() {
        DType::F64 if !cx.is_plan() => Ok(t.to_f64()),
        _ => Ok(cx.download(t)?.into_iter().map(f64::from).collect()),
    }
}

/// Root of the mean square.
fn rms(x: &[f64]) -> f64 {
    (x.iter().map(|x| x * x).sum::<f64>() / x.len().max(1) as f64).sqrt()
}

/// Backward in f64 against central differences of Σ weight·y: along a random direction and
/// for some elements alone.
fn finite_differences<O: Op>(case: &Case<O>, cx: &Cx) -> Result<Outcome> {
    if !matches!(cx.backend(), Backend::Cpu) {
        return Ok(Outcome::Skipped);
    }
    let mut trial = Trial::new(case);
    let inputs: Vec<usize> = (0..trial.inputs.len()).filter(|i| trial.inputs[*i].grad).collect();
    let signs = |i: usize| -> Vec<f64> {
        let mut rng = Philox::new(3000 + i as u64, Purpose::Check, 0, 0);
        let elems = case.inputs[i].shape.elems();
        (0..elems).map(|_| if rng.chance(0.5) { 1.0 } else { -1.0 }).collect()
    };
    let start = trial.run(cx, DType::F64, false)?;
    // Outputs that cross a kink on the way (of a ReLU, say) have no derivative to compare.
    let mut weights = start.weights.clone();
    for &i in &inputs {
        let [up, down] = [STEP, -STEP].map(|h| trial.moved(cx, i, &signs(i), h));
        let (up, down) = (up?, down?);
        for (j, y) in start.y.iter().enumerate() {
            let (right, left) = (up[j] - y, y - down[j]);
            if (right - left).abs() > 1e-3 * (right.abs() + left.abs()) + 1e-12 * (1.0 + y.abs()) {
                weights[j] = 0.0;
            }
        }
    }
    let kinks = weights.iter().zip(&start.weights).filter(|(w, s)| w != s).count();
    if kinks > 1 + start.y.len() / 50 {
        return Err(format!("{kinks} of {} outputs are not smooth", start.y.len()));
    }
    trial.weights = Some(weights);
    let start = trial.run(cx, DType::F64, false)?;
    for i in inputs {
        let grad = start.grads[i].as_deref().unwrap_or_default();
        compare_direction(&trial, cx, i, &signs(i), &start, grad)?;
        let mut rng = Philox::new(4000 + i as u64, Purpose::Check, 0, 0);
        let sampled = (SAMPLED_OUTPUTS / start.y.len()).clamp(2, SAMPLED);
        for at in rng.sample(grad.len(), sampled) {
            let mut one = vec![0.0; grad.len()];
            one[at] = 1.0;
            let moved = compare_direction(&trial, cx, i, &one, &start, grad);
            moved.map_err(|e| format!("element {at}: {e}"))?;
        }
    }
    Ok(Outcome::Passed)
}

/// The derivative along a direction against gradient · direction.
fn compare_direction<O: Op>(
    trial: &Trial<O>,
    cx: &Cx,
    i: usize,
    direction: &[f64],
    start: &Run,
    grad: &[f64],
) -> Result {
    let up = trial.moved(cx, i, direction, STEP)?;
    let down = trial.moved(cx, i, direction, -STEP)?;
    let weighted = |y: &[f64], j: usize| y[j] * f64::from(start.weights[j]);
    let change: f64 = (0..up.len()).map(|j| weighted(&up, j) - weighted(&down, j)).sum();
    let found = change / (2.0 * STEP);
    let expected: f64 = grad.iter().zip(direction).map(|(g, d)| g * d).sum();
    let moved = direction.iter().map(|d| d * d).sum::<f64>().sqrt();
    let size = (0..start.y.len()).map(|j| weighted(&start.y, j).powi(2)).sum::<f64>().sqrt();
    // The second term is the rounding of f64 in y.
    let allowed = DIFFERENCE * (expected.abs() + moved * rms(grad)) + 1e-14 * size / STEP;
    if (found - expected).abs() <= allowed {
        return Ok(());
    }
    Err(format!("gradient {i}: backward gives {expected:e}, differences {found:e} ± {allowed:e}"))
}

/// f32 on the context against f64 on the CPU.
fn precision<O: Op>(case: &Case<O>, cx: &Cx) -> Result<Outcome> {
    if cx.is_plan() {
        return Ok(Outcome::Skipped);
    }
    let trial = Trial::new(case);
    let reference = Cx::cpu(1).map_err(|e| e.to_string())?;
    let expected = trial.run(&reference, DType::F64, false)?;
    let found = trial.run(cx, DType::F32, false)?;
    let compare = |what: &str, found: &[f64], expected: &[f64]| {
        if trial.is_whole() {
            let differ = found.iter().zip(expected).filter(|(f, e)| f != e).count();
            let message = || format!("{what}: {differ} elements are not exact");
            return if differ == 0 { Ok(()) } else { Err(message()) };
        }
        let difference: Vec<f64> = found.iter().zip(expected).map(|(f, e)| f - e).collect();
        let relative = rms(&difference) / rms(expected).max(f64::MIN_POSITIVE);
        // Written so that NaN fails.
        if relative <= PRECISION || found == expected {
            return Ok(());
        }
        Err(format!("{what}: ‖f32 − f64‖ / ‖f64‖ = {relative:e}, at most {PRECISION:e} allowed"))
    };
    compare("output", &found.y, &expected.y)?;
    for (i, (found, expected)) in found.grads.iter().zip(&expected.grads).enumerate() {
        if let (Some(found), Some(expected)) = (found, expected) {
            compare(&format!("gradient {i}"), found, expected)?;
        }
    }
    Ok(Outcome::Passed)
}

/// Gradients from nothing, and on top of something.
fn accumulation<O: Op>(case: &Case<O>, cx: &Cx) -> Result<Outcome> {
    if cx.is_plan() {
        return Ok(Outcome::Skipped);
    }
    let trial = Trial::new(case);
    let alone = trial.run(cx, DType::F32, false)?;
    let sum = trial.run(cx, DType::F32, true)?;
    for (i, (alone, sum)) in alone.grads.iter().zip(&sum.grads).enumerate() {
        let (Some(alone), Some(sum)) = (alone, sum) else { continue };
        let prefill = trial.prefill(i);
        let size = 1.0 + rms(alone);
        for (j, (alone, sum)) in alone.iter().zip(sum).enumerate() {
            let before = f64::from(prefill[j]);
            let expected = before + alone;
            let allowed = PRECISION * (size + before.abs() + alone.abs());
            let kept = *alone != 0.0 || (sum - before).abs() <= 1e-6 * size;
            if !((sum - expected).abs() <= allowed && kept) {
                return Err(format!("gradient {i}, element {j}: {before} + {alone} gave {sum}"));
            }
        }
    }
    Ok(Outcome::Passed)
}

/// One thread and three.
fn threads<O: Op>(case: &Case<O>, cx: &Cx) -> Result<Outcome> {
    if !matches!(cx.backend(), Backend::Cpu) {
        return Ok(Outcome::Skipped);
    }
    let trial = Trial::new(case);
    let bits = |threads| -> Result<Vec<Vec<u64>>> {
        let cx = Cx::cpu(threads).map_err(|e| e.to_string())?;
        let run = trial.run(&cx, DType::F32, false)?;
        let all = [run.y].into_iter().chain(run.grads.into_iter().flatten());
        Ok(all.map(|x| x.into_iter().map(f64::to_bits).collect()).collect())
    };
    match bits(1)? == bits(3)? {
        true => Ok(Outcome::Passed),
        false => Err("results of 1 and of 3 threads differ".into()),
    }
}

/// A plan counts what a run takes; inputs that do not fit are errors.
fn shapes<O: Op>(case: &Case<O>, _: &Cx) -> Result<Outcome> {
    let text = |e: crate::Error| e.to_string();
    let (real, plan) = (Cx::cpu(1).map_err(text)?, Cx::plan().map_err(text)?);
    let trial = Trial::new(case);
    trial.run(&real, DType::F32, false)?;
    trial.run(&plan, DType::F32, false)?;
    if real.memory() != plan.memory() {
        return Err(format!("planned {:?} but took {:?}", plan.memory(), real.memory()));
    }
    let metas: Vec<Meta> = case.inputs.iter().map(|i| Meta::new(i.shape, DType::F32)).collect();
    let mut wrong = vec![metas[1..].to_vec(), [&metas[..], &metas[..1]].concat()];
    for i in 0..metas.len() {
        let mut mixed = metas.clone();
        mixed[i].dtype = DType::F64;
        wrong.extend((metas.len() > 1).then_some(mixed));
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

#[cfg(test)]
mod tests;
