//! How alike two feature maps relate their positions to each other (Eq. 4 and 5 of the
//! paper): the score by which subnets are searched for tasks that read feature maps.

mod cpu;

use super::{expect_inputs, expect_shape, l2_normalise};
use crate::device::Cx;
use crate::error::{Error, Result};
use crate::tensor::{Meta, Shape, Tensor};

/// Least temperature: below it, exp(−1/τ) underflows for positions whose features are zero.
pub const MIN_TAU: f64 = 0.0125;

/// A teacher's feature map, prepared once and compared with those of many students.
#[derive(Clone, Debug)]
pub struct Teacher {
    features: Tensor,
}

impl Teacher {
    /// Prepares features `[N,H,W,C]`: the channel vectors are scaled to unit length.
    pub fn new(cx: &Cx, features: &Tensor) -> Result<Self> {
        Ok(Self { features: normalised(cx, features)? })
    }

    /// A teacher from what [`Teacher::normalised`] gave, say from a file.
    pub fn from_normalised(features: Tensor) -> Self {
        Self { features }
    }

    /// The prepared features `[N,H,W,C]`, all there is to store.
    pub fn normalised(&self) -> &Tensor {
        &self.features
    }

    /// The score of each picture: with M the normalised channel vectors of a picture's H·W
    /// positions, S = MᵀM and P = softmax over j of S/τ,
    /// score = mean over i of Σⱼ Pᵗᵉᵃᶜʰᵉʳᵢⱼ · log Pˢᵗᵘᵈᵉⁿᵗᵢⱼ. Higher is better.
    ///
    /// `student` is `[N,H,W,any]`. Memory grows with the positions, not with their square.
    /// Fails on other shapes and on a τ below [`MIN_TAU`].
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
        let student = normalised(cx, student)?;
        let mut scores = vec![0.0; n];
        cx.run_native("relation", || {
            scores = crate::dispatch!(teacher.dtype(), T => {
                cpu::scores(h * w, teacher.host::<T>(), student.host(), n, tau)
            });
            Ok(())
        })?;
        Ok(scores)
    }
}

/// Channel vectors of unit length.
fn normalised(cx: &Cx, x: &Tensor) -> Result<Tensor> {
    expect_inputs(&[x.meta()], &["features"])?;
    let mut y = cx.alloc(x.meta())?;
    let mut lengths = cx.alloc(Meta::new(Shape::vector(x.shape().rows()), x.dtype()))?;
    cx.run_native("relation", || {
        crate::dispatch!(x.dtype(), T => {
            let (c, lengths) = (x.shape().c(), lengths.host_mut());
            l2_normalise::rows(c, x.host::<T>(), y.host_mut(), lengths)
        });
        Ok(())
    })?;
    Ok(y)
}

#[cfg(test)]
mod tests;
