//! Packs a data set into one file, for `engine data pack`. The file's format is that of
//! `packed.rs`, which reads it.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::image::{Format, Image};
use super::index::NO_LABEL;
use super::packed::{CHECKSUM_BYTES, FOOTER_BYTES, MAGIC};
use super::policy::allowed_corrupt;
use super::{CorruptPolicy, Dataset};
use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::outside::printable;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder, RgbImage, imageops};
use rayon::prelude::*;

/// What [`write()`] did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Packed {
    /// Images in the file.
    #[serde(rename = "pictures")]
    pub images: usize,
    /// Images left out because they cannot be read; each was named in a warning.
    pub corrupt: usize,
    /// Images made smaller.
    pub resized: usize,
    /// Length of the file.
    pub bytes: u64,
}

/// How images are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Longer sides that exceed this are made smaller, of RGB images alone.
    pub max_side: Option<usize>,
    /// Channels that images must have.
    pub channels: usize,
}

impl Default for Form {
    fn default() -> Self {
        Self { max_side: None, channels: 3 }
    }
}

/// Packs a data set into the file `out`, which is written aside and renamed. Images keep
/// their bytes, except those whose longer side exceeds `max_side`: they are made smaller
/// (triangle filter) and stored as JPEG of quality 95, or PNG where they were lossless.
///
/// Every image is decoded once; those that cannot be read are named in a warning and left
/// out. Errors: more of them than `policy` allows, or a single one under
/// [`OnCorrupt::Stop`](super::OnCorrupt::Stop); a file that cannot be written.
pub fn write(dataset: &Dataset, out: &Path, form: Form, policy: CorruptPolicy) -> Result<Packed> {
    let mut failure = None;
    let mut packed = Packed { images: 0, corrupt: 0, resized: 0, bytes: 0 };
    let result = write_atomic(out, |file| {
        let mut writer = Writer::new(file, dataset.classes())?;
        let mut next = 0;
        while next < dataset.len() {
            let end = dataset.len().min(next + 64 * rayon::current_num_threads());
            for stored in pack_some(dataset, next..end, form) {
                match stored {
                    Ok((bytes, resized)) => {
                        packed.resized += usize::from(resized);
                        writer.push(&dataset.name(next), dataset.label(next), &bytes)?;
                    }
                    Err(e) => {
                        packed.corrupt += 1;
                        if let Err(e) = left_out(dataset.len(), packed.corrupt, e, policy) {
                            failure = Some(e);
                            return Err(std::io::Error::other("stopped"));
                        }
                    }
                }
                next += 1;
            }
        }
        packed.images = writer.offsets.len();
        packed.bytes = writer.finish()?;
        Ok(())
    });
    match failure {
        Some(e) => Err(e),
        None => result.map(|()| packed),
    }
}

fn left_out(len: usize, corrupt: usize, e: Error, policy: CorruptPolicy) -> Result<()> {
    let allowed = match policy.on_corrupt {
        super::OnCorrupt::Stop => 0,
        super::OnCorrupt::Replace => allowed_corrupt(len, policy.max_corrupt),
    };
    if corrupt > allowed || corrupt == len {
        return Err(e.context(format!(
            "{corrupt} of {len} images cannot be read, {allowed} may be; nothing was written; \
             the last reason"
        )));
    }
    tracing::warn!("left out an image that cannot be read: {e}");
    Ok(())
}

/// The bytes to store for an image, and whether it was made smaller.
type Stored = (Vec<u8>, bool);

/// What to store for the first images of a range: of at least one, and of no more than memory
/// should hold.
fn pack_some(
    dataset: &Dataset,
    range: std::ops::Range<usize>,
    form: Form,
) -> impl Iterator<Item = Result<Stored>> {
    let (first, held) = (range.start, AtomicU64::new(0));
    let most = dataset.limits().file_bytes;
    let some = range.into_par_iter().map(|i| {
        if i > first && held.load(Ordering::Relaxed) > most {
            return None;
        }
        let stored = stored_bytes(dataset, i, form);
        let bytes = stored.as_ref().map_or(0, |(bytes, _)| bytes.len());
        held.fetch_add(bytes as u64, Ordering::Relaxed);
        Some(stored)
    });
    some.collect::<Vec<_>>().into_iter().map_while(|stored| stored)
}

fn stored_bytes(dataset: &Dataset, i: usize, form: Form) -> Result<Stored> {
    let Form { max_side, channels } = form;
    if channels != 3 {
        return stored_bands(dataset, i, form);
    }
    // Making it smaller takes up to 16 bytes a pixel.
    let beside = if max_side.is_some() { 16 } else { 0 };
    let read = || {
        let encoded = dataset.encoded(i)?;
        let image = dataset.decode(i, &encoded.bytes, beside)?;
        Ok((encoded, image))
    };
    let (encoded, image) = read().map_err(|e: Error| e.context(printable(&dataset.describe(i))))?;
    let format = dataset.format(i, &encoded.bytes);
    let (image, _permit) = image.into_parts();
    let longer = image.width.max(image.height);
    match max_side {
        Some(max) if longer > max => Ok((encode(shrink(image, max)?, format)?, true)),
        _ if format.is_some_and(Format::is_raw) => Ok((encode(raw(image)?, format)?, false)),
        _ => Ok((encoded.bytes, false)),
    }
}

/// The file's own bytes: they hold what no encoder here does.
fn stored_bands(dataset: &Dataset, i: usize, Form { max_side, channels }: Form) -> Result<Stored> {
    let read = || {
        let encoded = dataset.encoded(i)?;
        let (width, height) = dataset.decode_as(i, &encoded.bytes, channels)?.size();
        let longer = width.max(height);
        match max_side.filter(|max| longer > *max) {
            Some(max) => Err(Error::data(format!(
                "its longer side has {longer} pixels, and only RGB images are made smaller; expected \
                 at most {max}, or no --max-side"
            ))),
            None => match dataset.format(i, &encoded.bytes).is_some_and(Format::is_raw) {
                true => Err(Error::data(
                    "a packed file holds its records as RGB: pack without --channels",
                )),
                false => Ok((encoded.bytes, false)),
            },
        }
    };
    read().map_err(|e: Error| e.context(printable(&dataset.describe(i))))
}

fn raw(image: Image) -> Result<RgbImage> {
    RgbImage::from_raw(image.width as u32, image.height as u32, image.rgb)
        .ok_or_else(|| Error::data("its pixels do not fill its size"))
}

fn shrink(image: Image, max_side: usize) -> Result<RgbImage> {
    let longer = image.width.max(image.height) as f64;
    let side = |s: usize| ((s as f64 * max_side as f64 / longer).round() as u32).max(1);
    let (width, height) = (side(image.width), side(image.height));
    Ok(imageops::resize(&raw(image)?, width, height, imageops::FilterType::Triangle))
}

fn encode(image: RgbImage, format: Option<Format>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let (width, height) = image.dimensions();
    let colour = ExtendedColorType::Rgb8;
    match format {
        Some(Format::Jpeg | Format::WebP) => {
            JpegEncoder::new_with_quality(&mut bytes, 95).write_image(&image, width, height, colour)
        }
        _ => PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive)
            .write_image(&image, width, height, colour),
    }
    .map_err(|e| Error::data(format!("cannot encode an image of {width}x{height}: {e}")))?;
    Ok(bytes)
}

/// Writes a packed file from its first byte to its last.
struct Writer<'a> {
    out: &'a mut dyn Write,
    at: u64,
    classes: &'a [String],
    offsets: Vec<(u64, u32, u32)>,
    name_ends: Vec<u64>,
    names: String,
}

impl<'a> Writer<'a> {
    fn new(out: &'a mut dyn Write, classes: &'a [String]) -> std::io::Result<Self> {
        out.write_all(MAGIC)?;
        let at = MAGIC.len() as u64;
        let (offsets, name_ends, names) = (Vec::new(), Vec::new(), String::new());
        Ok(Self { out, at, classes, offsets, name_ends, names })
    }

    fn push(&mut self, name: &str, label: Option<usize>, bytes: &[u8]) -> std::io::Result<()> {
        let len = u32::try_from(bytes.len())
            .map_err(|_| std::io::Error::other(format!("{name} is larger than 4 GiB")))?;
        self.out.write_all(&blake3::hash(bytes).as_bytes()[..CHECKSUM_BYTES])?;
        self.out.write_all(bytes)?;
        let offset = self.at + CHECKSUM_BYTES as u64;
        self.at = offset + u64::from(len);
        self.offsets.push((offset, len, label.map_or(NO_LABEL, |l| l as u32)));
        self.names.push_str(name);
        self.name_ends.push(self.names.len() as u64);
        Ok(())
    }

    /// Writes index and footer; returns the length of the file.
    fn finish(self) -> std::io::Result<u64> {
        let mut index = Vec::with_capacity(self.offsets.len() * 24 + self.names.len() + 4096);
        index.extend((self.offsets.len() as u64).to_le_bytes());
        index.extend((self.classes.len() as u64).to_le_bytes());
        for class in self.classes {
            index.extend((class.len() as u32).to_le_bytes());
            index.extend(class.as_bytes());
        }
        for ((offset, len, label), end) in self.offsets.iter().zip(&self.name_ends) {
            index.extend(offset.to_le_bytes());
            index.extend(len.to_le_bytes());
            index.extend(label.to_le_bytes());
            index.extend(end.to_le_bytes());
        }
        index.extend(self.names.as_bytes());
        self.out.write_all(&index)?;
        self.out.write_all(&(index.len() as u64).to_le_bytes())?;
        self.out.write_all(blake3::hash(&index).as_bytes())?;
        self.out.write_all(MAGIC)?;
        Ok(self.at + (index.len() + FOOTER_BYTES) as u64)
    }
}
