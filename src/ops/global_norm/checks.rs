//! Norm and finite check on a device against the CPU.

use super::{all_finite, norm};
use crate::cx::Cx;
use crate::error::Result;
use crate::ops::check::{on_schedules, values};
use crate::ops::{Check, Fill, Outcome};
use crate::tensor::{DType, Shape, Tensor};

/// Lists of tensors whose norm is taken, by their sizes.
const SIZES: [(&str, &[usize]); 5] = [
    ("one element", &[1]),
    ("no multiple of the vector", &[7]),
    ("a whole chunk and one more", &[4096, 1, 4097]),
    ("several tensors", &[3, 64, 10_000, 5, 9001]),
    ("many tensors", &[65; 300]),
];

/// All checks, as (name, check). They skip the CPU, which they compare with.
pub fn checks() -> Vec<(String, Check)> {
    let mut all: Vec<(String, Check)> = Vec::new();
    for (name, sizes) in SIZES {
        all.push((format!("global_norm/{name}"), Box::new(|cx| against_cpu(cx, sizes))));
    }
    let one: Check = Box::new(|cx| on_schedules(cx, find_non_finite));
    all.push(("global_norm/values that are not finite".into(), one));
    let empty: Check = Box::new(|cx| {
        let none = cx.alloc(crate::tensor::Meta::new(Shape::vector(0), DType::F32));
        let refused = none.and_then(|none| norm(cx, [&none])).is_err();
        if refused { Ok(Outcome::Passed) } else { Err("took a tensor without elements".into()) }
    });
    all.push(("global_norm/empty tensor".into(), empty));
    all
}

fn upload(cx: &Cx, sizes: &[usize], poison: Option<(usize, f32)>) -> Result<Vec<Tensor>> {
    let mut all: Vec<Vec<f32>> = Vec::new();
    for (i, n) in sizes.iter().enumerate() {
        all.push(values(Shape::vector(*n), Fill::Normal, i as u64));
    }
    if let Some((i, value)) = poison {
        *all[i].last_mut().expect("no tensor is empty") = value;
    }
    all.iter().map(|x| cx.upload(Shape::vector(x.len()), DType::F32, x)).collect()
}

/// The norm to 1e-14, with large values among small, and counts of what is not finite.
fn against_cpu(cx: &Cx, sizes: &'static [usize]) -> Result<Outcome, String> {
    if !cx.is_device() {
        return Ok(Outcome::Skipped);
    }
    let last = sizes.len() - 1;
    let cpu = Cx::cpu(1).map_err(|e| e.to_string())?;
    for poison in [None, Some((last, 3e18)), Some((0, f32::NAN)), Some((last, f32::NEG_INFINITY))] {
        let run = |cx: &Cx| norm(cx, &upload(cx, sizes, poison)?);
        let expected = run(&cpu).map_err(|e| e.to_string())?;
        on_schedules(cx, |cx| {
            let found = run(cx)?;
            let close = if expected.value.is_finite() {
                (found.value - expected.value).abs() <= 1e-14 * expected.value
            } else {
                !found.value.is_finite()
            };
            if !close || found.non_finite != expected.non_finite {
                let message = format!("with {poison:?}: {found:?}, the CPU has {expected:?}");
                return Err(crate::Error::device(message));
            }
            Ok(vec![found.value.to_bits(), found.non_finite])
        })?;
    }
    Ok(Outcome::Passed)
}

/// One value at the start, in the middle or at the end, in both types.
fn find_non_finite(cx: &Cx) -> Result<()> {
    for dtype in [DType::F32, DType::BF16] {
        for n in [1, 5, 8, 4099] {
            let finite = vec![f32::MAX.sqrt(); n];
            let bad = [0, n / 2, n - 1].into_iter();
            let bad = bad.flat_map(|at| [(at, f32::NAN), (at, f32::INFINITY)]).map(Some);
            for bad in [None].into_iter().chain(bad) {
                let mut x = finite.clone();
                if let Some((at, value)) = bad {
                    x[at] = value;
                }
                let t = cx.upload(Shape::vector(n), dtype, &x)?;
                if all_finite(cx, &t)? != bad.is_none() {
                    let message = format!("{n} values of {dtype:?} with {bad:?}: seen wrong");
                    return Err(crate::Error::device(message));
                }
            }
        }
    }
    Ok(())
}
