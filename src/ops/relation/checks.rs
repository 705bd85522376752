//! The relation score on a device against f64 on the CPU.

use super::{MIN_TAU, Teacher};
use crate::cx::Cx;
use crate::error::Result;
use crate::ops::check::{on_schedules, values};
use crate::ops::{Check, Fill, Outcome};
use crate::tensor::{DType, Shape, Tensor};

/// Height, width, channels of teacher and student; tiles are of 128 by 64 positions, slices of
/// 32 channels.
const SIZES: [(&str, [usize; 4]); 10] = [
    ("one position", [1, 1, 4, 3]),
    ("less than a tile", [7, 7, 64, 40]),
    ("one tile", [8, 8, 24, 16]),
    ("whole tiles", [16, 16, 8, 32]),
    ("several tiles", [11, 13, 16, 24]),
    ("one position less than whole tiles", [1, 191, 8, 16]),
    ("no whole vectors", [9, 8, 7, 33]),
    ("a student without whole vectors", [9, 15, 16, 33]),
    ("several slices", [6, 5, 104, 72]),
    ("many positions", [19, 14, 8, 8]),
];

/// All checks, as (name, check). They skip the CPU, which they compare with.
pub fn checks() -> Vec<(String, Check)> {
    let check = |(name, sizes): (&str, [usize; 4])| -> (String, Check) {
        (format!("relation/{name}"), Box::new(move |cx| on_device(cx, |cx| against_cpu(cx, sizes))))
    };
    let mut checks: Vec<(String, Check)> = SIZES.into_iter().map(check).collect();
    let not_finite: Check = Box::new(|cx| on_device(cx, not_finite));
    checks.push(("relation/not finite".into(), not_finite));
    checks
}

fn on_device(cx: &Cx, check: impl Fn(&Cx) -> Result<(), String>) -> Result<Outcome, String> {
    if !cx.is_device() {
        return Ok(Outcome::Skipped);
    }
    check(cx).map(|()| Outcome::Passed)
}

/// Features of two images as nets make them: no value below 0, and a position of zeros.
fn features([h, w]: [usize; 2], c: usize, seed: u64) -> (Shape, Vec<f32>) {
    let shape = Shape::nhwc(2, h, w, c);
    let mut x = values(shape, Fill::Normal, seed);
    x.iter_mut().for_each(|x| *x = x.max(0.0));
    x[..c].fill(0.0);
    (shape, x)
}

/// f32 to 1e-5, bf16 to 1e-3, where the reference starts from unrounded values; the same bits
/// where the teacher was stored on the way.
fn against_cpu(cx: &Cx, [h, w, teacher, student]: [usize; 4]) -> Result<(), String> {
    let cpu = Cx::cpu(1).map_err(|e| e.to_string())?;
    let maps = |cx: &Cx, dtype| -> Result<[Tensor; 2]> {
        let map = |c, seed| {
            let (shape, x) = features([h, w], c, seed);
            cx.upload(shape, dtype, &x)
        };
        Ok([map(teacher, 1)?, map(student, 2)?])
    };
    let direct = |cx: &Cx, dtype, tau| -> Result<Vec<f64>> {
        let [teacher, student] = maps(cx, dtype)?;
        Teacher::new(cx, &teacher, tau)?.score(cx, &student)
    };
    let stored = |cx: &Cx, dtype, tau| -> Result<Vec<f64>> {
        let [teacher, student] = maps(cx, dtype)?;
        let numbers = Teacher::new(cx, &teacher, tau)?.numbers(cx)?;
        Teacher::from_numbers(cx, teacher.meta(), &numbers, tau)?.score(cx, &student)
    };
    for (dtype, allowed) in [(DType::F32, 1e-5), (DType::BF16, 1e-3)] {
        for tau in [MIN_TAU, 0.07, 0.2, 1.0] {
            let expected = direct(&cpu, DType::F64, tau).map_err(|e| e.to_string())?;
            let allowed = allowed * (0.2 / tau).max(1.0);
            on_schedules(cx, |cx| -> Result<Vec<f64>, String> {
                let found = direct(cx, dtype, tau).map_err(|e| e.to_string())?;
                for (found, expected) in found.iter().zip(&expected) {
                    // Written so that NaN fails.
                    let close = (found - expected).abs() <= allowed;
                    if !close {
                        let what = format!("{found}, the CPU has {expected} ± {allowed:e}");
                        return Err(format!("{dtype:?}, tau {tau}: {what}"));
                    }
                }
                if stored(cx, dtype, tau).map_err(|e| e.to_string())? != found {
                    return Err(format!("{dtype:?}, tau {tau}: other bits by a stored teacher"));
                }
                Ok(found)
            })?;
        }
    }
    Ok(())
}

/// A value that is not finite, of teacher or student, shows in the score of its image, and
/// of no other.
fn not_finite(cx: &Cx) -> Result<(), String> {
    for dtype in [DType::F32, DType::BF16] {
        for (map, value) in [(0, f32::NAN), (1, f32::NAN), (0, f32::INFINITY), (1, f32::INFINITY)] {
            let score = || -> Result<Vec<f64>> {
                let upload = |of| {
                    let (shape, mut x) = features([9, 8], 16, of);
                    if of == map {
                        x[70 * 16 + 3] = value;
                    }
                    cx.upload(shape, dtype, &x)
                };
                Teacher::new(cx, &upload(0)?, 0.2)?.score(cx, &upload(1)?)
            };
            let found = score().map_err(|e| e.to_string())?;
            if found[0].is_finite() || !found[1].is_finite() {
                return Err(format!("{dtype:?}, {value} in map {map}: scores {found:?}"));
            }
        }
    }
    Ok(())
}
