//! Decoding: whatever the file, an RGB image of 8 bits comes out, or an error with a reason.

mod format;
mod jpeg;
mod others;
pub(super) mod tiff;

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage, imageops};

pub use self::format::Format;
pub(super) use self::format::is_ending;
pub(super) use self::others::decoded;
use super::guard::guarded;
use super::limits::{Limits, PIXELS};
use super::unsupported;
use crate::error::{Error, Result};

/// The formats that are read, in words.
pub(super) const FORMATS: &str = "JPEG, PNG, GIF, WebP, BMP, PNM or TIFF";

/// Longest side that decoders are asked to take: what JPEG's headers can say.
const MAX_SIDE: usize = 65_535;

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

/// Told how many bytes decoding an image will take, before they are; an error ends the decoding.
pub type Admit<'a> = dyn FnMut(u64) -> Result<()> + 'a;

/// Told how many bytes decoding takes, and how many pixels there are.
type Take<'a> = dyn FnMut(u64, u64) -> Result<()> + 'a;

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
        Self::decode_as_annotated(bytes, None, limits, beside, admit)
    }

    /// The same of an image whose annotations say its `size`, width and height: where only the file's
    /// own size is that, and not the one after the rotation that EXIF asks for, it is not rotated.
    ///
    /// # Errors
    /// Those of [`Image::decode_within`]; neither has that size.
    pub(super) fn decode_as_annotated(
        bytes: &[u8],
        size: Option<(usize, usize)>,
        limits: &Limits,
        beside: u64,
        admit: &mut Admit,
    ) -> Result<Image> {
        let admit = &mut |taken: u64, pixels: u64| admit(taken.max((3 + beside) * pixels));
        let attempt = || {
            let (image, orientation) = match Format::sniff(bytes) {
                Some(Format::Jpeg) => jpeg::decode(bytes, limits, admit)?,
                Some(Format::Tiff) => tiff::decode(bytes, limits, admit)?,
                Some(format) => others::decode(bytes, format, limits, admit)?,
                None if bytes.is_empty() => return Err(Error::data("the file is empty")),
                None => {
                    return Err(Error::data(match unsupported::by_bytes(bytes) {
                        Some(format) => format!("it is {format}, a format that is not read"),
                        None => format!("not an image: expected {FORMATS}, found other bytes"),
                    }));
                }
            };
            let Some(annotated) = size else { return oriented(image, orientation) };
            let stored = (image.width, image.height);
            let shown = if swaps_sides(orientation) { (stored.1, stored.0) } else { stored };
            match annotated {
                size if size == shown => oriented(image, orientation),
                size if size == stored => Ok(image),
                (width, height) => Err(Error::data(format!(
                    "expected an image of {width}x{height} as its annotation says, found one of {}x{}{}",
                    shown.0,
                    shown.1,
                    match shown == stored {
                        true => String::new(),
                        false => format!(" ({}x{} before EXIF rotates it)", stored.0, stored.1),
                    }
                ))),
            }
        };
        guarded("the decoder", attempt)
    }

    /// The image with at most `most` pixels a side, in its shape; smaller ones stay as they are.
    ///
    /// # Errors
    /// [`Kind::Data`](crate::Kind::Data) where its pixels do not fill its size.
    pub fn within(self, most: u32) -> Result<RgbImage> {
        let (width, height) = (self.width as u32, self.height as u32);
        let longer = width.max(height).max(1);
        let whole = RgbImage::from_raw(width, height, self.rgb)
            .ok_or_else(|| Error::data("its pixels do not fill its size"))?;
        let scaled = |n: u32| (u64::from(n) * u64::from(most) / u64::from(longer)).max(1) as u32;
        Ok(match longer > most {
            true => imageops::resize(&whole, scaled(width), scaled(height), imageops::Triangle),
            false => whole,
        })
    }

    /// Mean and mean square of red, green and blue, on [0, 1]; whole numbers until the end.
    pub(super) fn moments(&self) -> [[f64; 2]; 3] {
        let (mut sum, mut square) = ([0u64; 3], [0u64; 3]);
        for row in self.rgb.chunks_exact(3 * self.width.max(1)) {
            // A row's sums fit 32 bits, which are quicker.
            let (mut s, mut q) = ([0u32; 3], [0u32; 3]);
            for pixel in row.as_chunks::<3>().0 {
                for c in 0..3 {
                    let v = u32::from(pixel[c]);
                    s[c] += v;
                    q[c] += v * v;
                }
            }
            for c in 0..3 {
                sum[c] += u64::from(s[c]);
                square[c] += u64::from(q[c]);
            }
        }
        let n = (self.width * self.height) as f64;
        std::array::from_fn(|c| [sum[c] as f64 / n / 255.0, square[c] as f64 / n / 65_025.0])
    }

    /// Bytes of its pixels.
    pub(super) fn bytes(&self) -> u64 {
        self.rgb.len() as u64
    }
}

pub(super) fn check_size(width: usize, height: usize, limits: &Limits) -> Result<()> {
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

/// Whether width becomes height.
fn swaps_sides(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
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
