//! Small images as text, for pages that hold all they show.

use base64::Engine;
use base64::prelude::BASE64_STANDARD as STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

use super::Image;
use crate::error::{Error, Result};

/// Of 100: nothing is seen of the loss at a thumbnail's size.
const JPEG_QUALITY: u8 = 88;

/// An image as a PNG of at most `side` pixels a side, as [`png_address`] gives it.
///
/// # Errors
/// [`crate::Kind::Data`] for an image that cannot be a PNG.
pub fn thumbnail(image: Image, side: u32) -> Result<String> {
    // Small images stay as they are: the page draws their pixels as squares.
    let small = image.within(side)?;
    let mut png = Vec::new();
    PngEncoder::new(&mut png)
        .write_image(&small, small.width(), small.height(), ExtendedColorType::Rgb8)
        .map_err(|e| Error::data(format!("no thumbnail of an image: {e}")))?;
    Ok(png_address(&png))
}

/// An image of at most `side` pixels a side as an address that holds it, and its width and height: a
/// JPEG, or a PNG where that is shorter.
///
/// # Errors
/// [`crate::Kind::Data`] for an image that cannot be either.
pub fn photo(image: Image, side: u32) -> Result<(String, [u32; 2])> {
    let small = image.within(side)?;
    let (width, height) = (small.width(), small.height());
    let bad = |e| Error::data(format!("no thumbnail of an image: {e}"));
    let (mut png, mut jpeg) = (Vec::new(), Vec::new());
    PngEncoder::new(&mut png)
        .write_image(&small, width, height, ExtendedColorType::Rgb8)
        .map_err(bad)?;
    JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY)
        .write_image(&small, width, height, ExtendedColorType::Rgb8)
        .map_err(bad)?;
    let address = match png.len() <= jpeg.len() {
        true => png_address(&png),
        false => format!("data:image/jpeg;base64,{}", STANDARD.encode(jpeg)),
    };
    Ok((address, [width, height]))
}

/// A PNG as an address that holds it, for an `img` element.
pub fn png_address(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", STANDARD.encode(png))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_images_become_small_and_small_ones_stay() {
        for ((width, height), expected) in [((200, 100), (48, 24)), ((9, 5), (9, 5))] {
            let image = Image { width, height, rgb: vec![7; width * height * 3] };
            let address = thumbnail(image, 48).unwrap();
            let found = address.strip_prefix("data:image/png;base64,iVBORw0KGgo");
            // Its size stands in the first chunk, at bytes 16 to 24: 32 digits hold 24 bytes.
            let head = &address["data:image/png;base64,".len()..][..32];
            assert!(found.is_some() && head == STANDARD.encode(png_head(expected)), "{address}");
        }
        assert!(thumbnail(Image { width: 2, height: 2, rgb: vec![0; 3] }, 48).is_err());
    }

    #[test]
    fn photographs_are_jpegs_and_drawings_pngs() {
        let (width, height) = (300, 200);
        let shown = |value: fn(usize) -> u8| {
            let rgb = (0..3 * width * height).map(value).collect();
            photo(Image { width, height, rgb }, 100).unwrap()
        };
        let (flat, size) = shown(|_| 9);
        assert!(flat.starts_with("data:image/png;base64,") && size == [100, 66]);
        let (noisy, _) = shown(|i| (i.wrapping_mul(2_654_435_761) >> 16) as u8);
        assert!(noisy.starts_with("data:image/jpeg;base64,/9j/"));
    }

    /// The first bytes of a PNG of this size.
    fn png_head((width, height): (u32, u32)) -> Vec<u8> {
        let chunk = [0, 0, 0, 13, b'I', b'H', b'D', b'R'];
        let signature = [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n'];
        let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
        [&signature[..], &chunk, &size].concat()
    }
}
