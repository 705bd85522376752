//! Label images: PNGs whose values are classes, not colours.

use std::io::Cursor;

use png::{ColorType, Decoder, Transformations};

use crate::data::guard::guarded;
use crate::data::image::check_size;
use crate::data::limits::Limits;
use crate::error::{Error, Result};

/// What a decoder may hold beside the pixels.
const BESIDE: u64 = 1 << 20;

/// A label for each pixel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelImage {
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Rows from the top, pixels from the left.
    pub labels: Vec<u8>,
}

impl LabelImage {
    /// Decodes a PNG of one channel with at most 8 bits. Of a palette the indices are labels, not
    /// the colours; values of fewer bits stay as they are.
    ///
    /// # Errors
    /// Another format, colours, 16 bits, a damaged file, one larger than the limits allow.
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Self> {
        guarded("the decoder", || decode(bytes, limits))
    }

    /// As a grey PNG of 8 bits.
    ///
    /// # Errors
    /// [`Kind::Data`](crate::Kind::Data) for a size that no PNG has.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let bad = |e: png::EncodingError| Error::data(format!("cannot write a label image: {e}"));
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.width as u32, self.height as u32);
        encoder.set_color(ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().map_err(bad)?;
        writer.write_image_data(&self.labels).map_err(bad)?;
        writer.finish().map_err(bad)?;
        Ok(bytes)
    }
}

fn decode(bytes: &[u8], limits: &Limits) -> Result<LabelImage> {
    let bad =
        |e: &dyn std::fmt::Display| Error::data(format!("expected a label image, a PNG: {e}"));
    let mut decoder = Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(Transformations::IDENTITY);
    let header = decoder.read_header_info().map_err(|e| bad(&e))?;
    let (width, height) = (header.width as usize, header.height as usize);
    check_size(width, height, limits)?;
    let bits = header.bit_depth as usize;
    let one_channel = matches!(header.color_type, ColorType::Grayscale | ColorType::Indexed);
    if !one_channel || bits > 8 {
        return Err(Error::data(format!(
            "expected a label image of one channel of at most 8 bits, grey or with a palette; found \
             {:?} of {bits} bits: write class numbers, not colours",
            header.color_type
        )));
    }
    let pixels = width as u64 * height as u64;
    decoder
        .set_limits(png::Limits { bytes: usize::try_from(pixels + BESIDE).unwrap_or(usize::MAX) });
    let mut reader = decoder.read_info().map_err(|e| bad(&e))?;
    let len = reader.output_buffer_size().ok_or_else(|| bad(&"it is too large"))?;
    let mut packed = vec![0; len];
    let frame = reader.next_frame(&mut packed).map_err(|e| bad(&e))?;
    let mut labels = Vec::with_capacity(width * height);
    let mask = (0xffu32 >> (8 - bits)) as u8;
    for row in packed.chunks_exact(frame.line_size) {
        // The first pixel has the highest bits.
        let label = |x: usize| row[x * bits / 8] >> (8 - bits - x * bits % 8) & mask;
        labels.extend((0..width).map(label));
    }
    Ok(LabelImage { width, height, labels })
}
