//! The passes that a tape ran, as a list.

use std::sync::{Arc, Mutex, PoisonError};

use super::{AnyOp, Wanted};
use crate::tensor::Meta;

/// One pass of an op, as a traced tape ran it.
#[derive(Clone)]
pub struct TraceEntry {
    /// The op.
    pub op: Arc<dyn AnyOp>,
    /// Its inputs.
    pub inputs: Vec<Meta>,
    /// Of the backward pass: what was done with the gradient of each input.
    pub gradients: Option<Vec<Wanted>>,
}

/// The passes of traced tapes, in the order in which they ran.
#[derive(Default)]
pub struct Trace(Mutex<Vec<TraceEntry>>);

impl Trace {
    /// Puts a pass at the end.
    pub(crate) fn push(&self, entry: TraceEntry) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    /// The passes.
    pub fn into_entries(self) -> Vec<TraceEntry> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
