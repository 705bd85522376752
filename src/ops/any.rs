//! Ops without their types.

use std::fmt;

use super::{Fill, Grad, Op, Saved};
use crate::cx::Cx;
use crate::error::Result;
use crate::tensor::{Meta, Tensor};

/// An [`Op`] without its type: what a tape keeps of it. Every op is one.
pub trait AnyOp: Send + Sync + fmt::Debug {
    /// [`Op::NAME`].
    fn name(&self) -> &'static str;
    /// [`Op::PASSES`].
    fn passes(&self) -> Passes;
    /// [`Op::label`].
    fn label(&self, inputs: &[Meta]) -> String;
    /// [`Op::fills`].
    fn fills(&self, inputs: &[Meta]) -> Vec<Fill>;
    /// [`Op::infer`].
    fn infer(&self, inputs: &[Meta]) -> Result<Meta>;
    /// [`Op::forward`].
    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)>;
    /// [`Op::backward`].
    fn backward(&self, cx: &Cx, saved: Saved, gy: Tensor, grads: &mut [Grad]) -> Result<()>;
    /// [`Op::used`].
    fn used(&self, inputs: &[Meta]) -> Vec<usize>;
    /// [`Op::flops`].
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
        Op::label(self, inputs)
    }
    fn fills(&self, inputs: &[Meta]) -> Vec<Fill> {
        Op::fills(self, inputs)
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
        Op::used(self, inputs)
    }
    fn flops(&self, inputs: &[Meta]) -> u64 {
        Op::flops(self, inputs)
    }
}

/// What an op's passes are called, where it is timed and its work is counted.
#[derive(Clone, Copy, Debug)]
pub struct Passes {
    /// The pass that makes the output.
    pub forward: &'static str,
    /// Where each input's gradient is a pass of its own: its name, and which input it reads.
    /// Empty where one pass makes all.
    pub gradients: &'static [(&'static str, Option<usize>)],
}
