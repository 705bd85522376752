//! Running statistics of a batch norm: averages of what batches have.

use super::{BatchNorm, cpu, kernels};
use crate::cx::{Cx, Exec};
use crate::error::{Error, Result};
use crate::ops::{Op, expect_float};
use crate::tensor::{DType, Meta, Shape, Tensor};

/// Mean and unbiased variance of batches, averaged with the number of images as weight: what
/// PyTorch's batch norm keeps with `momentum=None` if all batches are of one size. The sums are
/// f64 and lie where the op runs.
pub struct Running {
    /// `[2·C]` values of 64 bits, on devices as twice as many of 32: the sums of means, then
    /// those of variances.
    pub(super) sums: Tensor,
    channels: usize,
    /// Of the averages.
    dtype: DType,
    /// Of all batches.
    images: usize,
}

impl Running {
    /// No batch yet, of a tensor like `x` `[N,H,W,C]`.
    pub fn new(cx: &Cx, x: Meta) -> Result<Self> {
        expect_float("x", &x)?;
        let channels = x.shape.c();
        let sums = if cx.is_device() {
            cx.zeros(Shape::vector(4 * channels), DType::F32)?
        } else {
            cx.zeros(Shape::vector(2 * channels), DType::F64)?
        };
        Ok(Self { sums, channels, dtype: x.dtype.accumulation(), images: 0 })
    }

    /// Adds the batch `x` `[N,H,W,C]`. Gives its own statistics, of all images together, as
    /// [`Stats::Given`](super::Stats::Given) takes them: they are computed once for both.
    ///
    /// # Errors
    /// [`Kind::Usage`](crate::Kind::Usage) if a channel has a single value, which has no variance.
    pub fn add(&mut self, cx: &Cx, x: &Tensor) -> Result<Tensor> {
        expect_float("x", &x.meta())?;
        let shape = x.shape();
        if shape.rows() < 2 {
            return Err(Error::usage(format!(
                "a variance needs at least two values per channel, and x has shape {shape}; use \
                 more images"
            )));
        }
        if shape.c() != self.channels {
            let expected = self.channels;
            return Err(Error::usage(format!("expected {expected} channels; found {shape}")));
        }
        self.images += shape.n();
        BatchNorm::batch(0).batch_statistics(cx, x, Some(self))
    }

    /// The averages: mean and variance, `[1,1,1,C]`.
    pub fn averages(&self, cx: &Cx) -> Result<(Tensor, Tensor)> {
        let meta = Meta::new(Shape::vector(self.channels), self.dtype);
        let (mut mean, mut var) = (cx.alloc(meta)?, cx.alloc(meta)?);
        match cx.exec(BatchNorm::NAME) {
            Exec::DryRun => {}
            Exec::Cpu => crate::dispatch!(meta.dtype, T => {
                cpu::averages::<T>(&self.sums, self.images, mean.host_mut(), var.host_mut());
            }),
            Exec::Device(launcher) => {
                kernels::averages(&launcher, &self.sums, self.images, &mut mean, &mut var)?;
            }
        }
        Ok((mean, var))
    }
}
