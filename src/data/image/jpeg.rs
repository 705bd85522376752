//! JPEG.

use image::metadata::Orientation;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{Image, MAX_SIDE, Take, check_size};
use crate::data::limits::Limits;
use crate::error::{Error, Result};

/// JPEG, by zune-jpeg. Its strict mode refuses damage, but also padding between headers, which
/// cameras write and every viewer accepts: such a file is decoded leniently. Neither mode misses
/// the last few bytes of a file that is cut short, so its end is looked for here.
pub(super) fn decode(
    bytes: &[u8],
    limits: &Limits,
    admit: &mut Take,
) -> Result<(Image, Orientation)> {
    let strict = decode_with(bytes, true, limits, admit);
    let image = match strict {
        Err(e) if e.to_string().contains("Extra bytes between headers") => {
            decode_with(bytes, false, limits, admit)?
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

fn decode_with(
    bytes: &[u8],
    strict: bool,
    limits: &Limits,
    admit: &mut Take,
) -> Result<(Image, Orientation)> {
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
    Ok((Image { width, height, rgb }, orientation.unwrap_or(Orientation::NoTransforms)))
}
