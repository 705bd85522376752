//! What images lose on the way to RGB of 8 bits, which is said once for a data set.

use std::sync::atomic::{AtomicBool, Ordering};

use super::Format;
use crate::outside::printable;

/// What was said.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// That images of 16 bits a channel become images of 8.
    sixteen_bit: AtomicBool,
    /// That of several pages the first is taken.
    pages: AtomicBool,
}

impl Clone for Said {
    fn clone(&self) -> Self {
        let copy = |said: &AtomicBool| AtomicBool::new(said.load(Ordering::Relaxed));
        Self { sixteen_bit: copy(&self.sixteen_bit), pages: copy(&self.pages) }
    }
}

impl Said {
    /// Says what image `name` of the data set `title` loses, where that was not said before.
    pub(super) fn what_is_lost(&self, title: &str, name: &str, format: Format, bytes: &[u8]) {
        let say = |said: &AtomicBool, what: &str| {
            if !said.swap(true, Ordering::Relaxed) {
                tracing::warn!("{}: {what} (such as {})", printable(title), printable(name));
            }
        };
        if format.is_sixteen_bit(bytes) {
            let what = "images of 16 bits a channel are rounded to 8 bits";
            say(&self.sixteen_bit, what);
        }
        if format.has_further_pages(bytes) {
            say(&self.pages, "of images with several pages the first is taken");
        }
    }
}
