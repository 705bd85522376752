//! PNG, GIF, WebP, BMP and PNM.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader};

use super::{Format, Image, Take, check_size};
use crate::data::limits::{Limits, PIXELS};
use crate::error::{Error, Result};

/// What an image's metadata (a colour profile, say) may grow to when a decoder unpacks it.
const METADATA_BYTES: u64 = 16 << 20;

/// Everything else, by the `image` crate.
pub(super) fn decode(
    bytes: &[u8],
    format: Format,
    limits: &Limits,
    admit: &mut Take,
) -> Result<(Image, Orientation)> {
    let (image, orientation) = decoded(bytes, format, limits, admit)?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    // Of 16 bits a channel this takes the nearest of 8.
    Ok((Image { width, height, rgb: image.into_rgb8().into_raw() }, orientation))
}

/// An image with the samples that its file has, and how it is to be turned.
pub(in crate::data) fn decoded(
    bytes: &[u8],
    format: Format,
    limits: &Limits,
    admit: &mut Take,
) -> Result<(DynamicImage, Orientation)> {
    let bad = |e: &dyn std::fmt::Display| Error::data(format!("damaged or unsupported: {e}"));
    let png = (format == Format::Png).then(|| Png::of(bytes));
    let webp = match format {
        Format::WebP => Some(WebP::of(bytes, limits)?),
        _ => None,
    };
    let mut reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| bad(&e))?;
    if let Some(png) = &png {
        // Its decoder unpacks metadata before it tells the size.
        check_size(png.width, png.height, limits)?;
        admit(png.cost(), png.width as u64 * png.height as u64)?;
        let mut allowed = image::Limits::default();
        allowed.max_alloc = Some(png.around_pixels());
        reader.limits(allowed);
    }
    let mut decoder = reader.into_decoder().map_err(|e| bad(&e))?;
    let (width, height) = decoder.dimensions();
    check_size(width as usize, height as usize, limits)?;
    let pixels = u64::from(width) * u64::from(height);
    if png.is_none() {
        // What comes out, RGB of it, and what its decoder holds besides.
        let out = decoder.total_bytes() + 3 * pixels;
        let beside = match &webp {
            Some(webp) => webp.beside(width.into(), height.into()),
            // Of GIF a frame, which may be larger than what is shown of it.
            None => 4 * pixels + METADATA_BYTES,
        };
        let held = out + beside;
        // Beside a frame's colours, of four bytes, a GIF's decoder holds their indices, of one,
        // which its limit does not count.
        admit(if format == Format::Gif { held / 4 * 5 + 5 } else { held }, pixels)?;
        let mut allowed = image::Limits::default();
        allowed.max_alloc = Some(held);
        decoder.set_limits(allowed).map_err(|e| bad(&e))?;
    }
    // A damaged EXIF block says nothing about the image itself.
    let orientation = match &webp {
        Some(webp) => webp.exif.and_then(Orientation::from_exif_chunk),
        None => decoder.orientation().ok(),
    };
    let image = DynamicImage::from_decoder(decoder).map_err(|e| bad(&e))?;
    Ok((image, orientation.unwrap_or(Orientation::NoTransforms)))
}

/// What a PNG's chunks say, before its decoder is asked.
struct Png {
    width: usize,
    height: usize,
    /// Bytes of a decoded pixel.
    pixel_bytes: u64,
    /// Length of all chunks that hold no pixels.
    metadata: u64,
}

impl Png {
    fn of(bytes: &[u8]) -> Self {
        let number = |at: usize| {
            let field = bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
            field.map_or(0, u32::from_be_bytes) as usize
        };
        let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
        let channels = match byte(25) {
            0 => 1,
            2 => 3,
            4 => 2,
            _ => 4,
        };
        // Transparency that a chunk adds makes one channel more.
        let pixel_bytes = (channels + 1).min(4) * if byte(24) == 16 { 2 } else { 1 };
        let (mut metadata, mut at) = (0, 8);
        while let Some(kind) = bytes.get(at + 4..at + 8) {
            let len = number(at);
            if kind != b"IDAT" && kind != b"fdAT" {
                metadata += len.min(bytes.len() - at) as u64;
            }
            at = at.saturating_add(len).saturating_add(12);
        }
        Self { width: number(16), height: number(20), pixel_bytes, metadata }
    }

    /// What its decoder may take for rows and metadata. Deflate makes up to 1032 bytes of one.
    fn around_pixels(&self) -> u64 {
        let rows = 16 * self.width as u64 + (1 << 18);
        rows + 3 * self.metadata + METADATA_BYTES.min(1032 * self.metadata)
    }

    fn cost(&self) -> u64 {
        let pixels = self.width as u64 * self.height as u64;
        pixels * (self.pixel_bytes.max(3) + 3) + self.around_pixels()
    }
}

/// What a WebP's chunks say, before its decoder is asked: it believes them.
struct WebP<'a> {
    exif: Option<&'a [u8]>,
    /// Whether it is more than one lossy frame.
    layered: bool,
    /// Bytes that tables of codes may take. Lossless frames may have up to 65536 sets of them,
    /// some 320 times as large as what they are read from.
    tables: u64,
    /// Its length.
    encoded: u64,
}

impl<'a> WebP<'a> {
    /// Errors: a frame that is larger than the limit or than the image that it is part of.
    fn of(bytes: &'a [u8], limits: &Limits) -> Result<Self> {
        let mut found = Self { exif: None, layered: false, tables: 0, encoded: bytes.len() as u64 };
        let canvas = match bytes.get(12..) {
            Some([b'V', b'P', b'8', b'X', _, _, _, _, _, _, _, _, size @ ..])
                if size.len() >= 6 =>
            {
                let side = |at: usize| {
                    1 + u64::from(u32::from_le_bytes([size[at], size[at + 1], size[at + 2], 0]))
                };
                side(0) * side(3)
            }
            _ => limits.pixels,
        };
        found.walk(bytes.get(12..).unwrap_or_default(), canvas.min(limits.pixels))?;
        Ok(found)
    }

    fn walk(&mut self, mut bytes: &'a [u8], most_pixels: u64) -> Result<()> {
        while let Some((head, rest)) = bytes.split_first_chunk::<8>() {
            let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
            let data = &rest[..len.min(rest.len())];
            match &head[..4] {
                b"VP8 " => {
                    // A tag, a start code, width and height.
                    if let Some(&[w0, w1, h0, h1]) = data.get(6..10) {
                        let side = |a, b| u64::from(u16::from_le_bytes([a, b]) & 0x3FFF);
                        let (width, height) = (side(w0, w1), side(h0, h1));
                        if width * height > most_pixels {
                            return Err(Error::data(format!(
                                "damaged WebP: a frame claims to be {width}x{height}, larger than \
                                 the image or than {PIXELS} allows"
                            )));
                        }
                    }
                }
                b"VP8L" | b"ALPH" => {
                    self.layered = true;
                    self.tables += 320 * data.len() as u64;
                }
                // One that is cut short, or claims to be, is none.
                b"EXIF" if self.exif.is_none() && data.len() == len => self.exif = Some(data),
                b"ANMF" => {
                    self.layered = true;
                    self.walk(data.get(16..).unwrap_or_default(), most_pixels)?;
                }
                _ => {}
            }
            bytes = rest.get(len.saturating_add(len % 2)..).unwrap_or_default();
        }
        Ok(())
    }

    /// What its decoder holds beside the image.
    fn beside(&self, width: u64, height: u64) -> u64 {
        // Frames are stored in blocks of 16×16, their codes in partitions: one that claims to be
        // longer than the file, up to 2^24 bytes, is found out when it is read.
        let stored = width.next_multiple_of(16) * height.next_multiple_of(16);
        let layers = 14 * stored + self.tables.min(65_536 * 5 * 4096);
        (1 << 24) + 4 * self.encoded + if self.layered { layers } else { 3 * stored }
    }
}
