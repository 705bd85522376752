//! Labels and objects drawn over images, for people to look at.

use std::io::Cursor;
use std::path::Path;

use image::{ImageFormat, RgbImage};

use crate::data::annotated::transforms::{Sample, nearest};
use crate::data::annotated::{LabelImage, NO_CLASS};
use crate::data::{Image, png_address};
use crate::error::{Error, Result};
use crate::files;
use crate::geometry::{BBox, Rle};

/// Pixels of a side, at most: the report has them in itself.
pub(crate) const MOST_SIDE: u32 = 256;

/// Colour of a class: hues a golden angle apart, so that neighbours differ. Every other eight are
/// pale, for hues come near again.
pub(crate) fn colour(class: usize) -> [u8; 3] {
    let hue = (class as f64 * 0.618_033_988_749_895).fract() * 6.0;
    let light = if class.is_multiple_of(2) { 230.0 } else { 170.0 };
    let white = if (class / 8).is_multiple_of(2) { 0.0 } else { 0.5 };
    let ramp = |offset: f64| {
        let v = ((hue + offset).rem_euclid(6.0) - 3.0).abs() - 1.0;
        let full = v.clamp(0.0, 1.0) * light;
        (full + white * (255.0 - full)) as u8
    };
    [ramp(0.0), ramp(4.0), ramp(2.0)]
}

/// An image whose pixels are half of their class's colour; those of no class are as they are.
pub(crate) fn tinted(image: &Image, labels: &LabelImage) -> Result<RgbImage> {
    let mut rgb = image.rgb.clone();
    for (pixel, &label) in rgb.as_chunks_mut::<3>().0.iter_mut().zip(&labels.labels) {
        if label != NO_CLASS {
            let colour = colour(usize::from(label));
            *pixel = std::array::from_fn(|c| pixel[c] / 2 + colour[c] / 2);
        }
    }
    Image { rgb, ..*image }.within(MOST_SIDE)
}

/// The same as a PNG.
pub(crate) fn png(image: &Image, labels: &LabelImage) -> Result<Vec<u8>> {
    encoded(&tinted(image, labels)?)
}

/// Writes it.
pub(crate) fn write(path: &Path, image: &Image, labels: &LabelImage) -> Result<()> {
    let png = png(image, labels)?;
    files::write_atomic(path, |out| out.write_all(&png))
}

/// An object to be drawn.
pub(crate) struct Drawn<'a> {
    /// Its class.
    pub class: usize,
    /// Its box.
    pub bbox: BBox,
    /// Its pixels.
    pub mask: Option<&'a Rle>,
}

/// An image with boxes, and the pixels of masks in the colour of their class.
pub(crate) fn boxed<'a>(
    image: &Image,
    objects: impl Iterator<Item = Drawn<'a>>,
) -> Result<RgbImage> {
    let (width, height) = (image.width, image.height);
    let mut rgb = image.rgb.clone();
    // Lines are as thick as one pixel of what is shown.
    let line = (width.max(height) / MOST_SIDE as usize).max(1);
    for Drawn { class, bbox, mask } in objects {
        let colour = colour(class);
        let mut paint = |x: usize, y: usize, mixed: bool| {
            if x < width && y < height {
                let pixel = &mut rgb[3 * (y * width + x)..][..3];
                let new = |c: usize| if mixed { pixel[c] / 2 + colour[c] / 2 } else { colour[c] };
                let new = [new(0), new(1), new(2)];
                pixel.copy_from_slice(&new);
            }
        };
        for (from, end) in mask.map(Rle::runs).into_iter().flatten() {
            (from..end).map(|at| at as usize).for_each(|at| paint(at / height, at % height, true));
        }
        let [x0, y0] = [bbox.x, bbox.y].map(|v| v.max(0.0) as usize);
        let [x1, y1] = [bbox.x + bbox.w, bbox.y + bbox.h].map(|v| v.max(0.0) as usize);
        for t in 0..line {
            for x in x0..=x1.min(width) {
                paint(x, y0 + t, false);
                paint(x, (y1 + t).saturating_sub(line), false);
            }
            for y in y0..=y1.min(height) {
                paint(x0 + t, y, false);
                paint((x1 + t).saturating_sub(line), y, false);
            }
        }
    }
    Image { width, height, rgb }.within(MOST_SIDE)
}

/// How opaque the colours of a layer are, of 255.
const OPAQUE: u8 = 140;

/// Pixels in the colours of their classes, made `width`×`height`, as a PNG to lie over an image, an
/// address that holds it: half transparent, and wholly where there is no class. None where that is
/// everywhere.
pub(crate) fn layer(labels: &LabelImage, [width, height]: [u32; 2]) -> Result<Option<String>> {
    let rows = nearest(labels.height, height as usize);
    let columns = nearest(labels.width, width as usize);
    let label = |y: u32, x: u32| labels.labels[y as usize * labels.width + x as usize];
    // The palette begins with what is no class, so that it is as short as there are classes.
    let places: Vec<u8> = rows
        .iter()
        .flat_map(|&y| columns.iter().map(move |&x| label(y, x).wrapping_add(1)))
        .collect();
    let most = usize::from(places.iter().copied().max().unwrap_or(0));
    if most == 0 {
        return Ok(None);
    }
    let bad = |e: png::EncodingError| Error::data(format!("cannot draw labels: {e}"));
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette([vec![0; 3], (0..most).flat_map(colour).collect()].concat());
    encoder.set_trns([vec![0], vec![OPAQUE; most]].concat());
    let mut writer = encoder.write_header().map_err(bad)?;
    writer.write_image_data(&places).map_err(bad)?;
    writer.finish().map_err(bad)?;
    Ok(Some(png_address(&bytes)))
}

/// As the bytes of a PNG.
pub(crate) fn encoded(drawn: &RgbImage) -> Result<Vec<u8>> {
    let mut png = Cursor::new(Vec::new());
    let written = drawn.write_to(&mut png, ImageFormat::Png);
    written.map_err(|e| Error::data(format!("cannot draw an image: {e}")))?;
    Ok(png.into_inner())
}

/// Writes a training image with its objects.
pub(crate) fn write_sample(path: &Path, sample: &Sample) -> Result<()> {
    let size = (sample.image.height as u32, sample.image.width as u32);
    let masks: Vec<Option<Rle>> = sample
        .targets
        .iter()
        .map(|target| target.mask.as_ref().map_or(Ok(None), |mask| mask.rle(size)))
        .collect::<Result<_>>()?;
    let objects = sample.targets.iter().zip(&masks).map(|(target, mask)| Drawn {
        class: target.class,
        bbox: target.bbox,
        mask: mask.as_ref(),
    });
    let png = encoded(&boxed(&sample.image, objects)?)?;
    files::write_atomic(path, |out| out.write_all(&png))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use image::Rgb;

    use super::*;

    #[test]
    fn neighbours_have_colours_of_their_own() {
        let apart = |a: [u8; 3], b: [u8; 3]| -> i32 {
            (0..3).map(|c| (i32::from(a[c]) - i32::from(b[c])).abs()).sum()
        };
        for a in 0..20 {
            for b in 0..a {
                assert!(apart(colour(a), colour(b)) > 30, "{a} and {b}");
            }
        }
    }

    #[test]
    fn a_layer_is_transparent_where_there_is_no_class() {
        let labels = |labels: [u8; 4]| LabelImage { width: 2, height: 2, labels: labels.to_vec() };
        assert!(layer(&labels([NO_CLASS; 4]), [2, 2]).unwrap().is_none());
        let address = layer(&labels([0, NO_CLASS, 7, 7]), [4, 2]).unwrap().unwrap();
        let text = address.strip_prefix("data:image/png;base64,").unwrap();
        let bytes = BASE64_STANDARD.decode(text).unwrap();
        let drawn = image::load_from_memory(&bytes).unwrap().to_rgba8();
        let [r, g, b] = colour(7);
        assert_eq!((drawn.dimensions(), drawn.get_pixel(2, 0).0), ((4, 2), [0; 4]));
        assert_eq!(drawn.get_pixel(1, 1).0, [r, g, b, OPAQUE]);
    }

    #[test]
    fn pixels_of_no_class_stay() {
        let image = Image { width: 2, height: 1, rgb: vec![10, 20, 30, 10, 20, 30] };
        let labels = LabelImage { width: 2, height: 1, labels: vec![NO_CLASS, 1] };
        let drawn = tinted(&image, &labels).unwrap();
        assert_eq!(*drawn.get_pixel(0, 0), Rgb([10, 20, 30]));
        assert_ne!(*drawn.get_pixel(1, 0), Rgb([10, 20, 30]));
    }
}
