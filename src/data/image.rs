//! Decoding: whatever the file, an RGB image of 8 bits comes out, or an error with a reason.

use std::cell::Cell;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, RgbImage};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::limits::{Limits, PIXELS};
use super::unsupported;
use crate::error::{Error, Result};

/// The formats that are read, in words.
pub(super) const FORMATS: &str = "JPEG, PNG, GIF, WebP, BMP or PNM";

/// Longest side that decoders are asked to take: what JPEG's headers can say.
const MAX_SIDE: usize = 65_535;

/// What an image's metadata (a colour profile, say) may grow to when a decoder unpacks it.
const METADATA_BYTES: u64 = 16 << 20;

/// A decoded image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Rows from the top, pixels from the left, red green blue: `3·width·height` bytes.
    pub rgb: Vec<u8>,
}

/// How an image is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// GIF, of which the first image is taken.
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
    /// What the first bytes of a file say; `None` where it is no image.
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

    /// Whether a file's name ends like an image's.
    pub fn is_image_name(name: &str) -> bool {
        const ENDINGS: [&str; 11] =
            ["jpg", "jpeg", "jpe", "jfif", "png", "gif", "webp", "bmp", "ppm", "pgm", "pnm"];
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
        ENDINGS.iter().any(|e| ending.eq_ignore_ascii_case(e))
    }

    /// Whether a file of this format says that it holds more than 8 bits a channel. They are
    /// rounded: a value v of 16 bits becomes round(255·v/65535).
    pub fn is_sixteen_bit(self, bytes: &[u8]) -> bool {
        match self {
            Format::Png => bytes.get(24) == Some(&16),
            Format::Pnm => pnm_largest(bytes).is_some_and(|largest| largest > 255),
            Format::Jpeg | Format::Gif | Format::WebP | Format::Bmp | Format::Cifar => false,
        }
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

/// The largest value that a PNM file says its samples have; none where the header is damaged.
fn pnm_largest(bytes: &[u8]) -> Option<u32> {
    const HEADER_BYTES: usize = 4096;
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(HEADER_BYTES)]);
    let lines = head.lines().map(|line| line.split('#').next().unwrap_or_default());
    let mut words = lines.flat_map(str::split_whitespace);
    match words.next()? {
        "P1" | "P4" => Some(1),
        "P7" => words.skip_while(|word| *word != "MAXVAL").nth(1)?.parse().ok(),
        _ => words.nth(2)?.parse().ok(),
    }
}

/// Told how many bytes decoding an image will take, before they are; an error ends the decoding.
pub type Admit<'a> = dyn FnMut(u64) -> Result<()> + 'a;

/// Told how many bytes decoding takes, and how many pixels there are.
type Take<'a> = dyn FnMut(u64, u64) -> Result<()> + 'a;

thread_local! {
    static DECODES: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread runs a decoder, whose panic is no fault of this program but of an image.
pub fn decodes() -> bool {
    DECODES.get()
}

impl Image {
    /// Decodes a file's bytes, whatever the format says: grey, CMYK, 16-bit and palette
    /// images become RGB of 8 bits, alpha is dropped (as PIL's `convert("RGB")` does), and
    /// the rotation that EXIF asks for is carried out.
    ///
    /// Errors ([`Kind::Data`](crate::Kind::Data)): not an image, damaged or cut short, or
    /// larger than the default [`Limits`] allow.
    pub fn decode(bytes: &[u8]) -> Result<Image> {
        Self::decode_within(bytes, &Limits::default(), 0, &mut |_| Ok(()))
    }

    /// [`Image::decode`] under limits. `admit` is told how many bytes of memory it takes, at most,
    /// before it takes them, and after it the image with `beside` bytes a pixel of the caller's;
    /// what it was told last counts.
    pub fn decode_within(
        bytes: &[u8],
        limits: &Limits,
        beside: u64,
        admit: &mut Admit,
    ) -> Result<Image> {
        let admit = &mut |taken: u64, pixels: u64| admit(taken.max((3 + beside) * pixels));
        let attempt = || match Format::sniff(bytes) {
            Some(Format::Jpeg) => decode_jpeg(bytes, limits, admit),
            Some(format) => decode_other(bytes, format, limits, admit),
            None if bytes.is_empty() => Err(Error::data("the file is empty")),
            None => Err(Error::data(match unsupported::by_bytes(bytes) {
                Some(format) => format!("it is {format}, a format that is not read"),
                None => format!("not an image: expected {FORMATS}, found other bytes"),
            })),
        };
        // The decoders are others' work on anybody's bytes: a slip of theirs is one image
        // that cannot be read, not the end of the run.
        DECODES.set(true);
        let decoded = catch_unwind(AssertUnwindSafe(attempt));
        DECODES.set(false);
        decoded
            .unwrap_or_else(|_| Err(Error::data("the decoder gave up on these bytes")))
            // Reasons of theirs may have several lines.
            .map_err(|e| {
                Error::data(e.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
            })
    }

    /// Bytes of its pixels.
    pub(super) fn bytes(&self) -> u64 {
        self.rgb.len() as u64
    }
}

/// JPEG, by zune-jpeg. Its strict mode refuses damage, but also padding between headers, which
/// cameras write and every viewer accepts: such a file is decoded leniently. Neither mode misses
/// the last few bytes of a file that is cut short, so its end is looked for here.
fn decode_jpeg(bytes: &[u8], limits: &Limits, admit: &mut Take) -> Result<Image> {
    let strict = decode_jpeg_with(bytes, true, limits, admit);
    let image = match strict {
        Err(e) if e.to_string().contains("Extra bytes between headers") => {
            decode_jpeg_with(bytes, false, limits, admit)?
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

fn decode_jpeg_with(
    bytes: &[u8],
    strict: bool,
    limits: &Limits,
    admit: &mut Take,
) -> Result<Image> {
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
    check_size(width, height, limits)?;
    // Blocks have 8×8 pixels, of which up to 4×4 make the unit that is stored. Where there are
    // several scans their coefficients, 16 bits each, stay until the last one.
    let padded = |side: usize| side.next_multiple_of(32) as u64;
    let channels = u64::from(info.components).max(2);
    admit(
        padded(width) * padded(height) * (3 + 2 * channels)
            + padded(width) * 512 * channels
            + 4 * bytes.len() as u64,
        width as u64 * height as u64,
    )?;
    let mut rgb = vec![0; width * height * 3];
    if decoder.output_buffer_size() != Some(rgb.len()) {
        return Err(bad(&"its colours cannot be turned into RGB"));
    }
    decoder.decode_into(&mut rgb).map_err(|e| bad(&e))?;
    let orientation = decoder.exif().and_then(|chunk| Orientation::from_exif_chunk(chunk));
    drop(decoder);
    oriented(Image { width, height, rgb }, orientation.unwrap_or(Orientation::NoTransforms))
}

/// Everything else, by the `image` crate.
fn decode_other(bytes: &[u8], format: Format, limits: &Limits, admit: &mut Take) -> Result<Image> {
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
    // Of 16 bits a channel this takes the nearest of 8.
    let rgb = DynamicImage::from_decoder(decoder).map_err(|e| bad(&e))?.into_rgb8();
    let image = Image { width: width as usize, height: height as usize, rgb: rgb.into_raw() };
    oriented(image, orientation.unwrap_or(Orientation::NoTransforms))
}

fn check_size(width: usize, height: usize, limits: &Limits) -> Result<()> {
    if width == 0 || height == 0 {
        return Err(Error::data(format!("its size is {width}x{height}")));
    }
    let pixels = width as u64 * height as u64;
    if width > MAX_SIDE || height > MAX_SIDE || pixels > limits.pixels {
        return Err(Error::data(format!(
            "it claims to be {width}x{height}; expected sides of at most {MAX_SIDE} and at most {} \
             pixels ({PIXELS})",
            limits.pixels
        )));
    }
    Ok(())
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
