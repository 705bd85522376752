//! What keys expect of a queue: means of its rows, weighted by a softmax. Not differentiated.

pub mod checks;
#[cfg(test)]
mod tests;
pub mod work;

use super::info_nce::{self, cpu, expect_tau, kernels};
use super::{expect_inputs, expect_shape};
use crate::cx::{Cx, Exec};
use crate::error::Result;
use crate::tensor::{Meta, Shape, Tensor};

/// With l = k·queueⱼ/τ the logits of a row k of `keys` `[N,1,1,D]` against `queue` `[K,1,1,D]`, and
/// P their softmax: Σⱼ Pⱼ·queueⱼ `[N,1,1,D]` and ln Σⱼ exp(lⱼ) `[N,1,1,1]`, both of the type
/// [`DType::accumulation`](crate::tensor::DType::accumulation). The N×K logits are never stored.
///
/// The first is ReSSL's target for [`InfoNCE`](super::info_nce::InfoNCE); the entropy of P is the
/// second less k·first/τ. Fails on other shapes or types, and on a τ that is not above 0.
pub fn mean(cx: &Cx, keys: &Tensor, queue: &Tensor, tau: f64) -> Result<(Tensor, Tensor)> {
    expect_inputs(&[keys.meta(), queue.meta()], &["keys", "queue"])?;
    expect_tau(tau)?;
    let (n, d) = (keys.shape().n(), keys.shape().c());
    expect_shape("keys", keys.shape(), Shape::matrix(n, d))?;
    expect_shape("queue", queue.shape(), Shape::matrix(queue.shape().n(), d))?;
    let wide = keys.dtype().accumulation();
    let mut mean = cx.alloc(Meta::new(Shape::matrix(n, d), wide))?;
    let mut log_z = cx.alloc(Meta::new(Shape::matrix(n, 1), wide))?;
    match cx.exec("queue_mean") {
        Exec::DryRun => drop(info_nce::parts(cx, keys, queue)?),
        Exec::Cpu => {
            let (split, mut parts) = info_nce::parts(cx, keys, queue)?;
            crate::dispatch!(keys.dtype(), T => {
                let parts = parts.host_mut::<T>();
                cpu::sum_parts(&split, tau, keys.host(), queue.host(), parts);
                cpu::mean(&split, parts, mean.host_mut(), log_z.host_mut());
            });
        }
        Exec::Device(launcher) => {
            kernels::mean(cx, &launcher, tau, [keys, queue], &mut mean, &mut log_z)?;
        }
    }
    Ok((mean, log_z))
}
