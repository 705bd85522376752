//! Images of other than three channels: grey ones, and those of instruments with up to sixteen bands.
//! Their samples keep 16 bits, and views of them are made in f32: what is rounded to 8 bits for RGB
//! images, as published recipes do it, would cost most of a band that uses a twentieth of its range.

mod decode;
mod view;

use super::augment::{Scratch, render, with_scratch};
use super::pixels::Normalise;
use super::views::ViewParams;
use super::{Image, Input};

pub(super) use self::decode::{of_rgb, widened};

/// A decoded image of any number of channels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bands {
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Channel by channel, rows from the top: `channels·width·height` samples, 65535 meaning 1.
    pub samples: Vec<u16>,
}

impl Bands {
    pub(super) fn planes(&self) -> impl ExactSizeIterator<Item = &[u16]> {
        self.samples.chunks_exact((self.width * self.height).max(1))
    }
}

/// A decoded image, as a net of so many channels reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnyImage {
    /// For three.
    Rgb(Image),
    /// For any other number.
    Bands(Bands),
}

impl AnyImage {
    /// Width and height.
    pub fn size(&self) -> (usize, usize) {
        match self {
            Self::Rgb(image) => (image.width, image.height),
            Self::Bands(bands) => (bands.width, bands.height),
        }
    }

    /// Bytes of its samples.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Rgb(image) => image.bytes(),
            Self::Bands(bands) => 2 * bands.samples.len() as u64,
        }
    }

    /// Makes one view: `out` becomes `side`×`side`×channels, normalised.
    pub(super) fn view(
        &self,
        params: &ViewParams,
        normalise: &Normalise,
        side: usize,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        match self {
            Self::Rgb(image) => render(image, params, normalise, side, scratch, out),
            Self::Bands(bands) => view::render(bands, params, normalise, side, out),
        }
    }

    /// One view, side×side×channels, normalised.
    pub fn view_alone(&self, params: &ViewParams, input: &Input) -> Vec<f32> {
        let mut out = vec![0.0; input.elems()];
        let normalise = input.normalise();
        with_scratch(|scratch| self.view(params, &normalise, input.side, scratch, &mut out));
        out
    }

    /// The image as a net sees it when it is not trained: resized, and cut to the centre.
    pub(super) fn centre_into(
        &self,
        normalise: &Normalise,
        side: usize,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        match self {
            Self::Rgb(image) => super::eval::centre(image, normalise, side, scratch, out),
            Self::Bands(bands) => view::centre(bands, normalise, side, out),
        }
    }

    /// Mean and mean square of each channel, on [0, 1].
    pub(super) fn moments(&self) -> Vec<[f64; 2]> {
        match self {
            Self::Rgb(image) => image.moments().to_vec(),
            Self::Bands(bands) => bands.planes().map(moments).collect(),
        }
    }

    /// RGB for people to look at: the image itself, else its first three bands, or its only one, from
    /// each band's least to its largest value.
    pub fn shown(&self) -> Image {
        let bands = match self {
            Self::Rgb(image) => return image.clone(),
            Self::Bands(bands) => bands,
        };
        let planes: Vec<Vec<u8>> = bands.planes().take(3).map(stretched).collect();
        let of = |c: usize| if planes.len() < 3 { &planes[0] } else { &planes[c] };
        let rgb = (0..bands.width * bands.height).flat_map(|i| [0, 1, 2].map(|c| of(c)[i]));
        Image { width: bands.width, height: bands.height, rgb: rgb.collect() }
    }
}

/// Whole numbers until the end.
fn moments(plane: &[u16]) -> [f64; 2] {
    let (mut sum, mut square) = (0u64, 0u128);
    for &v in plane {
        sum += u64::from(v);
        square += u128::from(v) * u128::from(v);
    }
    let n = plane.len() as f64;
    [sum as f64 / n / 65_535.0, square as f64 / n / 65_535.0_f64.powi(2)]
}

fn stretched(plane: &[u16]) -> Vec<u8> {
    let (least, most) = plane.iter().fold((u16::MAX, 0), |(a, b), &v| (a.min(v), b.max(v)));
    let range = u32::from(most.saturating_sub(least)).max(1);
    plane.iter().map(|&v| (u32::from(v - least) * 255 / range) as u8).collect()
}
