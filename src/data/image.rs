//! Decoding: whatever the file, an RGB picture of 8 bits comes out, or an error with a reason.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::error::{Error, Result};

/// Pictures of more pixels than this are refused before they are decoded: a file of a few
/// bytes may claim to be of any size.
pub const MAX_PIXELS: usize = 100_000_000;

const MAX_SIDE: usize = 65_535;

/// A decoded picture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Rows from the top, pixels from the left, red green blue: `3·width·height` bytes.
    pub rgb: Vec<u8>,
}

/// How a picture is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// GIF, of which the first picture is taken.
    Gif,
    /// WebP.
    WebP,
    /// Windows bitmap.
    Bmp,
    /// PBM, PGM, PPM, PAM.
    Pnm,
    /// Three planes of 32×32 bytes, as in CIFAR's binary files.
    Cifar,
}

impl Format {
    /// What the first bytes of a file say; `None` where it is no picture.
    pub fn sniff(bytes: &[u8]) -> Option<Format> {
        match bytes {
            [0xFF, 0xD8, 0xFF, ..] => Some(Format::Jpeg),
            [0x89, b'P', b'N', b'G', 0x0D, 0x0A, 0x1A, 0x0A, ..] => Some(Format::Png),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Format::Gif),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Format::WebP),
            // The reserved bytes of the header are zero; "BM" alone is common in text.
            [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..] => Some(Format::Bmp),
            [b'P', b'1'..=b'7', b'\n' | b'\r' | b' ' | b'\t', ..] => Some(Format::Pnm),
            _ => None,
        }
    }

    /// Whether a file's name ends like a picture's.
    pub fn is_picture_name(name: &str) -> bool {
        const ENDINGS: [&str; 11] =
            ["jpg", "jpeg", "jpe", "jfif", "png", "gif", "webp", "bmp", "ppm", "pgm", "pnm"];
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
        ENDINGS.iter().any(|e| ending.eq_ignore_ascii_case(e))
    }

    /// Its usual name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Format::Jpeg => "jpeg",
            Format::Png => "png",
            Format::Gif => "gif",
            Format::WebP => "webp",
            Format::Bmp => "bmp",
            Format::Pnm => "pnm",
            Format::Cifar => "cifar",
        }
    }
}

impl Image {
    /// Decodes a file's bytes, whatever the format says: grey, CMYK, 16-bit and palette
    /// pictures become RGB of 8 bits, alpha is dropped (as PIL's `convert("RGB")` does), and
    /// the rotation that EXIF asks for is carried out.
    ///
    /// Errors ([`Kind::Data`](crate::Kind::Data)): not a picture, damaged or cut short, or
    /// larger than [`MAX_PIXELS`].
    pub fn decode(bytes: &[u8]) -> Result<Image> {
        let attempt = || match Format::sniff(bytes) {
            Some(Format::Jpeg) => decode_jpeg(bytes),
            Some(_) => decode_other(bytes),
            None if bytes.is_empty() => Err(Error::data("the file is empty")),
            None => Err(Error::data(
                "not a picture: expected JPEG, PNG, GIF, WebP, BMP or PNM, found other bytes",
            )),
        };
        // The decoders are others' work on anybody's bytes: a slip of theirs is one picture
        // that cannot be read, not the end of the run.
        catch_unwind(AssertUnwindSafe(attempt))
            .unwrap_or_else(|_| Err(Error::data("the decoder gave up on these bytes")))
            // Reasons of theirs may have several lines.
            .map_err(|e| {
                Error::data(e.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
            })
    }
}

/// JPEG, by zune-jpeg. Its strict mode refuses damage, but also padding between headers, which
/// cameras write and every viewer accepts: such a file is decoded leniently. Neither mode misses
/// the last few bytes of a file that is cut short, so its end is looked for here.
fn decode_jpeg(bytes: &[u8]) -> Result<Image> {
    let strict = decode_jpeg_with(bytes, true);
    let image = match strict {
        Err(e) if e.to_string().contains("Extra bytes between headers") => {
            decode_jpeg_with(bytes, false)?
        }
        other => other?,
    };
    if !ends_whole(bytes) {
        return Err(Error::data("the JPEG is cut short: its end marker is missing"));
    }
    Ok(image)
}

/// Whether an end-of-image marker follows the first scan's header. In the scan itself the bytes
/// of one cannot occur; in what comes before they can (a thumbnail has its own).
fn ends_whole(bytes: &[u8]) -> bool {
    let last = bytes.windows(2).rposition(|w| w == [0xFF, 0xD9]);
    let mut at = 2;
    // Segments: FF, marker, length (which counts itself). FF may be repeated as padding.
    while let Some(&[first, marker, high, low]) = bytes.get(at..at + 4) {
        at += match (first, marker) {
            (0xFF, 0xDA) => return last.is_some_and(|last| last > at),
            (0xFF, marker) if marker != 0xFF => 2 + usize::from(u16::from_be_bytes([high, low])),
            _ => 1,
        };
    }
    false
}

fn decode_jpeg_with(bytes: &[u8], strict: bool) -> Result<Image> {
    let bad = |e: &dyn std::fmt::Display| Error::data(format!("damaged or unsupported JPEG: {e}"));
    let options = DecoderOptions::default()
        .set_max_width(MAX_SIDE)
        .set_max_height(MAX_SIDE)
        .set_strict_mode(strict)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|e| bad(&e))?;
    let info = decoder.info().ok_or_else(|| bad(&"no size in its header"))?;
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    check_size(width, height)?;
    let mut rgb = vec![0; width * height * 3];
    if decoder.output_buffer_size() != Some(rgb.len()) {
        return Err(bad(&"its colours cannot be turned into RGB"));
    }
    decoder.decode_into(&mut rgb).map_err(|e| bad(&e))?;
    let orientation = decoder.exif().and_then(|chunk| Orientation::from_exif_chunk(chunk));
    oriented(Image { width, height, rgb }, orientation.unwrap_or(Orientation::NoTransforms))
}

/// Everything else, by the `image` crate.
fn decode_other(bytes: &[u8]) -> Result<Image> {
    let bad = |e: &dyn std::fmt::Display| Error::data(format!("damaged or unsupported: {e}"));
    let mut reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| bad(&e))?;
    let mut limits = Limits::default();
    // Sixteen bits and alpha, and as much again for the decoder.
    limits.max_alloc = Some(16 * MAX_PIXELS as u64);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|e| bad(&e))?;
    let (width, height) = decoder.dimensions();
    check_size(width as usize, height as usize)?;
    // A damaged EXIF block says nothing about the picture itself.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let rgb = DynamicImage::from_decoder(decoder).map_err(|e| bad(&e))?.into_rgb8();
    let image = Image { width: width as usize, height: height as usize, rgb: rgb.into_raw() };
    oriented(image, orientation)
}

fn check_size(width: usize, height: usize) -> Result<()> {
    if width == 0 || height == 0 {
        return Err(Error::data(format!("its size is {width}x{height}")));
    }
    if width > MAX_SIDE || height > MAX_SIDE || width * height > MAX_PIXELS {
        return Err(Error::data(format!(
            "it claims to be {width}x{height}; at most {MAX_PIXELS} pixels are read"
        )));
    }
    Ok(())
}

fn oriented(image: Image, orientation: Orientation) -> Result<Image> {
    if orientation == Orientation::NoTransforms {
        return Ok(image);
    }
    let raw = RgbImage::from_raw(image.width as u32, image.height as u32, image.rgb)
        .ok_or_else(|| Error::data("its pixels do not fill its size"))?;
    let mut turned = DynamicImage::ImageRgb8(raw);
    turned.apply_orientation(orientation);
    let (width, height) = (turned.width() as usize, turned.height() as usize);
    Ok(Image { width, height, rgb: turned.into_rgb8().into_raw() })
}
