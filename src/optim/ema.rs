//! The teacher's moving average.

use rayon::prelude::*;

use super::{expect_alike, kernels};
use crate::cx::{Cx, Exec};
use crate::error::Result;
use crate::nn::Params;
use crate::ops::CHUNK;
use crate::tensor::Real;

/// The teacher's moving average: θt ← m·θt + (1−m)·θs, and its copies. The teacher has the first
/// parameters of the student's.
///
/// # Errors
/// [`Kind::Usage`](crate::Kind::Usage) where its parameters are not those.
pub fn ema(cx: &Cx, teacher: &mut Params, student: &Params, m: f64) -> Result<()> {
    let shared = teacher.values().len().min(student.values().len());
    expect_alike(teacher, "the student's value", &student.values()[..shared])?;
    match cx.exec("ema") {
        Exec::DryRun => Ok(()),
        Exec::Cpu => {
            native(teacher, student, m);
            Ok(())
        }
        Exec::Device(launcher) => kernels::ema(cx, &launcher, teacher, student, m),
    }
}

/// There are no copies: the CPU has no bf16 tensors.
fn native(teacher: &mut Params, student: &Params, m: f64) {
    let pairs = teacher.values_mut().par_iter_mut().zip(student.values());
    pairs.for_each(|(t, s)| {
        crate::dispatch!(t.dtype(), T => {
            let (keep, take) = (T::of(m), T::of(1.0 - m));
            t.host_mut::<T>().par_chunks_mut(CHUNK).zip(s.host::<T>().par_chunks(CHUNK)).for_each(
                |(t, s)| t.iter_mut().zip(s).for_each(|(t, s)| *t = keep * *t + take * *s),
            )
        });
    });
}
