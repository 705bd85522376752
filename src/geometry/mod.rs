//! Boxes and masks of objects in images: plain functions, without tensors.
//!
//! [`BBox`] and [`Rle`] are what annotations and metrics have, in f64. Training and inference have
//! boxes by their [`Corners`], in f32, and the rules of detectron2; equal scores and overlaps come in
//! the order of their indices.

use crate::error::Result;

pub mod anchors;
pub mod boxes;
pub mod coder;
pub mod corners;
pub mod exp;
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
pub use corners::{Corners, fpn_level};
pub use matcher::Matcher;
pub use paste::{mask_target, paste};
pub use proposals::{
    DetectionSettings, Found, LevelOutput, ProposalSettings, detections, proposals,
};
pub use rle::Rle;
pub use sampler::{AnchorSample, RoiSample, Sampler};

/// The pixels of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Mask {
    /// What any of these polygons covers: corners x, y, x, y, …
    Polygons(Vec<Vec<f64>>),
    /// Pixels of an image.
    Rle(Rle),
}

impl Mask {
    /// The pixels in an image of this height and width; none of no polygons.
    ///
    /// # Errors
    /// Those of [`polygon::rasterise`].
    pub fn rle(&self, (height, width): (u32, u32)) -> Result<Option<Rle>> {
        match self {
            Self::Rle(rle) => Ok(Some(rle.clone())),
            Self::Polygons(polygons) => {
                let part = |xy: &Vec<f64>| polygon::rasterise(xy, height, width);
                let parts: Vec<Rle> = polygons.iter().map(part).collect::<Result<_>>()?;
                Ok(Rle::union(&parts))
            }
        }
    }
}
