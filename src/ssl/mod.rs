//! Self-supervised methods: what a student must match in the teacher's output for the same
//! picture. One file a method, behind [`Method`].

pub mod moco;

pub use moco::Moco;

use crate::config::{self, Config};
use crate::device::Cx;
use crate::error::Result;
use crate::files::{Entry, Named};
use crate::nn::{Feature, MlpHead, Outputs};
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

/// A method's criterion and the state it carries from step to step.
pub trait Method: Send {
    /// Name as in `--method`.
    fn name(&self) -> &'static str;
    /// What the criterion reads from the nets.
    fn wanted(&self) -> &'static [Feature];
    /// Momentum m of the teacher's moving average in a step; the teacher is updated before
    /// its pass.
    fn ema(&self, step: u64, steps: u64) -> f64;
    /// Temperature τ of the criterion.
    fn tau(&self) -> f64;
    /// Loss of a net whose embeddings are all equal. A loss below it does not show that a net
    /// learns.
    fn chance_loss(&self) -> f64;
    /// Scalar: `weight` × the mean over pictures of the criterion between a student's outputs
    /// and the teacher's (`target`: the wanted features, in order).
    fn loss(
        &self,
        tape: &mut Tape,
        student: &Outputs,
        target: &[Tensor],
        weight: f64,
    ) -> Result<Var>;
    /// Rows of the state that teacher outputs of seeded images fill before the first step.
    fn rows_to_fill(&self) -> usize;
    /// Takes the step's teacher output into the state (pushes the queue).
    fn finish_step(&mut self, cx: &Cx, target: &[Tensor]) -> Result<()>;
    /// The state: named tensors [rows, columns] and the pointer into them.
    fn state(&self, cx: &Cx) -> Result<(Vec<Entry>, u64)>;
    /// Restores what [`Method::state`] gave.
    fn restore(&mut self, cx: &Cx, tensors: &Named, pointer: u64) -> Result<()>;
}

/// The projection head that a configuration describes.
pub fn head(config: &Config) -> MlpHead {
    let moco = &config.moco;
    MlpHead { hidden: moco.hidden, dim: moco.dim, norm: moco.head_norm }
}

/// The method that a configuration names, in its initial state.
pub fn build(cx: &Cx, config: &Config) -> Result<Box<dyn Method>> {
    match config.method {
        config::Method::Moco => Ok(Box::new(Moco::new(cx, &config.moco, config.seed)?)),
    }
}

/// The same with a state of zeros, for timing alone.
pub fn build_blank(cx: &Cx, config: &Config) -> Result<Box<dyn Method>> {
    match config.method {
        config::Method::Moco => Ok(Box::new(Moco::blank(cx, &config.moco)?)),
    }
}
