//! What nets read.

use super::Image;
use super::pixels::{IMAGENET_MEAN, IMAGENET_STD, Normalise};

/// The shortest decimals that are these numbers: 0.485 is 0.4850000143051147 in single precision.
pub fn decimals(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| v.to_string().parse().unwrap_or(f64::from(*v))).collect()
}

/// What nets read: square images of so many channels, normalised.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Height and width, in pixels.
    pub side: usize,
    /// Mean that is subtracted from each channel, of values on [0, 1].
    pub mean: Vec<f32>,
    /// Deviation that each channel is then divided by; as many as there are means.
    pub std: Vec<f32>,
}

impl Input {
    /// RGB, normalised as ImageNet's images are.
    pub fn rgb(side: usize) -> Self {
        Self { side, mean: IMAGENET_MEAN.to_vec(), std: IMAGENET_STD.to_vec() }
    }

    /// Channels of an image.
    pub fn channels(&self) -> usize {
        self.mean.len()
    }

    /// Values of an image.
    pub fn elems(&self) -> usize {
        self.side * self.side * self.channels()
    }

    /// The tables that samples are normalised with.
    pub fn normalise(&self) -> Normalise {
        Normalise::new(&self.mean, &self.std)
    }

    /// An RGB image, normalised: height×width×3 values.
    pub fn values(&self, image: &Image) -> Vec<f32> {
        let [scale, shift] = self.normalise().of_bytes();
        let pixels = image.rgb.as_chunks::<3>().0.iter();
        pixels
            .flat_map(|pixel| [0, 1, 2].map(|c| f32::from(pixel[c]) * scale[c] + shift[c]))
            .collect()
    }

    /// A normalised image, side×side×channels, for people to look at: RGB as it is; of other images
    /// the first three channels, or the only one, where black and white are two deviations off the
    /// mean.
    pub fn shown(&self, pixels: &[f32]) -> Image {
        let channels = self.channels();
        let byte = |share: f32| (share * 255.0).round().clamp(0.0, 255.0) as u8;
        let value = |pixel: &[f32], c: usize| match channels {
            3 => byte(pixel[c] * self.std[c] + self.mean[c]),
            1 | 2 => byte((pixel[0] + 2.0) / 4.0),
            _ => byte((pixel[c] + 2.0) / 4.0),
        };
        let pixels = pixels.chunks_exact(channels.max(1));
        let rgb = pixels.flat_map(|pixel| [0, 1, 2].map(|c| value(pixel, c))).collect();
        Image { width: self.side, height: self.side, rgb }
    }
}
