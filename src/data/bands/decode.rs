//! Decoding to any number of channels: one, from whatever there is; more, from TIFF.

use image::metadata::Orientation;
use image::{DynamicImage, ImageBuffer, Luma};

use super::Bands;
use crate::data::Image;
use crate::data::guard::guarded;
use crate::data::image::{Admit, Format, decoded, tiff};
use crate::data::limits::Limits;
use crate::error::{Error, Result};

impl Bands {
    /// Decodes a file's bytes to so many channels, not three. Grey is that of the file where it is grey,
    /// with all its bits, else the weighted sum of red, green and blue that PIL takes (ITU-R BT.601). Of
    /// TIFF files the channels are the file's, 8 or 16 bits each. Memory is asked for as by
    /// [`Image::decode_within`].
    ///
    /// # Errors
    /// [`Kind::Data`](crate::Kind::Data): not an image, damaged, too large, or one of another number of
    /// channels.
    pub fn decode_within(
        bytes: &[u8],
        channels: usize,
        limits: &Limits,
        admit: &mut Admit,
    ) -> Result<Self> {
        let of_bands = 2 * channels as u64;
        guarded("the decoder", || {
            let take = &mut |taken: u64, pixels: u64| admit(taken + of_bands * pixels);
            match (Format::sniff(bytes), channels) {
                (Some(Format::Tiff), _) => {
                    if let Some((bands, turn)) = tiff::bands(bytes, channels, limits, take)? {
                        return oriented(bands, turn);
                    }
                }
                (Some(format), 1) if format != Format::Jpeg => {
                    let (image, orientation) = decoded(bytes, format, limits, take)?;
                    return Ok(grey(image, orientation));
                }
                _ => {}
            }
            if channels > 1 {
                return Err(Error::data(format!(
                    "expected {channels} channels, which only TIFF files have, found none of those"
                )));
            }
            let image = Image::decode_within(bytes, limits, 2, admit)?;
            Ok(of_rgb(&image))
        })
    }
}

/// One plane of a grey image's own samples, else of its colours' weighted sum.
fn grey(mut image: DynamicImage, orientation: Orientation) -> Bands {
    image.apply_orientation(orientation);
    let (width, height) = (image.width() as usize, image.height() as usize);
    let of_bytes = |samples: Vec<u8>| samples.into_iter().map(widened).collect();
    let samples = match image {
        DynamicImage::ImageLuma8(grey) => of_bytes(grey.into_raw()),
        DynamicImage::ImageLuma16(grey) => grey.into_raw(),
        DynamicImage::ImageLumaA8(grey) => grey.pixels().map(|p| widened(p.0[0])).collect(),
        DynamicImage::ImageLumaA16(grey) => grey.pixels().map(|p| p.0[0]).collect(),
        coloured => return of_rgb(&Image { width, height, rgb: coloured.into_rgb8().into_raw() }),
    };
    Bands { width, height, samples }
}

/// Grey of an RGB image.
pub(in crate::data) fn of_rgb(image: &Image) -> Bands {
    let grey = |p: &[u8; 3]| {
        let [r, g, b] = p.map(u32::from);
        // 257 makes 65535 of 255.
        ((257 * (299 * r + 587 * g + 114 * b) + 500) / 1000) as u16
    };
    let samples = image.rgb.as_chunks::<3>().0.iter().map(grey).collect();
    Bands { width: image.width, height: image.height, samples }
}

/// 16 bits of 8.
pub(in crate::data) fn widened(byte: u8) -> u16 {
    u16::from(byte) * 257
}

fn oriented(bands: Bands, orientation: Orientation) -> Result<Bands> {
    if orientation == Orientation::NoTransforms {
        return Ok(bands);
    }
    let (mut width, mut height, mut samples) = (0, 0, Vec::with_capacity(bands.samples.len()));
    for plane in bands.planes() {
        let (w, h) = (bands.width as u32, bands.height as u32);
        let plane: ImageBuffer<Luma<u16>, _> = ImageBuffer::from_raw(w, h, plane.to_vec())
            .ok_or_else(|| Error::data("its samples do not fill its size"))?;
        let mut plane = DynamicImage::ImageLuma16(plane);
        plane.apply_orientation(orientation);
        (width, height) = (plane.width() as usize, plane.height() as usize);
        samples.extend(plane.into_luma16().into_raw());
    }
    Ok(Bands { width, height, samples })
}
