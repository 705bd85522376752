//! Norm of many tensors together, and whether values are finite. Not differentiated.

pub mod checks;
mod cpu;
mod kernels;

use crate::cx::{Cx, Exec};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// What [`norm`] finds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// √Σx² over all values, summed in f64; not finite where a value is not.
    pub value: f64,
    /// Number of values that are not finite.
    pub non_finite: u64,
}

/// Euclidean norm of all tensors together; zeros while planning. The order of the sum depends
/// on shapes alone.
///
/// # Errors
/// [`Kind::Usage`](crate::Kind::Usage) for a tensor without elements, or of bf16 or integers:
/// gradients are kept in f32.
pub fn norm<'a>(cx: &Cx, tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<Norm> {
    let tensors: Vec<&Tensor> = tensors.into_iter().collect();
    for (i, t) in tensors.iter().enumerate() {
        if t.shape().elems() == 0 || matches!(t.dtype(), DType::BF16 | DType::I32) {
            return Err(Error::usage(format!(
                "the norm takes tensors of f32 with at least one element; number {i} of {} is {t:?}",
                tensors.len()
            )));
        }
    }
    let (squares, non_finite) = match cx.exec("global_norm") {
        _ if tensors.is_empty() => (0.0, 0),
        Exec::DryRun => (0.0, 0),
        Exec::Cpu => cpu::sum(&tensors),
        Exec::Device(launcher) => kernels::sum(cx, &launcher, &tensors)?,
    };
    Ok(Norm { value: squares.sqrt(), non_finite })
}

/// Whether all values are finite (true while planning, and of integers).
pub fn all_finite(cx: &Cx, t: &Tensor) -> Result<bool> {
    match cx.exec("global_norm") {
        _ if t.shape().elems() == 0 || t.dtype() == DType::I32 => Ok(true),
        Exec::DryRun => Ok(true),
        Exec::Cpu => Ok(cpu::all_finite(t)),
        Exec::Device(launcher) => kernels::all_finite(cx, &launcher, t),
    }
}
