//! How alike two feature maps relate their positions to each other (Eq. 4 and 5 of the
//! paper): the score by which subnets are searched for tasks that read feature maps.

pub mod checks;
mod cpu;
mod kernels;
pub mod work;

use super::l2_normalise::L2Normalise;
use super::{Op, expect_inputs, expect_shape};
use crate::cx::{Cx, Exec};
use crate::error::{Error, Result};
use crate::tensor::{DType, Meta, Shape, Tensor};

/// Least temperature: below it, exp(−1/τ) underflows for positions whose features are zero.
pub const MIN_TAU: f64 = 0.0125;

/// A teacher's feature map, prepared once and compared with those of many students.
#[derive(Clone, Debug)]
pub struct Teacher {
    /// On devices as they came, else with rows of unit length.
    features: Tensor,
    /// On devices: of every position what is to be known of the length of its features, and
    /// Σⱼ exp((Tᵢⱼ − 1)/τ) of its cosines T, in f32. Else empty.
    statistics: Tensor,
    tau: f64,
}

impl Teacher {
    /// Prepares features `[N,H,W,C]` for scores at a temperature τ. Fails on a τ below
    /// [`MIN_TAU`].
    pub fn new(cx: &Cx, features: &Tensor, tau: f64) -> Result<Self> {
        if !(MIN_TAU..f64::INFINITY).contains(&tau) {
            return Err(Error::usage(format!(
                "expected a tau of at least {MIN_TAU} for the relation score; found {tau}"
            )));
        }
        expect_inputs(&[features.meta()], &["features"])?;
        Ok(match cx.exec("relation") {
            Exec::Device(launcher) => {
                let statistics = kernels::statistics(cx, &launcher, features, tau)?;
                Self { features: features.clone(), statistics, tau }
            }
            _ => Self {
                features: unit_rows(cx, features)?,
                statistics: cx.scratch(Meta::new(Shape::vector(0), DType::F32))?,
                tau,
            },
        })
    }

    /// What [`Teacher::from_numbers`] makes the same teacher from, on the same kind of device:
    /// its features, then the statistics of their positions.
    pub fn numbers(&self, cx: &Cx) -> Result<Vec<f32>> {
        let mut numbers = cx.download(&self.features)?;
        numbers.extend(cx.download(&self.statistics)?);
        Ok(numbers)
    }

    /// A teacher of features with this shape and type from its numbers, say from a file, and
    /// its τ. Fails where there are more or fewer of them than such a teacher has.
    pub fn from_numbers(cx: &Cx, meta: Meta, numbers: &[f32], tau: f64) -> Result<Self> {
        let of_position = if cx.is_device() { kernels::STATISTICS } else { 0 };
        let expected = meta.shape.elems() + of_position * meta.shape.rows();
        if numbers.len() != expected {
            return Err(Error::usage(format!(
                "expected {expected} numbers of a teacher with features of shape {} on {}; found {}",
                meta.shape,
                cx.name(),
                numbers.len()
            )));
        }
        let (features, statistics) = numbers.split_at(meta.shape.elems());
        Ok(Self {
            features: cx.upload(meta.shape, meta.dtype, features)?,
            statistics: cx.upload(Shape::vector(statistics.len()), DType::F32, statistics)?,
            tau,
        })
    }

    /// Bytes of memory that it takes, where nets compute.
    pub fn size_bytes(&self) -> usize {
        self.features.meta().size_bytes() + self.statistics.meta().size_bytes()
    }

    /// Shape and type of its features.
    pub fn meta(&self) -> Meta {
        self.features.meta()
    }

    /// The score of each image: with M the normalised channel vectors of an image's H·W
    /// positions, S = MᵀM and P = softmax over j of S/τ,
    /// score = mean over i of Σⱼ Pᵗᵉᵃᶜʰᵉʳᵢⱼ · log Pˢᵗᵘᵈᵉⁿᵗᵢⱼ. Higher is better.
    ///
    /// `student` is `[N,H,W,any]`, of the teacher's type. Memory grows with the positions, not
    /// with their square. Fails on other shapes.
    pub fn score(&self, cx: &Cx, student: &Tensor) -> Result<Vec<f64>> {
        self.compare(cx, student)?.read(cx)
    }

    /// As [`Teacher::score`], without waiting for the device.
    pub fn compare(&self, cx: &Cx, student: &Tensor) -> Result<Scores> {
        let Self { features: teacher, statistics, tau } = self;
        expect_inputs(&[teacher.meta(), student.meta()], &["teacher", "student"])?;
        let [n, h, w, _] = teacher.shape().0;
        expect_shape("student", student.shape(), Shape::nhwc(n, h, w, student.shape().c()))?;
        Ok(Scores(match cx.exec("relation") {
            Exec::DryRun => Place::Host(vec![0.0; n]),
            Exec::Cpu => {
                let student = unit_rows(cx, student)?;
                Place::Host(crate::dispatch!(teacher.dtype(), T => {
                    cpu::scores(h * w, teacher.host::<T>(), student.host(), n, *tau)
                }))
            }
            Exec::Device(launcher) => {
                Place::Device(kernels::scores(cx, &launcher, teacher, statistics, student, *tau)?)
            }
        }))
    }
}

/// Scores of a batch's images, which a device may still be computing.
pub struct Scores(Place);

enum Place {
    Host(Vec<f64>),
    Device(Tensor),
}

impl Scores {
    /// Waits for them.
    pub fn read(self, cx: &Cx) -> Result<Vec<f64>> {
        match self.0 {
            Place::Host(scores) => Ok(scores),
            Place::Device(scores) => Ok(cx.download(&scores)?.into_iter().map(f64::from).collect()),
        }
    }
}

/// Rows of unit length.
fn unit_rows(cx: &Cx, x: &Tensor) -> Result<Tensor> {
    Ok(L2Normalise.forward(cx, &[x])?.0)
}

#[cfg(test)]
mod tests;
