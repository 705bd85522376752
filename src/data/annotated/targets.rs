//! What a detector learns of an image.

use super::transforms::Target;
use crate::geometry::AnchorSample;

/// An image's objects, and the anchors that are learnt from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageTargets {
    /// Height and width of the image, without padding.
    pub size: [usize; 2],
    /// Its place in the run, of which draws are functions.
    pub position: u64,
    /// Its objects.
    pub objects: Vec<Target>,
    /// Anchors, and what they should say.
    pub anchors: Vec<AnchorSample>,
}
