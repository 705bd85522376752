//! The relation score on a device against f64 on the CPU.

use super::{MIN_TAU, Teacher};
use crate::device::Cx;
use crate::error::Result;
use crate::ops::check::{on_schedules, values};
use crate::ops::{Check, Fill, Outcome};
use crate::tensor::{DType, Shape};

/// Height, width, channels of teacher and student; tiles are of 64 or 128 positions, slices of
/// 32 channels.
const SIZES: [(&str, [usize; 4]); 6] = [
    ("one position", [1, 1, 4, 3]),
    ("less than a tile", [7, 7, 64, 40]),
    ("several tiles", [11, 13, 16, 24]),
    ("no whole vectors", [9, 8, 7, 33]),
    ("several slices", [6, 5, 104, 72]),
    ("many positions", [19, 14, 8, 8]),
];

/// All checks, as (name, check). They skip the CPU, which they compare with.
pub fn checks() -> Vec<(String, Check)> {
    let check = |(name, sizes): (&str, [usize; 4])| -> (String, Check) {
        (format!("relation/{name}"), Box::new(move |cx| against_cpu(cx, sizes)))
    };
    SIZES.into_iter().map(check).collect()
}

/// f32 to 1e-5, bf16 to 1e-3, where the reference starts from unrounded values; also where the
/// teacher was stored on the way.
fn against_cpu(cx: &Cx, [h, w, teacher, student]: [usize; 4]) -> Result<Outcome, String> {
    if !cx.is_device() {
        return Ok(Outcome::Skipped);
    }
    let cpu = Cx::cpu(1).map_err(|e| e.to_string())?;
    for (dtype, allowed) in [(DType::F32, 1e-5), (DType::BF16, 1e-3)] {
        for tau in [MIN_TAU, 0.07, 0.2, 1.0] {
            let run = |cx: &Cx, dtype| -> Result<Vec<f64>> {
                let map = |c: usize, seed| {
                    let shape = Shape::nhwc(2, h, w, c);
                    // No value below 0, as nets make them, and a position of zeros.
                    let mut x = values(shape, Fill::Normal, seed);
                    x.iter_mut().for_each(|x| *x = x.max(0.0));
                    x[..c].fill(0.0);
                    cx.upload(shape, dtype, &x)
                };
                let teacher = Teacher::new(cx, &map(teacher, 1)?)?;
                let stored = teacher.normalised(cx)?;
                let stored = match dtype {
                    DType::F64 => stored,
                    _ => cx.upload(stored.shape(), dtype, &cx.download(&stored)?)?,
                };
                let student = map(student, 2)?;
                let mut scores = teacher.score(cx, &student, tau)?;
                scores.extend(Teacher::from_normalised(stored).score(cx, &student, tau)?);
                Ok(scores)
            };
            let expected = run(&cpu, DType::F64).map_err(|e| e.to_string())?;
            let allowed = allowed * (0.2 / tau).max(1.0);
            on_schedules(cx, |cx| -> Result<Vec<u64>, String> {
                let found = run(cx, dtype).map_err(|e| e.to_string())?;
                for (found, expected) in found.iter().zip(&expected) {
                    // Written so that NaN fails.
                    let close = (found - expected).abs() <= allowed;
                    if !close {
                        let what = format!("{found}, the CPU has {expected} ± {allowed:e}");
                        return Err(format!("{dtype:?}, tau {tau}: {what}"));
                    }
                }
                Ok(found.into_iter().map(f64::to_bits).collect())
            })?;
        }
    }
    Ok(Outcome::Passed)
}
