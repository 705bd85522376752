//! The teacher's moving average.

use rayon::prelude::*;

use super::{expect_alike, kernels};
use crate::device::{Cx, Target};
use crate::error::Result;
use crate::nn::Params;
use crate::ops::CHUNK;
use crate::tensor::Real;

/// A teacher that moves towards its student: θt ← m·θt + (1−m)·θs.
pub struct Teacher<'a> {
    /// θt.
    pub params: &'a mut Params,
    /// m.
    pub keep: f64,
}

/// The teacher's moving average: θt ← m·θt + (1−m)·θs; and its copies.
pub fn ema(cx: &Cx, teacher: &mut Params, student: &Params, m: f64) -> Result<()> {
    let teacher = Teacher { params: teacher, keep: m };
    teacher.expect_alike(student)?;
    match cx.target("ema") {
        Target::Nothing => Ok(()),
        Target::Native => {
            teacher.native(student);
            Ok(())
        }
        Target::Kernels(queue) => kernels::follow(cx, &queue, teacher, student),
    }
}

impl Teacher<'_> {
    /// Fails unless there is one tensor for each of the student's.
    pub(super) fn expect_alike(&self, student: &Params) -> Result<()> {
        expect_alike(student, "the teacher's value", self.params.values())
    }

    /// Moves it in native code. There are no copies: the CPU has no bf16 tensors.
    pub(super) fn native(self, student: &Params) {
        let pairs = self.params.values_mut().par_iter_mut().zip(student.values());
        pairs.for_each(|(t, s)| {
            crate::dispatch!(t.dtype(), T => {
                let (keep, take) = (T::of(self.keep), T::of(1.0 - self.keep));
                t.host_mut::<T>().par_chunks_mut(CHUNK).zip(s.host::<T>().par_chunks(CHUNK)).for_each(
                    |(t, s)| t.iter_mut().zip(s).for_each(|(t, s)| *t = keep * *t + take * *s),
                )
            });
        });
    }
}
