//! How alike two feature maps relate their positions to each other (Eq. 4 and 5 of the
//! paper): the score by which subnets are searched for tasks that read feature maps.

pub mod checks;
mod cpu;
mod kernels;

use super::l2_normalise::unit_rows;
use super::{expect_inputs, expect_shape};
use crate::device::{Cx, Target};
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};

/// Least temperature: below it, exp(−1/τ) underflows for positions whose features are zero.
pub const MIN_TAU: f64 = 0.0125;

/// A teacher's feature map, prepared once and compared with those of many students.
#[derive(Clone, Debug)]
pub struct Teacher {
    features: Tensor,
}

impl Teacher {
    /// Prepares features `[N,H,W,C]`: the channel vectors are scaled to unit length. Those in
    /// bf16 stay as they are, which is exact: lengths are divided by in the score.
    pub fn new(cx: &Cx, features: &Tensor) -> Result<Self> {
        expect_inputs(&[features.meta()], &["features"])?;
        Ok(match features.dtype() {
            DType::BF16 => Self { features: features.clone() },
            _ => Self { features: unit_rows(cx, features)? },
        })
    }

    /// A teacher from what [`Teacher::normalised`] gave, say from a file, in the type of the
    /// students.
    pub fn from_normalised(features: Tensor) -> Self {
        Self { features }
    }

    /// The features `[N,H,W,C]` at unit length, in the type [`DType::wide`]: all there is to
    /// store.
    pub fn normalised(&self, cx: &Cx) -> Result<Tensor> {
        match self.features.dtype() {
            DType::BF16 => unit_rows(cx, &self.features),
            _ => Ok(self.features.clone()),
        }
    }

    /// The score of each picture: with M the normalised channel vectors of a picture's H·W
    /// positions, S = MᵀM and P = softmax over j of S/τ,
    /// score = mean over i of Σⱼ Pᵗᵉᵃᶜʰᵉʳᵢⱼ · log Pˢᵗᵘᵈᵉⁿᵗᵢⱼ. Higher is better.
    ///
    /// `student` is `[N,H,W,any]`, of the teacher's type. Memory grows with the positions, not
    /// with their square. Fails on other shapes and on a τ below [`MIN_TAU`].
    pub fn score(&self, cx: &Cx, student: &Tensor, tau: f64) -> Result<Vec<f64>> {
        if !(MIN_TAU..f64::INFINITY).contains(&tau) {
            return Err(Error::usage(format!(
                "expected a tau of at least {MIN_TAU} for the relation score; found {tau}"
            )));
        }
        let teacher = &self.features;
        expect_inputs(&[teacher.meta(), student.meta()], &["teacher", "student"])?;
        let [n, h, w, _] = teacher.shape().0;
        expect_shape("student", student.shape(), Shape::nhwc(n, h, w, student.shape().c()))?;
        if let (DType::BF16, Target::Kernels(queue)) = (teacher.dtype(), cx.target("relation"))
            && kernels::on_tensor_cores(teacher, student)
        {
            return kernels::scores_bf16(cx, &queue, teacher, student, tau);
        }
        let (teacher, student) = (self.normalised(cx)?, unit_rows(cx, student)?);
        match cx.target("relation") {
            Target::Nothing => Ok(vec![0.0; n]),
            Target::Native => Ok(crate::dispatch!(teacher.dtype(), T => {
                cpu::scores(h * w, teacher.host::<T>(), student.host(), n, tau)
            })),
            Target::Kernels(queue) => kernels::scores(cx, &queue, &teacher, &student, tau),
        }
    }
}

#[cfg(test)]
mod tests;
