//! Where a number went wrong: what a step that diverged says. The step is run again, looking at
//! every value on the way.

use std::ops::Range;

use super::iteration::{Iteration, Step};
use crate::device::Cx;
use crate::error::{Error, Kind, Result};
use crate::nn::Gradients;
use crate::space::Arch;
use crate::tape::{Tape, all_finite};
use crate::tensor::Tensor;

impl Iteration {
    /// Repeats a student's forward pass, looking at every value, and says where the first one
    /// that is not finite appears.
    pub(super) fn name_bad_tensor(
        &self,
        cx: &Cx,
        s: &Step,
        arch: &Arch,
        target: &[Tensor],
        rows: Range<usize>,
    ) -> Error {
        match self.bad_place(cx, s, arch, target, rows) {
            Ok(place) => diverged(s.step, &arch.to_string(), &place),
            Err(e) => e,
        }
    }

    /// Where the first value that is not finite appears.
    fn bad_place(
        &self,
        cx: &Cx,
        s: &Step,
        arch: &Arch,
        target: &[Tensor],
        rows: Range<usize>,
    ) -> Result<String> {
        let first_bad = |tensors: &[Tensor]| -> Result<Option<usize>> {
            for (i, t) in tensors.iter().enumerate() {
                if !all_finite(cx, t)? {
                    return Ok(Some(i));
                }
            }
            Ok(None)
        };
        if !all_finite(cx, s.student_view)? {
            return Ok("the pictures (view of the students)".to_owned());
        }
        if let Some(i) = first_bad(self.student.values())? {
            return Ok(format!("the parameter {}", self.net.specs()[i].name));
        }
        if first_bad(target)?.is_some() {
            return Ok(match self.teacher_pass(cx, s, arch, true) {
                Err(e) => format!("the teacher: {e}"),
                Ok(_) => "the teacher's output".to_owned(),
            });
        }
        let mut tape = Tape::inference(cx).checking();
        Ok(match self.student_forward(&mut tape, s, arch, target, rows, 1.0) {
            Err(e) => e.to_string(),
            Ok(_) => "the loss".to_owned(),
        })
    }

    /// Repeats the students one by one to find whose gradient is not finite, and where.
    pub(super) fn name_bad_gradient(
        &mut self,
        cx: &Cx,
        s: &Step,
        targets: &[Vec<Tensor>],
    ) -> Result<Error> {
        for (k, arch) in s.archs.iter().enumerate() {
            self.grads = Gradients::zeros(cx, self.net.specs())?;
            self.student_pass(cx, s, arch, targets.get(k).unwrap_or(&targets[0]))?;
            for (i, spec) in self.net.specs().iter().enumerate() {
                if !all_finite(cx, self.grads.get(i))? {
                    let place = format!("the gradient of {}", spec.name);
                    return Ok(diverged(s.step, &arch.to_string(), &place));
                }
            }
        }
        Ok(diverged(s.step, "the sum over all students", "the norm of the gradient"))
    }
}

fn diverged(step: u64, arch: &str, place: &str) -> Error {
    Error::new(
        Kind::Diverged,
        format!(
            "training diverged in step {step}, architecture {arch}: the first value that is not \
             finite is in {place}; lower train.lr (or add train.warmup_epochs) and go on from the \
             last checkpoint with --resume"
        ),
    )
}
