//! The signals that a run heeds.

pub use crate::signals::Signals;
