//! Images in memory, and the memory that they count as.

use std::ops::Deref;

use super::limits::Permit;

/// The bytes of an image as they are stored.
#[derive(Debug)]
pub(super) struct Encoded {
    pub bytes: Vec<u8>,
    pub _permit: Permit,
}

/// A decoded image and the memory that it counts as.
#[derive(Debug)]
pub(super) struct Loaded<I> {
    pub image: I,
    pub permit: Option<Permit>,
}

impl<I> Loaded<I> {
    /// The image, and what must be dropped when it no longer counts; none where it is too small
    /// to be counted.
    pub(super) fn into_parts(self) -> (I, Option<Permit>) {
        (self.image, self.permit)
    }
}

impl<I> Deref for Loaded<I> {
    type Target = I;
    fn deref(&self) -> &I {
        &self.image
    }
}
