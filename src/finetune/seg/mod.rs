//! Segmentation by a fully convolutional net: its data, its objective, and its test.

mod batches;
mod model;
mod objective;
mod set;
mod test;

pub use model::{SegModel, net};
pub use objective::Segment;
pub use set::SegSet;
pub use test::{MASKS, Scored, details, test};
