//! Boxes and masks of objects in images: plain functions, without tensors.

pub mod boxes;
pub mod polygon;
pub mod rle;

pub use boxes::BBox;
pub use rle::Rle;
