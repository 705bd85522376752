//! Images that are stored as planes of bytes, without a header of their own: CIFAR's and IDX's.

use super::Format;
use super::image::Image;

/// The size of such an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Planes {
    pub width: u16,
    pub height: u16,
    pub kind: PlaneKind,
}

/// Which planes there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlaneKind {
    /// One.
    Grey,
    /// Red, green, blue.
    Rgb,
}

impl Planes {
    /// Bytes of an image.
    pub(super) fn bytes(self) -> usize {
        let planes = if self.kind == PlaneKind::Grey { 1 } else { 3 };
        planes * self.pixels()
    }

    /// Pixels of an image.
    pub(super) fn pixels(self) -> usize {
        usize::from(self.width) * usize::from(self.height)
    }

    /// What such images are called.
    pub(super) fn format(self) -> Format {
        match self.kind {
            PlaneKind::Grey => Format::Idx,
            PlaneKind::Rgb => Format::Cifar,
        }
    }

    /// An image from its [`Planes::bytes`].
    pub(super) fn image(self, planes: &[u8]) -> Image {
        let pixels = self.pixels();
        let plane = if self.kind == PlaneKind::Grey { 0 } else { pixels };
        let mut rgb = vec![0; 3 * pixels];
        for (i, pixel) in rgb.chunks_exact_mut(3).enumerate() {
            for (c, value) in pixel.iter_mut().enumerate() {
                *value = planes[c * plane + i];
            }
        }
        Image { width: self.width.into(), height: self.height.into(), rgb }
    }
}
