//! Updates of parameters: SGD with momentum, LARS, the teacher's moving average, the learning
//! rate's schedule, and the norm of the gradient.

mod checks;
mod ema;
mod kernels;
mod lars;
mod optimizer;
mod schedule;
mod sgd;
mod work;

pub use checks::checks;
pub use ema::ema;
pub use lars::Sums;
pub use optimizer::Optimizer;
pub use schedule::{Decay, Schedule};
pub use sgd::{Exempt, Sgd};
pub use work::work;

use crate::cx::Cx;
use crate::error::{Error, Result};
use crate::nn::{Gradients, Params};
use crate::ops::global_norm::norm;
use crate::tensor::Tensor;

/// Euclidean norm of all gradients together; not finite where one of them is not. Zero while
/// planning.
pub fn grad_norm(cx: &Cx, grads: &Gradients) -> Result<f64> {
    Ok(norm(cx, grads.all())?.value)
}

/// Fails unless there is one tensor for each parameter, of its shape and with elements; `what`
/// names them.
fn expect_alike<'a>(
    params: &Params,
    what: &str,
    found: impl IntoIterator<Item = &'a Tensor>,
) -> Result<()> {
    let found: Vec<_> = found.into_iter().map(Tensor::shape).collect();
    if found.len() != params.values().len() {
        let (expected, found) = (params.values().len(), found.len());
        return Err(Error::usage(format!(
            "expected {what} for each of {expected} parameters, found {found}"
        )));
    }
    for ((spec, w), found) in params.specs().iter().zip(params.values()).zip(found) {
        if found != w.shape() || found.elems() == 0 {
            return Err(Error::usage(format!(
                "expected {what} of {} of shape {}, with elements; found {found}",
                spec.name,
                w.shape()
            )));
        }
    }
    Ok(())
}
