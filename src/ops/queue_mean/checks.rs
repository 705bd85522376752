//! Means of a queue's rows, on any context, against softmaxes that are written out.

use super::mean;
use crate::cx::Cx;
use crate::device::Backend;
use crate::error::Result;
use crate::ops::check::{on_schedules, values};
use crate::ops::{Check, Fill, Outcome};
use crate::tensor::{DType, Shape, Tensor};

/// Keys, their length, rows of the queue, and τ.
const CASES: [(&str, [usize; 3], f64); 6] = [
    ("short queue", [5, 16, 33], 0.2),
    ("one row, one key", [1, 7, 1], 0.2),
    ("several tiles", [9, 12, 300], 0.04),
    ("several strips and blocks", [131, 8, 4500], 0.07),
    ("several pieces", [3, 136, 70], 0.1),
    ("sharp", [6, 32, 70], 0.01),
];

/// All checks, as (name, check).
pub fn checks() -> Vec<(String, Check)> {
    let check = |(name, sizes, tau): (&str, [usize; 3], f64)| -> (String, Check) {
        let run = move |cx: &Cx| written_out(cx, sizes, tau);
        (format!("queue_mean/{name}"), Box::new(run))
    };
    let mut all: Vec<(String, Check)> = CASES.into_iter().map(check).collect();
    all.push(("queue_mean/misfits".into(), Box::new(refuses)));
    all
}

/// Keys and queue of unit length.
fn inputs(cx: &Cx, [n, d, k]: [usize; 3], dtype: DType) -> Result<[Tensor; 2]> {
    let rows = |n, seed| {
        let shape = Shape::matrix(n, d);
        cx.upload(shape, dtype, &values(shape, Fill::UnitRows, seed))
    };
    Ok([rows(n, 1)?, rows(k, 2)?])
}

/// f64 and f32 on the CPU, f32 and bf16 on devices; values as `dtype` holds them.
fn written_out(cx: &Cx, sizes: [usize; 3], tau: f64) -> Result<Outcome, String> {
    let types = match cx.backend() {
        Backend::Plan => return Ok(Outcome::Skipped),
        Backend::Cpu => [(DType::F64, 1e-12), (DType::F32, 1e-5)],
        Backend::Driver(_) => [(DType::F32, 1e-5), (DType::BF16, 1e-5)],
    };
    for (dtype, allowed) in types {
        let run = |cx: &Cx| -> Result<[Vec<f64>; 4]> {
            let [keys, queue] = inputs(cx, sizes, dtype)?;
            let (mean, log_z) = mean(cx, &keys, &queue, tau)?;
            let read = |t: &Tensor| match dtype {
                DType::F64 => Ok(t.to_f64()),
                _ => cx.download(t).map(|x| x.into_iter().map(f64::from).collect()),
            };
            Ok([read(&keys)?, read(&queue)?, read(&mean)?, read(&log_z)?])
        };
        let compared = |cx: &Cx| {
            let [keys, queue, mean, log_z] = run(cx).map_err(|e| e.to_string())?;
            let expected = softmaxes(&keys, &queue, sizes[1], tau);
            for (what, found, expected) in
                [("mean", &mean, &expected.0), ("log Z", &log_z, &expected.1)]
            {
                close(found, expected, allowed).map_err(|e| format!("{dtype:?}, {what}: {e}"))?;
            }
            Ok((mean, log_z))
        };
        compared(cx)?;
        on_schedules(cx, |cx| -> Result<_, String> { compared(cx) })?;
    }
    Ok(Outcome::Passed)
}

/// Means and logarithms of sums, one key after the other.
fn softmaxes(keys: &[f64], queue: &[f64], d: usize, tau: f64) -> (Vec<f64>, Vec<f64>) {
    let (mut means, mut log_z) = (Vec::new(), Vec::new());
    for key in keys.chunks(d) {
        let product = |row: &[f64]| key.iter().zip(row).map(|(a, b)| a * b).sum::<f64>();
        let logits: Vec<f64> = queue.chunks(d).map(|row| product(row) / tau).collect();
        let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = logits.iter().map(|l| (l - most).exp()).sum();
        log_z.push(total.ln() + most);
        let mut mean = vec![0.0; d];
        for (row, l) in queue.chunks(d).zip(&logits) {
            mean.iter_mut().zip(row).for_each(|(m, x)| *m += (l - most).exp() / total * x);
        }
        means.extend(mean);
    }
    (means, log_z)
}

/// ‖found − expected‖ is at most `allowed` of ‖expected‖.
fn close(found: &[f64], expected: &[f64], allowed: f64) -> Result<(), String> {
    let difference: f64 = found.iter().zip(expected).map(|(f, e)| (f - e).powi(2)).sum();
    let size: f64 = expected.iter().map(|e| e * e).sum();
    let relative = (difference / size).sqrt();
    // Written so that NaN fails.
    if found.len() == expected.len() && relative <= allowed {
        return Ok(());
    }
    Err(format!("off by {relative:e}, at most {allowed:e} allowed"))
}

fn refuses(cx: &Cx) -> Result<Outcome, String> {
    let run = || -> Result<Vec<bool>> {
        let matrix = |n, d| cx.zeros(Shape::matrix(n, d), DType::F32);
        let (keys, queue) = (matrix(2, 4)?, matrix(3, 4)?);
        let map = cx.zeros(Shape::nhwc(2, 1, 2, 4), DType::F32)?;
        let index = cx.upload_i32(Shape::matrix(3, 4), &[0; 12])?;
        let refused = [
            mean(cx, &keys, &matrix(3, 5)?, 0.1),
            mean(cx, &keys, &index, 0.1),
            mean(cx, &map, &queue, 0.1),
            mean(cx, &keys, &map, 0.1),
            mean(cx, &matrix(0, 4)?, &queue, 0.1),
            mean(cx, &keys, &queue, 0.0),
            mean(cx, &keys, &queue, f64::NAN),
        ];
        Ok(refused.into_iter().map(|r| r.is_err()).collect())
    };
    let refused = run().map_err(|e| e.to_string())?;
    if refused.iter().all(|r| *r) { Ok(Outcome::Passed) } else { Err(format!("{refused:?}")) }
}
