//! Images in memory, and the memory that they count as.

use std::ops::Deref;

use super::Image;
use super::limits::Permit;

/// The bytes of an image as they are stored.
#[derive(Debug)]
pub(super) struct Encoded {
    pub bytes: Vec<u8>,
    pub _permit: Permit,
}

/// A decoded image and the memory that it counts as.
#[derive(Debug)]
pub(super) struct Loaded {
    pub image: Image,
    pub permit: Option<Permit>,
}

impl Loaded {
    /// The image, and what must be dropped when it no longer counts; none where it is too small
    /// to be counted.
    pub(super) fn into_parts(self) -> (Image, Option<Permit>) {
        (self.image, self.permit)
    }
}

impl Deref for Loaded {
    type Target = Image;
    fn deref(&self) -> &Image {
        &self.image
    }
}
