//! The optimizer on a device against the CPU: the same operations in the same order, so the
//! same bits; but for LARS's ratios, whose sums are in another order.

use half::bf16;

use super::{Exempt, Sgd, ema};
use crate::cx::Cx;
use crate::error::Result;
use crate::nn::{Gradients, Init, ParamSpec, Params, Role};
use crate::ops::check::{on_schedules, values};
use crate::ops::{Check, Fill, Outcome};
use crate::tensor::{DType, Shape, Tensor};

/// Parameters by their sizes; the kernel takes vectors of 4 and chunks of 4096.
const SIZES: [(&str, &[usize]); 4] = [
    ("one element", &[1]),
    ("no multiple of the vector", &[7, 3]),
    ("chunks", &[4096, 5, 9001, 64]),
    ("many tensors", &[33; 70]),
];
/// Rounds that are compared.
const STEPS: u64 = 3;

/// What is done in a round.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Pass {
    Update,
    Lars,
    Ema,
}

/// All checks, as (name, check). They skip the CPU, which they compare with.
pub fn checks() -> Vec<(String, Check)> {
    let mut all: Vec<(String, Check)> = Vec::new();
    for (name, sizes) in SIZES {
        for (what, pass) in [("sgd", Pass::Update), ("ema", Pass::Ema)] {
            let check: Check = Box::new(move |cx| against_cpu(cx, sizes, pass));
            all.push((format!("sgd/{name}/{what}"), check));
        }
        let check: Check = Box::new(move |cx| lars_against_cpu(cx, sizes));
        all.push((format!("sgd/{name}/lars"), check));
    }
    all.push(("sgd/empty and missing tensors".into(), Box::new(refuses)));
    all
}

/// Everything that a pass reads and writes.
pub(super) struct State {
    student: Params,
    teacher: Params,
    grads: Gradients,
    velocity: Vec<Tensor>,
}

/// Weights and scales of batch norms in turn, of so many elements.
fn specs(sizes: &[usize]) -> Vec<ParamSpec> {
    let one = |(i, n): (usize, &usize)| ParamSpec {
        name: format!("w{i}"),
        shape: Shape::vector(*n),
        role: if i % 2 == 0 { Role::Linear } else { Role::NormScale },
        init: Init::Constant(1.0),
    };
    sizes.iter().enumerate().map(one).collect()
}

impl State {
    pub(super) fn new(cx: &Cx, specs: &[ParamSpec]) -> Result<Self> {
        let fill = |seed: u64| -> Result<Vec<Tensor>> {
            let one = |(i, s): (usize, &ParamSpec)| {
                let values = values(s.shape, Fill::Normal, seed + i as u64);
                cx.upload(s.shape, DType::F32, &values)
            };
            specs.iter().enumerate().map(one).collect()
        };
        // Ready for bf16 on devices: weights have copies there, and batch norms' scales none.
        let cx = &match cx.is_device() {
            true => cx.computing_in(DType::BF16),
            false => cx.clone(),
        };
        let params = |seed: u64| -> Result<Params> {
            let mut params = Params::init(cx, specs, 0)?;
            params.values_mut().clone_from_slice(&fill(seed)?);
            params.ready(cx)
        };
        Ok(Self {
            student: params(1000)?,
            teacher: params(2000)?,
            grads: Gradients::zeros(cx, specs)?,
            velocity: fill(3000)?,
        })
    }

    pub(super) fn gradients(&self) -> impl Iterator<Item = &Tensor> {
        self.grads.all()
    }

    /// A round with gradients of its own.
    fn run(&mut self, cx: &Cx, pass: Pass, step: u64) -> Result<()> {
        for (i, g) in self.grads.all_mut().enumerate() {
            let values = values(g.shape(), Fill::Normal, 4000 + 100 * step + i as u64);
            *g = cx.upload(g.shape(), DType::F32, &values)?;
        }
        self.update(cx, pass)
    }

    /// The pass itself.
    pub(super) fn update(&mut self, cx: &Cx, pass: Pass) -> Result<()> {
        // A share that f32 does not hold exactly, as in training.
        let keep = 0.996;
        let Self { student, teacher, grads, velocity } = self;
        let sgd =
            Sgd { momentum: 0.9, weight_decay: 1e-4, exempt: Exempt::NormsAndBiases, trust: None };
        // Rates that differ, as those of a body and a head.
        let factors: Vec<f64> =
            (0..velocity.len()).map(|i| if i % 3 == 1 { 10.0 } else { 1.0 }).collect();
        match pass {
            Pass::Update => sgd.step(cx, student, grads, velocity, 0.03, &factors),
            Pass::Lars => {
                let lars = Sgd { trust: Some(1e-3), ..sgd };
                lars.step(cx, student, grads, velocity, 0.03, &factors)
            }
            Pass::Ema => ema(cx, teacher, student, keep),
        }
    }

    /// All values after it, as bits: student, teacher, gradients, momenta, then the copies.
    fn bits(&self, cx: &Cx) -> Result<Vec<Vec<u32>>> {
        let read = |t: &Tensor| -> Result<Vec<u32>> {
            Ok(cx.download(t)?.into_iter().map(f32::to_bits).collect())
        };
        let lists = [self.student.values(), self.teacher.values()].into_iter().flatten();
        let lists = lists.chain(self.grads.all()).chain(&self.velocity);
        let mut all: Vec<Vec<u32>> = lists.map(read).collect::<Result<_>>()?;
        let narrow = |t: &Tensor| -> Result<Vec<u32>> {
            let rounded = |x: f32| bf16::from_f32(x).to_f32().to_bits();
            Ok(cx.download(t)?.into_iter().map(rounded).collect())
        };
        // On the CPU, which has none, what copies should be.
        for params in [&self.student, &self.teacher] {
            for (i, spec) in params.specs().iter().enumerate() {
                if spec.role.is_weight() {
                    all.push(narrow(params.operand(i))?);
                }
            }
        }
        Ok(all)
    }
}

fn against_cpu(cx: &Cx, sizes: &'static [usize], pass: Pass) -> Result<Outcome, String> {
    let run = |cx: &Cx| -> Result<Vec<Vec<u32>>> {
        let mut state = State::new(cx, &specs(sizes))?;
        for step in 0..STEPS {
            state.run(cx, pass, step)?;
        }
        state.bits(cx)
    };
    if !cx.is_device() {
        return Ok(Outcome::Skipped);
    }
    let expected = Cx::cpu(1).and_then(|cpu| run(&cpu)).map_err(|e| e.to_string())?;
    on_schedules(cx, |cx| -> Result<Vec<Vec<u32>>, String> {
        let found = run(cx).map_err(|e| e.to_string())?;
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            if let Some(k) = (0..expected.len()).find(|&k| found.get(k) != Some(&expected[k])) {
                let list = ["weight", "teacher", "gradient", "momentum"];
                let list = list.get(i / sizes.len()).unwrap_or(&"copy");
                let what = format!("{list} {}, element {k}", i % sizes.len());
                let [found, expected] = [found[k], expected[k]].map(f32::from_bits);
                return Err(format!("{what}: {found:e}, the CPU has {expected:e}"));
            }
        }
        Ok(found)
    })
}

/// LARS's steps, which differ by the last digits of their ratios.
fn lars_against_cpu(cx: &Cx, sizes: &'static [usize]) -> Result<Outcome, String> {
    if !cx.is_device() {
        return Ok(Outcome::Skipped);
    }
    let run = |cx: &Cx| -> Result<Vec<Vec<u32>>> {
        let mut state = State::new(cx, &specs(sizes))?;
        for step in 0..STEPS {
            state.run(cx, Pass::Lars, step)?;
        }
        state.bits(cx)
    };
    let expected = Cx::cpu(1).and_then(|cpu| run(&cpu)).map_err(|e| e.to_string())?;
    on_schedules(cx, |cx| -> Result<Vec<Vec<u32>>, String> {
        let found = run(cx).map_err(|e| e.to_string())?;
        // Copies in bf16 may round the other way.
        for (i, (found, expected)) in found.iter().zip(&expected).take(4 * sizes.len()).enumerate()
        {
            for (found, expected) in found.iter().zip(expected) {
                let [found, expected] = [*found, *expected].map(f32::from_bits);
                if (found - expected).abs() > 1e-6 * expected.abs().max(1.0) {
                    return Err(format!("list {i}: {found:e}, the CPU has {expected:e}"));
                }
            }
        }
        Ok(found)
    })
}

/// Tensors that are empty, missing or of another shape are errors, on every context.
fn refuses(cx: &Cx) -> Result<Outcome, String> {
    let attempt = |sizes: &[usize], spoil: fn(&mut State)| -> Result<()> {
        let mut state = State::new(cx, &specs(sizes))?;
        spoil(&mut state);
        let State { student, grads, velocity, .. } = &mut state;
        let sgd = Sgd { momentum: 0.9, weight_decay: 0.0, exempt: Exempt::Nothing, trust: None };
        sgd.step(cx, student, grads, velocity, 0.1, &vec![1.0; sizes.len()])
    };
    attempt(&[3, 4], |_| {}).map_err(|e| e.to_string())?;
    for (what, result) in [
        ("an empty parameter", attempt(&[3, 0, 4], |_| {})),
        ("too few momenta", attempt(&[3, 4], |s| drop(s.velocity.pop()))),
        ("a missing gradient", attempt(&[3, 4], |s| s.grads.slots()[1] = None)),
        ("a momentum of another shape", attempt(&[3, 4], |s| s.velocity.swap(0, 1))),
    ] {
        if result.is_ok() {
            return Err(format!("took {what}"));
        }
    }
    Ok(Outcome::Passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_that_do_not_fit_are_refused_in_native_code_and_in_plans() {
        for cx in [Cx::for_tests(), Cx::plan().unwrap()] {
            assert_eq!(refuses(&cx), Ok(Outcome::Passed));
        }
    }
}
