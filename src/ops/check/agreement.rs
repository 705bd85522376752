//! Results that must be the same on the context under test as elsewhere.

use super::*;

/// Most that results in f32 may differ from f64: ‖difference‖ / ‖f64‖.
const PRECISION: f64 = 1e-5;
/// The same for values kept in bf16, from inputs that bf16 holds exactly.
const PRECISION_BF16: f64 = 1e-2;
/// Schedules that are tried on a device; the first is the natural order.
const SCHEDULES: u64 = 4;

/// `dtype` on the context against f64 on the CPU.
pub(super) fn precision<O: Op>(case: &Case<O>, cx: &Cx, dtype: DType) -> Result<Outcome> {
    if cx.is_plan() {
        return Ok(Outcome::Skipped);
    }
    let cx = &cx.computing_in(dtype);
    let mut trial = Trial::new(case);
    trial.round_to(dtype).map_err(|e| e.to_string())?;
    // On the CPU operands alone are narrow, and hold what the reference's do.
    let dtype = cx.dtype();
    let reference = Cx::cpu(1).map_err(|e| e.to_string())?;
    let expected = trial.run(&reference, DType::F64, false)?;
    let found = trial.run(cx, dtype, false)?;
    let allowed = if dtype == DType::BF16 { PRECISION_BF16 } else { PRECISION };
    let compare = |what: &str, found: &[f64], expected: &[f64], dtype: DType| {
        if trial.is_whole() {
            let pairs = found.iter().zip(expected);
            // Sums are exact in f32; bf16 rounds them once.
            let exact = |e| if dtype == DType::BF16 { round(e, dtype) } else { e };
            let differ = pairs.filter(|(f, e)| **f != exact(**e)).count();
            let message = || format!("{what}: {differ} elements are not exact");
            return if differ == 0 { Ok(()) } else { Err(message()) };
        }
        let difference: Vec<f64> = found.iter().zip(expected).map(|(f, e)| f - e).collect();
        let relative = rms(&difference) / rms(expected).max(f64::MIN_POSITIVE);
        // Written so that NaN fails.
        if relative <= allowed || found == expected {
            return Ok(());
        }
        let ratio = format!("‖{dtype:?} − F64‖ / ‖F64‖ = {relative:e}");
        Err(format!("{what}: {ratio}, at most {allowed:e} allowed"))
    };
    let output = trial.announced(dtype).map_err(|e| e.to_string())?;
    compare("output", &found.y, &expected.y, output.dtype)?;
    for (i, (found, expected)) in found.grads.iter().zip(&expected.grads).enumerate() {
        if let (Some(found), Some(expected)) = (found, expected) {
            let dtype = case.inputs[i].grad_dtype(dtype);
            compare(&format!("gradient {i}"), found, expected, dtype)?;
        }
    }
    Ok(Outcome::Passed)
}

/// Gradients from nothing, and on top of something.
pub(super) fn accumulation<O: Op>(case: &Case<O>, cx: &Cx) -> Result<Outcome> {
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

/// On the CPU one thread and three; on a device several schedules, or the same twice where
/// it has no choice.
pub(super) fn order<O: Op>(case: &Case<O>, cx: &Cx) -> Result<Outcome> {
    let trial = Trial::new(case);
    let bits = |cx: &Cx, dtype| -> Result<Vec<Vec<u64>>> {
        let run = trial.run(cx, dtype, false)?;
        let all = [run.y].into_iter().chain(run.grads.into_iter().flatten());
        Ok(all.map(|x| x.into_iter().map(f64::to_bits).collect()).collect())
    };
    match cx.backend() {
        Backend::Plan => Ok(Outcome::Skipped),
        Backend::Cpu => {
            for dtype in [DType::F32, DType::BF16] {
                let run = |threads| {
                    let cx = Cx::cpu(threads).map_err(|e| e.to_string())?.computing_in(dtype);
                    bits(&cx, cx.dtype())
                };
                if run(1)? != run(3)? {
                    return Err(format!("{dtype:?}: results of 1 and of 3 threads differ"));
                }
            }
            Ok(Outcome::Passed)
        }
        Backend::Driver(_) => {
            for dtype in [DType::F32, DType::BF16] {
                let run = |cx: &Cx| bits(cx, dtype);
                on_schedules(cx, run).map_err(|e| format!("{dtype:?}: {e}"))?;
            }
            Ok(Outcome::Passed)
        }
    }
}

/// On a device, runs `run` in several schedules, or the same twice where it has no choice;
/// all must give the same bits. Skips contexts that are no devices.
pub fn on_schedules<B: PartialEq, E: std::fmt::Display>(
    cx: &Cx,
    run: impl Fn(&Cx) -> Result<B, E>,
) -> Result<Outcome> {
    let Backend::Driver(driver) = cx.backend() else { return Ok(Outcome::Skipped) };
    let natural = run(cx).map_err(|e| e.to_string())?;
    for seed in 1..SCHEDULES {
        driver.reschedule(seed);
        let shuffled = run(cx);
        driver.reschedule(0);
        if shuffled.map_err(|e| format!("schedule {seed}: {e}"))? != natural {
            return Err(format!("schedule {seed} gives other bits"));
        }
    }
    Ok(Outcome::Passed)
}
