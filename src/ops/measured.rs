//! What timing and counting want of an op, beside what computes.

use super::{Case, Fill};
use crate::tensor::Meta;

/// What an op's passes are called, where it is timed and its work is counted.
#[derive(Clone, Copy, Debug)]
pub struct Passes {
    /// The pass that makes the output.
    pub forward: &'static str,
    /// Where each input's gradient is a pass of its own: its name, and which input it reads.
    /// Empty where one pass makes all.
    pub gradients: &'static [(&'static str, Option<usize>)],
}

/// How an op is timed and its work counted. Implemented beside its cases; most ops need nothing but
/// the defaults.
pub trait Measured {
    /// What its passes are called.
    const PASSES: Passes = Passes { forward: "forward", gradients: &[] };
    /// Cases in which it is timed, or its work counted, beside all that training the presets' nets
    /// runs: for an op that they do not need.
    fn benches() -> Vec<Case<Self>>
    where
        Self: Sized,
    {
        Vec::new()
    }
    /// Values that its inputs may have, where passes of the nets are timed.
    fn fills(&self, inputs: &[Meta]) -> Vec<Fill> {
        vec![Fill::Normal; inputs.len()]
    }
    /// Its parameters and its inputs' dimensions in a few words, by which the passes of a
    /// training step are told apart.
    fn label(&self, inputs: &[Meta]) -> String {
        inputs[0].shape.to_string()
    }
    /// Elements of each input that are used: fewer than there are of a parameter that is stored
    /// for more channels than are active.
    fn used(&self, inputs: &[Meta]) -> Vec<usize> {
        inputs.iter().map(|m| m.shape.elems()).collect()
    }
    /// Floating-point operations of a forward pass; the gradient of an input that takes a pass
    /// of its own over another input has as many. Counted for ops that are more than a pass over
    /// memory.
    fn flops(&self, _inputs: &[Meta]) -> u64 {
        0
    }
}
