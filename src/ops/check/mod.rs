//! Conformance of the ops: every [`Case`] of every op goes through the same checks.
//!
//! - *finite differences*: backward in f64 agrees with central differences of forward;
//! - *f32*: the context under test agrees with f64 on the CPU, bit for bit where all inputs
//!   are whole numbers;
//! - *bf16*: the same on devices with values kept in bf16, and on the CPU with operands of
//!   products rounded to it;
//! - *accumulation*: gradients add to what is in their slots;
//! - *order*: the bits do not depend on the number of threads, nor, on devices, on the order
//!   in which threads run;
//! - *shapes*: the output is what was announced, in a memory plan too, and inputs that do not
//!   fit give errors, not panics.

mod agreement;
mod differences;
pub mod philox;
mod shapes;
mod trial;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

pub use agreement::on_schedules;
use agreement::{accumulation, order, precision};
use differences::finite_differences;
use shapes::shapes;
use trial::Trial;
pub use trial::{upload, values};

use super::{Case, Fill, Input, Op};
use crate::cx::Cx;
use crate::device::Backend;
use crate::error::panic_text;
use crate::rng::{Philox, Purpose};
use crate::tensor::{DType, Meta, Shape};

type Result<T = (), E = String> = std::result::Result<T, E>;

/// How a check ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Passed,
    /// The check does not apply to the context.
    Skipped,
}

/// A check of an op in one case: on a context, how it ended or why it failed.
pub type Check = Box<dyn Fn(&Cx) -> Result<Outcome> + Send + Sync>;

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

/// Runs those of `checks` whose name `wanted` lets through, on `cx`; `done` is told of each how
/// it ended. A panic counts as a failure.
pub fn run(
    cx: &Cx,
    checks: Vec<(String, Check)>,
    wanted: impl Fn(&str) -> bool,
    mut done: impl FnMut(&str, &Result<Outcome>),
) -> Summary {
    let mut summary = Summary::default();
    for (name, check) in checks.into_iter().filter(|(name, _)| wanted(name)) {
        let outcome = guarded(|| check(cx));
        match outcome {
            Ok(Outcome::Passed) => summary.passed += 1,
            Ok(Outcome::Skipped) => summary.skipped += 1,
            Err(_) => summary.failed += 1,
        }
        done(&name, &outcome);
    }
    summary
}

/// Turns a panic into an error.
fn guarded<R>(f: impl FnOnce() -> Result<R>) -> Result<R> {
    catch_unwind(AssertUnwindSafe(f))
        .unwrap_or_else(|cause| Err(format!("panic: {}", panic_text(cause.as_ref()))))
}

/// The checks of all cases of an op, named `op/case/check`.
pub fn of_cases<O: Op>() -> Vec<(String, Check)> {
    let mut all: Vec<(String, Check)> = Vec::new();
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
        add("f32", |case, cx| precision(case, cx, DType::F32));
        add("bf16", |case, cx| precision(case, cx, DType::BF16));
        add("order", order);
        add("shapes", shapes);
    }
    all
}

/// The nearest value that a type holds.
fn round(x: f64, dtype: DType) -> f64 {
    match dtype {
        DType::F64 | DType::I32 => x,
        DType::F32 => f64::from(x as f32),
        DType::BF16 => f64::from(half::bf16::from_f64(x).to_f32()),
    }
}

/// Root of the mean square.
fn rms(x: &[f64]) -> f64 {
    (x.iter().map(|x| x * x).sum::<f64>() / x.len().max(1) as f64).sqrt()
}

#[cfg(test)]
mod tests;
