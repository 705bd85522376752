//! Pixels of images and label images.

use super::Size;
use crate::data::annotated::LabelImage;
use crate::data::augment::with_scratch;
use crate::data::resample::{Window, resize};
use crate::data::{Crop, Filter, Image, Normalise};

/// An image in another size, by a filter as PIL's.
pub fn resized(image: &Image, [width, height]: Size, filter: Filter) -> Image {
    let whole = Crop { x: 0, y: 0, width: image.width, height: image.height };
    let window = Window { width, height, x: 0, y: 0 };
    with_scratch(|scratch| {
        let planes = &mut scratch.planes;
        resize(image, whole, filter, window, [width, height], &mut scratch.resize, planes);
        let (red, rest) = planes.split_at(width * height);
        let (green, blue) = rest.split_at(width * height);
        let pixels = red.iter().zip(green).zip(blue);
        let rgb = pixels.flat_map(|((&r, &g), &b)| [r, g, b]).collect();
        Image { width, height, rgb }
    })
}

/// A part of an image.
pub(super) fn cut(image: &Image, crop: Crop) -> Image {
    let rows = image.rgb.chunks_exact(3 * image.width).skip(crop.y).take(crop.height);
    let rgb = rows.flat_map(|row| &row[3 * crop.x..3 * (crop.x + crop.width)]).copied().collect();
    Image { width: crop.width, height: crop.height, rgb }
}

/// Writes an image's normalised pixels, H×W×3, into the upper left corner of `out`, whose rows have
/// `width` pixels; the rest becomes 0. What does not fit is left out.
pub fn normalise_padded(image: &Image, normalise: &Normalise, width: usize, out: &mut [f32]) {
    let [scale, shift] = normalise.of_bytes();
    let mut rows = image.rgb.chunks_exact(3 * image.width.max(1));
    for out in out.chunks_exact_mut(3 * width.max(1)) {
        let row = rows.next().unwrap_or_default();
        let within = row.len().min(out.len());
        out[within..].fill(0.0);
        for (i, (out, v)) in out.iter_mut().zip(row).enumerate() {
            *out = f32::from(*v) * scale[i % 3] + shift[i % 3];
        }
    }
}

impl LabelImage {
    /// The labels at these rows and columns, which it must have.
    pub(super) fn pick(&self, rows: &[u32], columns: &[u32]) -> Self {
        let row = |&y: &u32| {
            let row = &self.labels[y as usize * self.width..][..self.width];
            columns.iter().map(|&x| row[x as usize])
        };
        let labels = rows.iter().flat_map(row).collect();
        Self { width: columns.len(), height: rows.len(), labels }
    }
}
