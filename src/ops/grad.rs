//! Where gradients go.

use crate::cx::Cx;
use crate::error::Result;
use crate::tensor::{Meta, Real, Tensor};

/// What is done with the gradient of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// Nobody wants it.
    No,
    /// It is made.
    New,
    /// It is added to that of another use of the value.
    Added,
    /// It is added to a parameter's, which is always there.
    Parameter,
}

/// Where an op's backward pass puts the gradient of one input.
pub struct Grad {
    needed: bool,
    value: Option<Tensor>,
}

impl Grad {
    /// A slot for a gradient that is wanted, with what has been accumulated so far.
    pub fn wanted(value: Option<Tensor>) -> Self {
        Self { needed: true, value }
    }
    /// A slot for a gradient that nobody wants.
    pub fn unwanted() -> Self {
        Self { needed: false, value: None }
    }
    /// Whether the gradient is wanted; if not, the op skips the work.
    pub fn needed(&self) -> bool {
        self.needed
    }
    /// Whether something has been accumulated.
    pub fn has_value(&self) -> bool {
        self.value.is_some()
    }
    /// Lets `write(target, accumulate)` produce the gradient in place: into a new tensor of
    /// shape `meta` whose contents are unspecified (`accumulate` false), or on top of what is
    /// there (true). For a parameter the target has the parameter's full size and is always
    /// there. Does nothing where the gradient is not wanted.
    pub fn write(
        &mut self,
        cx: &Cx,
        meta: Meta,
        write: impl FnOnce(&mut Tensor, bool) -> Result<()>,
    ) -> Result<()> {
        if !self.needed {
            return Ok(());
        }
        match &mut self.value {
            Some(sum) => write(sum, true),
            None => {
                let mut fresh = cx.alloc(meta)?;
                write(&mut fresh, false)?;
                self.value = Some(fresh);
                Ok(())
            }
        }
    }
    /// Moves a gradient in, or adds it to what is there.
    pub fn put(&mut self, cx: &Cx, grad: Tensor) -> Result<()> {
        match &mut self.value {
            _ if !self.needed => Ok(()),
            None => {
                self.value = Some(grad);
                Ok(())
            }
            Some(sum) => super::add::accumulate(cx, sum, &grad),
        }
    }
    /// What has been accumulated.
    pub fn into_value(self) -> Option<Tensor> {
        self.value
    }
}

/// Adds `sums` to the first elements of a parameter's gradient of type and shape `meta`, in
/// native code: kernels leave no sums in host memory.
pub fn add_to_front(cx: &Cx, grad: &mut Grad, meta: Meta, sums: &[f64]) -> Result<()> {
    grad.write(cx, meta, |grad, accumulate| {
        cx.run_native("add", || {
            crate::dispatch!(meta.dtype, T => {
                let grad = grad.host_mut::<T>();
                if !accumulate {
                    grad.fill(T::of(0.0));
                }
                grad.iter_mut().zip(sums).for_each(|(g, s)| *g += T::of(*s));
            });
            Ok(())
        })
    })
}
