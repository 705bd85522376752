//! TIFF: grey, RGB, CMYK and palettes of up to 16 bits a channel, in strips or tiles; of several
//! pages the first.

use std::io::Cursor;

use image::metadata::Orientation;
use tiff::ColorType;
use tiff::decoder::{BufferLayoutPreference, Decoder, DecodingResult, Limits as DecoderLimits};
use tiff::tags::Tag;

use super::{Image, Take, check_size};
use crate::data::bands::{Bands, widened};
use crate::data::limits::Limits;
use crate::error::{Error, Result};

/// Numbers of tags.
const BITS: u16 = 258;
const PHOTOMETRIC: u16 = 262;
const CHANNELS: u16 = 277;
const COLOUR_MAP: u16 = 320;
/// The last of the tags that the decoder may look at; those of metadata come behind.
const LAST_READ: u16 = 532;
/// A kind of values: text.
const TEXT: u16 = 2;
/// What the decoder holds for each of their values, at most.
const VALUE_BYTES: u64 = 48;
/// What it holds besides: buffers of fixed size, and of rows.
const AROUND_BYTES: u64 = 1 << 20;
/// The value of [`PHOTOMETRIC`] that means colours of a palette, and the one that means grey.
const PALETTE: u8 = 3;
const GREY: u8 = 1;

/// Whether a file begins as TIFF or BigTIFF does.
pub(super) fn is_tiff(bytes: &[u8]) -> bool {
    [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"].iter().any(|magic| bytes.starts_with(*magic))
}

/// What the first directory of a TIFF says, before its decoder is asked.
pub(super) struct Header<'a> {
    bytes: &'a [u8],
    big_endian: bool,
    /// Whether offsets have 64 bits (BigTIFF).
    wide: bool,
    entries: Vec<Field>,
    pub(super) further_pages: bool,
}

/// An entry of a directory.
struct Field {
    tag: u16,
    kind: u16,
    count: u64,
    /// Where its values lie.
    at: usize,
}

impl<'a> Header<'a> {
    /// Errors: it is cut short, or has values that lie outside the file.
    pub(super) fn of(bytes: &'a [u8]) -> Result<Self> {
        let wide = matches!(bytes.get(2..4), Some([43, 0] | [0, 43]));
        let big_endian = bytes.first() == Some(&b'M');
        let mut header =
            Self { bytes, big_endian, wide, entries: Vec::new(), further_pages: false };
        header.walk().ok_or_else(|| {
            Error::data("damaged TIFF: its first directory does not lie within the file")
        })?;
        Ok(header)
    }

    fn walk(&mut self) -> Option<()> {
        let (at_first, number, count_bytes, entry_bytes) =
            if self.wide { (8, 8, 8, 20) } else { (4, 4, 2, 12) };
        let start = usize::try_from(self.number(at_first, number)?).ok()?;
        let count = usize::try_from(self.number(start, count_bytes)?).ok()?;
        let first = start.checked_add(count_bytes)?;
        let end = first.checked_add(count.checked_mul(entry_bytes)?)?;
        // Also that there are no more than the file holds.
        self.bytes.get(..end)?;
        for at in (first..end).step_by(entry_bytes) {
            let tag = self.number(at, 2)? as u16;
            let kind = self.number(at + 2, 2)? as u16;
            let count = self.number(at + 4, number)?;
            let value = at + 4 + number;
            let len = count.checked_mul(size_of_kind(kind))?;
            let at = if len <= number as u64 { value as u64 } else { self.number(value, number)? };
            if at.checked_add(len)? > self.bytes.len() as u64 && tag <= LAST_READ {
                return None;
            }
            self.entries.push(Field { tag, kind, count, at: at as usize });
        }
        self.further_pages = self.number(end, number).is_some_and(|next| next != 0);
        Some(())
    }

    fn number(&self, at: usize, len: usize) -> Option<u64> {
        let bytes = self.bytes.get(at..at.checked_add(len)?)?;
        let join = |n: u64, byte: &u8| n << 8 | u64::from(*byte);
        Some(match self.big_endian {
            true => bytes.iter().fold(0, join),
            false => bytes.iter().rev().fold(0, join),
        })
    }

    fn field(&self, tag: u16) -> Option<&Field> {
        self.entries.iter().find(|field| field.tag == tag)
    }

    /// The first value of a field of whole numbers.
    fn value(&self, tag: u16) -> Option<u64> {
        let field = self.field(tag).filter(|field| field.count > 0)?;
        self.number(field.at, size_of_kind(field.kind) as usize)
    }

    /// Bits of a channel.
    pub(super) fn bits(&self) -> u64 {
        self.value(BITS).unwrap_or(1)
    }

    /// What the decoder takes for the values of fields.
    fn values_cost(&self) -> u64 {
        let read = self.entries.iter().filter(|field| field.tag <= LAST_READ);
        let cost = |field: &Field| match field.kind {
            TEXT => field.count,
            _ => field.count.saturating_mul(VALUE_BYTES),
        };
        read.map(cost).fold(0, u64::saturating_add)
    }

    /// The colours of a palette's image, where it is one: red, green and blue of each.
    fn palette(&self) -> Option<Vec<[u8; 3]>> {
        if self.value(PHOTOMETRIC) != Some(PALETTE.into()) {
            return None;
        }
        let colours = 1 << self.bits().min(8);
        let map = self.field(COLOUR_MAP).filter(|map| map.count == 3 * colours)?;
        let plane = 2 * colours as usize;
        // Writers spread 8 bits over 16 in two ways; both have them above.
        let value = |at| self.number(at, 2).map(|v| (v >> 8) as u8);
        (0..colours as usize)
            .map(|i| {
                let at = map.at + 2 * i;
                Some([value(at)?, value(at + plane)?, value(at + 2 * plane)?])
            })
            .collect()
    }

    /// The file with indices of a palette declared to be grey, which its decoder reads.
    fn declared_grey(&self) -> Option<Vec<u8>> {
        let field = self.field(PHOTOMETRIC)?;
        let low = if self.big_endian { size_of_kind(field.kind) as usize - 1 } else { 0 };
        let mut bytes = self.bytes.to_vec();
        *bytes.get_mut(field.at + low)? = GREY;
        Some(bytes)
    }
}

/// Bytes of a value; of kinds that there are not, as many as the longest.
fn size_of_kind(kind: u16) -> u64 {
    match kind {
        1 | 2 | 6 | 7 => 1,
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        _ => 8,
    }
}

/// The nearest of 8 bits.
fn to_eight(value: u16) -> u8 {
    ((u32::from(value) * 255 + 32_767) / 65_535) as u8
}

pub(super) fn decode(
    bytes: &[u8],
    limits: &Limits,
    admit: &mut Take,
) -> Result<(Image, Orientation)> {
    let header = Header::of(bytes)?;
    let values = header.values_cost() + AROUND_BYTES;
    let palette = header.palette();
    let copied = if palette.is_some() { bytes.len() as u64 } else { 0 };
    admit(values + copied, 0)?;
    match palette {
        None => pixels(bytes, values, None, limits, admit),
        Some(colours) => {
            let grey = header.declared_grey().ok_or_else(|| bad(&"its palette is damaged"))?;
            pixels(&grey, values + copied, Some(&colours), limits, admit)
        }
    }
}

fn bad(e: &dyn std::fmt::Display) -> Error {
    Error::data(format!("damaged or unsupported TIFF: {e}"))
}

/// Decodes the first page, for which `held` bytes were admitted already.
fn pixels(
    bytes: &[u8],
    held: u64,
    palette: Option<&[[u8; 3]]>,
    limits: &Limits,
    admit: &mut Take,
) -> Result<(Image, Orientation)> {
    let colours = |colour| Colours::of(colour, palette);
    let (colours, page) = Page::read(bytes, held, colours, limits, admit)?;
    let Page { width, height, layout, orientation, samples } = page;
    let rgb = match samples {
        DecodingResult::U8(samples) => colours.rgb(&samples, &layout, width, height, |v| v as u8),
        DecodingResult::U16(samples) => colours.rgb(&samples, &layout, width, height, to_eight),
        _ => None,
    };
    let rgb = rgb.ok_or_else(other_samples)?;
    Ok((Image { width, height, rgb }, orientation))
}

fn other_samples() -> Error {
    bad(&"expected whole numbers of at most 16 bits that fill its size, found other samples")
}

/// The first page's channels, of which there must be so many; none where one is wanted, and they are
/// colours. And how it is to be turned.
pub(in crate::data) fn bands(
    bytes: &[u8],
    channels: usize,
    limits: &Limits,
    admit: &mut Take,
) -> Result<Option<(Bands, Orientation)>> {
    let header = Header::of(bytes)?;
    let held = header.values_cost() + AROUND_BYTES;
    let is_palette = header.value(PHOTOMETRIC) == Some(PALETTE.into());
    let found = if is_palette { 0 } else { header.value(CHANNELS).unwrap_or(1) };
    match (channels, found) {
        (1, n) if n != 1 || header.bits() < 8 => return Ok(None),
        (wanted, n) if wanted as u64 != n => {
            let found = if is_palette { "a palette".into() } else { format!("{n}") };
            return Err(Error::data(format!("expected {wanted} channels, found {found}")));
        }
        _ => {}
    }
    let (_, page) = Page::read(bytes, held, |_| Ok(()), limits, admit)?;
    let pixels = page.width * page.height;
    let samples: Option<Vec<u16>> = match &page.samples {
        DecodingResult::U8(all) => page.planes(channels, |at| all.get(at).copied().map(widened)),
        DecodingResult::U16(all) => page.planes(channels, |at| all.get(at).copied()),
        _ => None,
    };
    let samples = samples.filter(|all| all.len() == channels * pixels).ok_or_else(other_samples)?;
    Ok(Some((Bands { width: page.width, height: page.height, samples }, page.orientation)))
}

/// The first page, as its samples are stored.
struct Page {
    width: usize,
    height: usize,
    layout: BufferLayoutPreference,
    orientation: Orientation,
    samples: DecodingResult,
}

impl Page {
    /// Reads it, where `expect` takes its colours.
    fn read<T>(
        bytes: &[u8],
        held: u64,
        expect: impl FnOnce(ColorType) -> Result<T>,
        limits: &Limits,
        admit: &mut Take,
    ) -> Result<(T, Self)> {
        let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(|e| bad(&e))?;
        let (width, height) = decoder.dimensions().map_err(|e| bad(&e))?;
        let (width, height) = (width as usize, height as usize);
        check_size(width, height, limits)?;
        let expected = expect(decoder.colortype().map_err(|e| bad(&e))?)?;
        let layout = decoder.image_buffer_layout().map_err(|e| bad(&e))?;
        let count = width as u64 * height as u64;
        // Samples, RGB, and a strip or tile as it is stored.
        let samples = layout.complete_len as u64;
        let row = layout.row_stride.map_or(0, |row| row.get() as u64);
        admit(held + samples + 3 * count + bytes.len() as u64 + 4 * row, count)?;
        let mut allowed = DecoderLimits::default();
        allowed.decoding_buffer_size = layout.complete_len;
        allowed.intermediate_buffer_size = bytes.len();
        let mut decoder = decoder.with_limits(allowed);
        let mut samples = DecodingResult::U8(Vec::new());
        let layout = decoder.read_image_to_buffer(&mut samples).map_err(|e| bad(&e))?;
        let orientation = decoder.find_tag_unsigned::<u8>(Tag::Orientation).ok().flatten();
        let orientation = orientation.and_then(Orientation::from_exif);
        let orientation = orientation.unwrap_or(Orientation::NoTransforms);
        Ok((expected, Self { width, height, layout, orientation, samples }))
    }

    /// Samples plane by plane; none where there are too few of them.
    fn planes(&self, channels: usize, at: impl Fn(usize) -> Option<u16>) -> Option<Vec<u16>> {
        let pixels = self.width * self.height;
        let planar = self.layout.planes > 1;
        let place = |c: usize, i: usize| if planar { c * pixels + i } else { i * channels + c };
        (0..channels)
            .flat_map(|c| (0..pixels).map(move |i| (c, i)))
            .map(|(c, i)| at(place(c, i)))
            .collect()
    }
}

/// How samples become colours.
struct Colours<'a> {
    /// Samples of a pixel.
    channels: usize,
    /// Bits of a sample: those of less than 8 share bytes.
    bits: u8,
    palette: Option<&'a [[u8; 3]]>,
    ink: bool,
}

impl<'a> Colours<'a> {
    /// Errors: colours that cannot become RGB.
    fn of(colour: ColorType, palette: Option<&'a [[u8; 3]]>) -> Result<Self> {
        let (channels, bits, ink) = match colour {
            ColorType::Gray(bits) => (1, bits, false),
            // Grey with alpha.
            ColorType::GrayA(bits) | ColorType::Multiband { bit_depth: bits, num_samples: 2 } => {
                (2, bits, false)
            }
            ColorType::RGB(bits) => (3, bits, false),
            ColorType::RGBA(bits) => (4, bits, false),
            ColorType::CMYK(bits) => (4, bits, true),
            ColorType::CMYKA(bits) => (5, bits, true),
            other => {
                return Err(bad(&format!(
                    "expected grey, RGB, CMYK or a palette, with alpha or without, found {other:?}; \
                     a search space of your own reads images of up to 16 channels (docs/spaces.md)"
                )));
            }
        };
        if channels > 1 && bits < 8 {
            return Err(bad(&format!("expected channels of 8 or 16 bits, found {bits}")));
        }
        Ok(Self { channels, bits, palette, ink })
    }

    /// Pixels, from samples that lie pixel by pixel or plane by plane; none where there are too
    /// few of them.
    fn rgb<T: Copy + Into<u16>>(
        &self,
        samples: &[T],
        layout: &BufferLayoutPreference,
        width: usize,
        height: usize,
        to_eight: impl Fn(u16) -> u8,
    ) -> Option<Vec<u8>> {
        let pixels = width * height;
        let sample = |at: usize| samples.get(at).map(|v| (*v).into());
        let planar = layout.planes > 1;
        let mut rgb = Vec::with_capacity(3 * pixels);
        for i in 0..pixels {
            let channel =
                |c: usize| sample(if planar { c * pixels + i } else { i * self.channels + c });
            let pixel = if self.bits < 8 {
                let (per_byte, bits) = (8 / usize::from(self.bits), usize::from(self.bits));
                let (x, y) = (i % width, i / width);
                let byte = sample(y * width.div_ceil(per_byte) + x / per_byte)?;
                let most = (1 << bits) - 1;
                let value = byte >> (8 - bits - bits * (x % per_byte)) & most;
                match self.palette {
                    Some(colours) => *colours.get(usize::from(value))?,
                    None => [(value * 255 / most) as u8; 3],
                }
            } else if let Some(colours) = self.palette {
                *colours.get(usize::from(channel(0)?))?
            } else if self.ink {
                let light = |c| Some(255 - u32::from(to_eight(channel(c)?)));
                let black = light(3)?;
                [0, 1, 2]
                    .map(light)
                    .into_iter()
                    .collect::<Option<Vec<u32>>>()
                    .map(|cmy| std::array::from_fn(|c| ((cmy[c] * black + 127) / 255) as u8))?
            } else if self.channels < 3 {
                [to_eight(channel(0)?); 3]
            } else {
                [to_eight(channel(0)?), to_eight(channel(1)?), to_eight(channel(2)?)]
            };
            rgb.extend(pixel);
        }
        Some(rgb)
    }
}
