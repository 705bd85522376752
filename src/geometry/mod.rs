//! Boxes and masks of objects in images: plain functions, without tensors.

pub mod boxes;
pub mod polygon;
pub mod rle;

pub use boxes::Box2;
pub use rle::Rle;
