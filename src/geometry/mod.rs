//! Boxes and masks of objects in images: plain functions, without tensors.
//!
//! [`BBox`] and [`Rle`] are what annotations and metrics have, in f64. Training and inference have
//! boxes by their [`Corners`], in f32, and the rules of detectron2; equal scores and overlaps come in
//! the order of their indices.

pub mod anchors;
pub mod boxes;
pub mod coder;
pub mod corners;
pub mod matcher;
pub mod nms;
pub mod paste;
pub mod polygon;
pub mod proposals;
pub mod rle;
pub mod sampler;

pub use anchors::Anchors;
pub use boxes::BBox;
pub use coder::Coder;
pub use corners::Corners;
pub use rle::Rle;

/// The pixels of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Mask {
    /// What any of these polygons covers: corners x, y, x, y, …
    Polygons(Vec<Vec<f64>>),
    /// Pixels of an image.
    Rle(Rle),
}
