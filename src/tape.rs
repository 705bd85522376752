//! Reverse-mode automatic differentiation: a [`Tape`] runs ops and, while it records, keeps
//! what each said it must save; [`Tape::backward`] walks them in reverse and frees as it goes.
//!
//! Gradients of parameters live outside the tape, at the parameters' full (maximum) size, and
//! every use adds to them in place. Other gradients are moved in by the first op that makes
//! one; later ones are added.

use std::sync::Arc;

use crate::cx::Cx;
use crate::error::{Error, Kind, Result};
use crate::ops::global_norm::all_finite;
use crate::ops::{AnyOp, Grad, Op, Saved, Trace, TraceEntry, Wanted};
use crate::tensor::{Meta, Tensor};

/// A value on the tape.
#[derive(Clone)]
pub struct Var {
    value: Tensor,
    slot: Slot,
}

#[derive(Clone, Copy, PartialEq)]
enum Slot {
    /// No gradient is wanted.
    Constant,
    /// The parameter with this index.
    Param(usize),
    /// The recorded value with this index.
    Value(usize),
}

impl Var {
    /// The value itself.
    pub fn value(&self) -> &Tensor {
        &self.value
    }
    /// The value itself, taking it out of the tape's hands.
    pub fn into_value(self) -> Tensor {
        self.value
    }
}

struct Node {
    label: Arc<str>,
    op: Arc<dyn AnyOp>,
    metas: Vec<Meta>,
    inputs: Vec<Slot>,
    output: usize,
    saved: Saved,
}

/// A recording of the ops of one forward pass.
pub struct Tape<'cx> {
    cx: &'cx Cx,
    nodes: Vec<Node>,
    values: usize,
    recording: bool,
    checking: bool,
    label: Arc<str>,
    trace: Option<&'cx Trace>,
}

impl<'cx> Tape<'cx> {
    /// A tape that records, for training.
    pub fn recording(cx: &'cx Cx) -> Self {
        let label = Arc::from("");
        Self {
            cx,
            nodes: Vec::new(),
            values: 0,
            recording: true,
            checking: false,
            label,
            trace: None,
        }
    }

    /// A tape that keeps nothing, for inference: buffers are free as soon as their last user
    /// is done.
    pub fn inference(cx: &'cx Cx) -> Self {
        Self { recording: false, ..Self::recording(cx) }
    }

    /// Makes every op look at its output and fail on the first value that is not finite.
    pub fn checking(mut self) -> Self {
        self.checking = true;
        self
    }

    /// Puts every pass that it runs on `trace`.
    pub fn traced(mut self, trace: &'cx Trace) -> Self {
        self.trace = Some(trace);
        self
    }

    fn note(&self, op: &Arc<dyn AnyOp>, inputs: &[Meta], gradients: Option<Vec<Wanted>>) {
        if let Some(trace) = self.trace {
            trace.push(TraceEntry { op: op.clone(), inputs: inputs.to_vec(), gradients });
        }
    }

    /// The context that ops run in.
    pub fn cx(&self) -> &'cx Cx {
        self.cx
    }

    /// Names what follows (say `layer3.7.conv2`), for error messages and profiles.
    pub fn label(&mut self, label: &Arc<str>) {
        self.label = label.clone();
    }

    /// A value that needs no gradient.
    pub fn constant(&self, value: Tensor) -> Var {
        Var { value, slot: Slot::Constant }
    }

    /// A value whose gradient [`Tape::backward`] adds to entry `index` of its `grads`.
    pub fn param(&self, value: Tensor, index: usize) -> Var {
        let slot = if self.recording { Slot::Param(index) } else { Slot::Constant };
        Var { value, slot }
    }

    /// Runs an op and records it where a gradient will be wanted.
    pub fn apply<O: Op>(&mut self, op: O, inputs: &[&Var]) -> Result<Var> {
        let _range = self.cx.range(&self.label);
        let values: Vec<&Tensor> = inputs.iter().map(|v| &v.value).collect();
        let metas: Vec<Meta> = values.iter().map(|t| t.meta()).collect();
        let op: Arc<dyn AnyOp> = Arc::new(op);
        let run = || {
            let meta = op.infer(&metas)?;
            let (out, saved) = op.forward(self.cx, &values)?;
            debug_assert_eq!(out.meta(), meta, "{} made what it did not announce", O::NAME);
            Ok((out, saved))
        };
        let (value, saved) = run().map_err(|e: Error| self.name_error::<O>(e))?;
        self.note(&op, &metas, None);
        if self.checking && !all_finite(self.cx, &value)? {
            return Err(Error::new(
                Kind::Diverged,
                format!("the output of {} ({}, shape {})", self.label, O::NAME, value.shape()),
            ));
        }
        if !self.recording || inputs.iter().all(|v| v.slot == Slot::Constant) {
            return Ok(Var { value, slot: Slot::Constant });
        }
        let output = self.values;
        self.values += 1;
        self.nodes.push(Node {
            label: self.label.clone(),
            op,
            metas,
            inputs: inputs.iter().map(|v| v.slot).collect(),
            output,
            saved,
        });
        Ok(Var { value, slot: Slot::Value(output) })
    }

    fn name_error<O: Op>(&self, e: Error) -> Error {
        let at = if self.label.is_empty() { String::new() } else { format!(" at {}", self.label) };
        e.context(format!("{}{at}", O::NAME))
    }

    /// Propagates `gradient` (of `root`) to all parameters: the gradient of parameter i is
    /// added to `grads[i]`. The tape is used up; saved values are freed on the way.
    pub fn backward(
        mut self,
        root: Var,
        gradient: Tensor,
        grads: &mut [Option<Tensor>],
    ) -> Result<()> {
        let mut values: Vec<Option<Tensor>> = (0..self.values).map(|_| None).collect();
        if let Slot::Value(i) = root.slot {
            values[i] = Some(gradient);
        }
        drop(root);
        while let Some(node) = self.nodes.pop() {
            let Some(gy) = values[node.output].take() else { continue };
            let _range = self.cx.range(&node.label);
            let mut slots: Vec<Grad> = node
                .inputs
                .iter()
                .map(|slot| match *slot {
                    Slot::Constant => Grad::unwanted(),
                    Slot::Param(i) => Grad::wanted(grads[i].take()),
                    Slot::Value(i) => Grad::wanted(values[i].take()),
                })
                .collect();
            let wanted = node.inputs.iter().zip(&slots).map(|(slot, grad)| match slot {
                Slot::Constant => Wanted::No,
                Slot::Param(_) => Wanted::Parameter,
                Slot::Value(_) if grad.has_value() => Wanted::Added,
                Slot::Value(_) => Wanted::New,
            });
            self.note(&node.op, &node.metas, Some(wanted.collect()));
            let done = node.op.backward(self.cx, node.saved, gy, &mut slots);
            for (slot, grad) in node.inputs.iter().zip(slots) {
                match *slot {
                    Slot::Constant => {}
                    Slot::Param(i) => grads[i] = grad.into_value(),
                    Slot::Value(i) => values[i] = grad.into_value(),
                }
            }
            done.map_err(|e| e.context(format!("backward of {}", node.label)))?;
        }
        Ok(())
    }
}
