//! Backward against differences of forward.

use super::trial::Run;
use super::*;

/// Step of finite differences, for values around 1.
const STEP: f64 = 1e-6;
/// Most that finite differences may be off, as a share of the typical gradient.
const DIFFERENCE: f64 = 1e-6;
/// Elements of each input that are moved one at a time: most, and fewer for large outputs so
/// that no more than so many outputs are computed.
const SAMPLED: usize = 12;
const SAMPLED_OUTPUTS: usize = 400_000;

/// Backward in f64 against central differences of Σ weight·y: along a random direction and
/// for some elements alone.
pub(super) fn finite_differences<O: Op>(case: &Case<O>, cx: &Cx) -> Result<Outcome> {
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
