//! Ops without their types.

use std::fmt;

use super::{Fill, Grad, Measured, Op, Passes, Saved};
use crate::cx::Cx;
use crate::error::Result;
use crate::tensor::{Meta, Tensor};

/// An [`Op`] without its type: what a tape keeps of it. Every op is one.
pub trait AnyOp: Send + Sync + fmt::Debug {
    /// [`Op::NAME`].
    fn name(&self) -> &'static str;
    /// [`Measured::PASSES`].
    fn passes(&self) -> Passes;
    /// [`Measured::label`].
    fn label(&self, inputs: &[Meta]) -> String;
    /// [`Measured::fills`].
    fn fills(&self, inputs: &[Meta]) -> Vec<Fill>;
    /// [`Op::infer`].
    fn infer(&self, inputs: &[Meta]) -> Result<Meta>;
    /// [`Op::forward`].
    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)>;
    /// [`Op::backward`].
    fn backward(&self, cx: &Cx, saved: Saved, gy: Tensor, grads: &mut [Grad]) -> Result<()>;
    /// [`Measured::used`].
    fn used(&self, inputs: &[Meta]) -> Vec<usize>;
    /// [`Measured::flops`].
    fn flops(&self, inputs: &[Meta]) -> u64;
}

impl<O: Op> AnyOp for O {
    fn name(&self) -> &'static str {
        O::NAME
    }
    fn passes(&self) -> Passes {
        O::PASSES
    }
    fn label(&self, inputs: &[Meta]) -> String {
        Measured::label(self, inputs)
    }
    fn fills(&self, inputs: &[Meta]) -> Vec<Fill> {
        Measured::fills(self, inputs)
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
        Op::infer(self, inputs)
    }
    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)> {
        Op::forward(self, cx, inputs)
    }
    fn backward(&self, cx: &Cx, saved: Saved, gy: Tensor, grads: &mut [Grad]) -> Result<()> {
        Op::backward(self, cx, saved, gy, grads)
    }
    fn used(&self, inputs: &[Meta]) -> Vec<usize> {
        Measured::used(self, inputs)
    }
    fn flops(&self, inputs: &[Meta]) -> u64 {
        Measured::flops(self, inputs)
    }
}
