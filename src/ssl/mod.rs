//! Self-supervised methods: what a student must match in the teacher's output for the same
//! image. One file a method, behind [`Method`]; [`recipe`] has a line for each.

pub mod byol;
pub mod densecl;
pub mod moco;
pub mod queue;
pub mod ressl;

use std::collections::BTreeMap;

pub use byol::Byol;
pub use densecl::DenseCl;
pub use moco::Moco;
pub use queue::Queue;
pub use ressl::ReSsl;

use crate::config::{self, Config};
use crate::cx::Cx;
use crate::data::Views;
use crate::error::Result;
use crate::files::{Entry, Named};
use crate::nn::{Feature, Gradients, Heads, Outputs};
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

/// What the teacher made of its views: `[teacher view][feature]`, row i of each tensor being of
/// image i.
pub type Targets = Vec<Vec<Tensor>>;

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Index of the step, from 0.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
}

/// The features that a criterion reads.
#[derive(Clone, Copy, Debug)]
pub struct Reads {
    /// From the student.
    pub student: &'static [Feature],
    /// From the teacher.
    pub teacher: &'static [Feature],
}

/// What a method carries from step to step, as checkpoints keep it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Named tensors.
    pub tensors: Vec<Entry>,
    /// Places in them, such as the row of a queue that is overwritten next.
    pub pointers: BTreeMap<String, u64>,
}

/// The loss of a student that tells no images apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Even {
    /// Its value.
    pub loss: f64,
    /// How it comes about, in words.
    pub what: &'static str,
    /// Its formula, where it depends on the queue of K rows.
    pub formula: Option<&'static str>,
}

/// The loss of a student that tells no images apart, in a method with so many rows in its queue.
pub fn even(method: config::Method, queue: usize) -> Even {
    let rows = queue as f64;
    match method {
        config::Method::Moco | config::Method::Densecl => {
            Even { loss: (1.0 + rows).ln(), what: "equal embeddings", formula: Some("ln(1 + K)") }
        }
        config::Method::Byol => Even { loss: 4.0, what: "unrelated directions", formula: None },
        config::Method::Ressl => {
            Even { loss: rows.ln(), what: "even relations", formula: Some("ln K") }
        }
    }
}

/// What to say where a queue is not smaller than the data set; `section` has its key.
fn meets_itself(section: &str, rows: usize, images: usize) -> Option<String> {
    (rows >= images).then(|| {
        format!(
            "warning: the queue ({rows}) is not smaller than the data set ({images}): an image meets \
             itself among those that it is compared with; lower {section}.queue"
        )
    })
}

/// What the log says of a method's loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Outlook {
    /// Loss of a student that tells no images apart.
    pub even_loss: f64,
    /// How that comes about, in words: `equal embeddings`.
    pub even: &'static str,
    /// What the head of the log says.
    pub lines: Vec<String>,
}

/// Something beside spread and rank by which a method's training is judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Sign {
    /// Its name in metrics.
    pub name: &'static str,
    /// Its value.
    pub value: f64,
    /// What is wrong and what to change, where the value tells so.
    pub warning: Option<String>,
}

/// A method's criterion and the state that it carries from step to step.
///
/// A step is: [`arrange`](Method::arrange) the views of the batch; move the teacher by
/// [`ema`](Method::ema); one teacher pass for each of [`teacher_views`](Method::teacher_views), then
/// [`prepare`](Method::prepare); for each student and each of [`passes`](Method::passes), forward,
/// [`loss`](Method::loss), backward; [`before_update`](Method::before_update); the optimizer;
/// [`finish_step`](Method::finish_step).
pub trait Method: Send {
    /// Name as in `--method`.
    fn name(&self) -> &'static str;
    /// The views that teacher and students see, made of those that the loader renders, each
    /// [N, R, R, 3].
    fn arrange(&self, _cx: &Cx, views: Vec<Tensor>) -> Result<Vec<Tensor>> {
        Ok(views)
    }
    /// Views that the teacher sees, one pass for each: the second, if the method does not say
    /// otherwise. None: there are no targets.
    fn teacher_views(&self) -> &'static [usize] {
        &[1]
    }
    /// The passes of a student: the views that are on one tape; one pass with the first view, if the
    /// method does not say otherwise.
    fn passes(&self) -> &'static [&'static [usize]] {
        &[&[0]]
    }
    /// What the criterion reads from the nets: embeddings, if the method does not say otherwise.
    fn reads(&self) -> Reads {
        Reads { student: &[Feature::Z], teacher: &[Feature::Z] }
    }
    /// The queues that are its state.
    fn queues(&self) -> Vec<&Queue> {
        Vec::new()
    }
    /// The same, to write.
    fn queues_mut(&mut self) -> Vec<&mut Queue> {
        Vec::new()
    }
    /// Momentum m of the teacher's moving average θt ← m·θt + (1−m)·θs, which comes before the
    /// teacher's pass.
    fn ema(&self, at: Moment) -> f64;
    /// What students are compared with, made once a step of what the teacher saw.
    fn prepare(&self, _cx: &Cx, seen: Targets) -> Result<Targets> {
        Ok(seen)
    }
    /// Scalar: `weight` × the mean over images of the criterion between a student's outputs for the
    /// views of `passes()[pass]` and the targets of the same images.
    fn loss(
        &self,
        tape: &mut Tape,
        pass: usize,
        student: &[Outputs],
        targets: &Targets,
        weight: f64,
    ) -> Result<Var>;
    /// May change the gradients before the optimizer reads them.
    fn before_update(&mut self, _cx: &Cx, _at: Moment, _grads: &mut Gradients) -> Result<()> {
        Ok(())
    }
    /// Rows of the state that teacher outputs of seeded images fill before the first step.
    fn rows_to_fill(&self) -> usize {
        self.queues().into_iter().map(Queue::rows_to_fill).max().unwrap_or(0)
    }
    /// Takes the step's targets into the state (pushes the queue).
    fn finish_step(&mut self, cx: &Cx, targets: &Targets) -> Result<()>;
    /// What tells, of a step's targets, whether it learns, beside how embeddings lie.
    fn signs(&self, _cx: &Cx, _targets: &Targets) -> Result<Vec<Sign>> {
        Ok(Vec::new())
    }
    /// What its loss says and does not, on a data set of so many images.
    fn outlook(&self, images: usize) -> Outlook;
    /// Constants of the criterion, for dumps.
    fn constants(&self) -> Vec<(&'static str, f64)>;
    /// Numbers of the state.
    fn state_elems(&self) -> usize {
        self.queues().into_iter().map(Queue::elems).sum()
    }
    /// The state.
    fn state(&self, cx: &Cx) -> Result<Memory> {
        let mut memory = Memory::default();
        self.queues().into_iter().try_for_each(|queue| queue.save(cx, &mut memory))?;
        Ok(memory)
    }
    /// Restores what [`Method::state`] gave.
    ///
    /// # Errors
    /// [`crate::Kind::Data`] where it is of other dimensions.
    fn restore(
        &mut self,
        cx: &Cx,
        tensors: &Named,
        pointers: &BTreeMap<String, u64>,
    ) -> Result<()> {
        self.queues_mut().into_iter().try_for_each(|queue| queue.restore(cx, tensors, pointers))
    }
}

/// What the state of a new method holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// What training begins with.
    Seeded,
    /// Zeros, for runs whose losses nobody reads: to draw the largest queues takes minutes.
    Blank,
}

/// Makes a criterion with its state.
pub type Build = dyn Fn(&Cx, Begin) -> Result<Box<dyn Method>>;

/// All that a configuration says of a method.
pub struct Recipe {
    /// How the loader makes each view of an image.
    pub views: Vec<Views>,
    /// The heads of the net.
    pub heads: Heads,
    /// Makes the criterion with its state.
    pub build: Box<Build>,
}

/// The method that a configuration names.
pub fn recipe(config: &Config) -> Recipe {
    match config.method {
        config::Method::Moco => moco::recipe(config),
        config::Method::Byol => byol::recipe(config),
        config::Method::Ressl => ressl::recipe(config),
        config::Method::Densecl => densecl::recipe(config),
    }
}

/// The heads that it trains.
pub fn heads(config: &Config) -> Heads {
    recipe(config).heads
}
