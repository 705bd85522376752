//! Features that need no net: what an image's pixels and colours say of its class by themselves.
//! They are computed from the images as nets see them, in the pass that computes the nets'
//! features.

use super::features::Labelled;
use super::images::Batch;
use crate::data::Input;
use crate::error::Result;

/// Pixels are taken at the nets' resolution, at most so many a side.
pub const MOST_SIDE: usize = 32;
/// Levels of each of red, green and blue in a histogram, which has BINS³ numbers.
pub const BINS: usize = 4;
/// Levels of a channel in the histograms of images that are not RGB.
const LEVELS: usize = 16;

/// Pixels and histograms of some images.
pub struct RawFeatures {
    /// R×R×C values on [0, 1] an image, R = min(resolution, [`MOST_SIDE`]).
    pub pixels: Labelled,
    /// √ of the share of an image's pixels in each of the [`BINS`]³ boxes of RGB: two images'
    /// product is then the Bhattacharyya coefficient of their histograms (Hellinger distance). Of
    /// images that are not RGB each channel has a histogram of its own.
    pub histogram: Labelled,
    input: Input,
    most: usize,
}

impl RawFeatures {
    /// Nothing yet; of images prepared as `input`, of which the first `most` are taken.
    pub fn new(input: &Input, most: usize) -> Self {
        let (side, channels) = (input.side.min(MOST_SIDE), input.channels());
        let none = |dim| Labelled::new(dim, Vec::new(), Vec::new());
        let boxes = if channels == 3 { BINS.pow(3) } else { channels * LEVELS };
        let (pixels, histogram) = (none(side * side * channels), none(boxes));
        Self { pixels, histogram, input: input.clone(), most }
    }

    /// Normalised values R×R×C on [0, 1] again.
    fn plain(&self, image: &[f32]) -> Vec<f32> {
        let Input { mean, std, .. } = &self.input;
        let value = |(i, v): (usize, &f32)| v * std[i % std.len()] + mean[i % mean.len()];
        image.iter().enumerate().map(value).collect()
    }

    /// Adds a batch's images with their classes.
    pub fn add(&mut self, batch: &Batch, labels: &[usize]) -> Result<()> {
        let (elems, channels) = (self.input.elems(), self.input.channels());
        let room = self.most - self.pixels.len();
        for (image, &label) in batch.values.chunks_exact(elems).zip(labels).take(room) {
            let plain = self.plain(image);
            self.pixels.values.push(&shrink(&plain, [self.input.side, channels], MOST_SIDE))?;
            let histogram = match channels {
                3 => histogram(&plain).to_vec(),
                _ => levels(image, channels),
            };
            self.histogram.values.push(&histogram)?;
            self.pixels.labels.push(label);
            self.histogram.labels.push(label);
        }
        Ok(())
    }
}

/// √ of the share of pixels in each of [`LEVELS`] levels of each channel of normalised values, from
/// two deviations below the mean to two above it.
fn levels(image: &[f32], channels: usize) -> Vec<f32> {
    let mut counts = vec![0u32; channels * LEVELS];
    for (i, v) in image.iter().enumerate() {
        let share = (v + 2.0) / 4.0;
        let level = ((share * LEVELS as f32).max(0.0) as usize).min(LEVELS - 1);
        counts[i % channels * LEVELS + level] += 1;
    }
    // The channels' histograms have a length of 1 together.
    let all = image.len().max(1) as f32;
    counts.iter().map(|&n| (n as f32 / all).sqrt()).collect()
}

/// An image `side`×`side`×`channels` at `most` a side, where that is less: means of the pixels of boxes
/// that are equal as far as whole pixels allow.
fn shrink(image: &[f32], [side, channels]: [usize; 2], most: usize) -> Vec<f32> {
    if side <= most {
        return image.to_vec();
    }
    let edges = |i: usize| i * side / most..(i + 1) * side / most;
    let mut out = Vec::with_capacity(most * most * channels);
    for (y, x) in (0..most * most).map(|i| (i / most, i % most)) {
        let mut sums = vec![0.0f64; channels];
        for pixel in edges(y).flat_map(|row| edges(x).map(move |column| row * side + column)) {
            let values = &image[pixel * channels..][..channels];
            sums.iter_mut().zip(values).for_each(|(s, v)| *s += f64::from(*v));
        }
        let pixels = (edges(y).len() * edges(x).len()) as f64;
        out.extend(sums.iter().map(|s| (s / pixels) as f32));
    }
    out
}

/// √ of the share of pixels in each box of RGB, [`BINS`]³ numbers of which red changes slowest.
fn histogram(rgb: &[f32]) -> [f32; BINS.pow(3)] {
    let mut counts = [0u32; BINS.pow(3)];
    for pixel in rgb.chunks_exact(3) {
        let level = |v: f32| ((v * BINS as f32).max(0.0) as usize).min(BINS - 1);
        let place = pixel.iter().fold(0, |place, &v| place * BINS + level(v));
        counts[place] += 1;
    }
    let pixels = (rgb.len() / 3).max(1) as f32;
    counts.map(|n| (n as f32 / pixels).sqrt())
}

/// Shifts every number of a vector so that its mean over `train` is 0, in both sets.
pub fn centre(train: &mut Labelled, test: &mut Labelled) -> Result<()> {
    let dim = train.dim.max(1);
    let mut sums = vec![0.0f64; dim];
    for row in train.values.pieces(dim) {
        sums.iter_mut().zip(row?).for_each(|(s, v)| *s += f64::from(v));
    }
    let n = train.len().max(1) as f64;
    let shift = |row: &mut [f32]| {
        row.iter_mut().zip(&sums).for_each(|(v, s)| *v = (f64::from(*v) - s / n) as f32);
    };
    train.values.update(dim, shift)?;
    test.values.update(dim, shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cx::Cx;
    use crate::data::{IMAGENET_MEAN, IMAGENET_STD};
    use crate::tensor::{DType, Shape};

    /// A batch of images of which each is given by its colour at (row, column).
    fn batch(side: usize, images: &[fn(usize, usize) -> [u8; 3]]) -> Batch {
        let pixels = |f: &fn(usize, usize) -> [u8; 3]| -> Vec<f32> {
            let rgb = (0..side * side).flat_map(|i| f(i / side, i % side));
            let normalised = |(i, v): (usize, u8)| {
                (f32::from(v) / 255.0 - IMAGENET_MEAN[i % 3]) / IMAGENET_STD[i % 3]
            };
            rgb.enumerate().map(normalised).collect()
        };
        let values: Vec<f32> = images.iter().flat_map(pixels).collect();
        let cx = Cx::for_tests();
        let shape = Shape::nhwc(images.len(), side, side, 3);
        let x = cx.upload(shape, DType::F32, &values).unwrap();
        Batch { span: 0..images.len(), shown: (0..images.len()).collect(), x, values }
    }

    #[test]
    fn pixels_are_colours_again_and_shrink_by_means() {
        let mut plain = RawFeatures::new(&Input::rgb(32), 9);
        plain.add(&batch(32, &[|y, x| [y as u8, x as u8, 255]]), &[4]).unwrap();
        assert_eq!((plain.pixels.dim, plain.pixels.labels.clone()), (3072, vec![4]));
        let at = plain.pixels.values.read((5 * 32 + 7) * 3..(5 * 32 + 8) * 3).unwrap();
        for (found, byte) in at.iter().zip([5.0, 7.0, 255.0]) {
            assert!((found * 255.0 - byte).abs() < 1e-3, "{found} {byte}");
        }
        // 64 a side: means of 2×2 pixels; 48: boxes of one or two pixels a side.
        let mut plain = RawFeatures::new(&Input::rgb(64), 9);
        plain.add(&batch(64, &[|y, x| [2 * y as u8, x as u8, 0]]), &[0]).unwrap();
        let at = plain.pixels.values.read((3 * 32 + 10) * 3..(3 * 32 + 10) * 3 + 2).unwrap();
        assert!((at[0] * 255.0 - 13.0).abs() < 1e-3 && (at[1] * 255.0 - 20.5).abs() < 1e-3);
        let flat = shrink(&vec![0.25; 48 * 48 * 3], [48, 3], 32);
        assert!(flat.len() == 3072 && flat.iter().all(|v| *v == 0.25));
    }

    #[test]
    fn histograms_are_roots_of_shares() {
        let mut plain = RawFeatures::new(&Input::rgb(32), 2);
        let half: fn(usize, usize) -> [u8; 3] =
            |y, _| if y < 16 { [0, 0, 0] } else { [255, 128, 64] };
        // The third image is past the most that is wanted.
        plain.add(&batch(32, &[half, |_, _| [63, 64, 191], half]), &[0, 1, 0]).unwrap();
        assert_eq!(plain.histogram.labels, [0, 1]);
        let rows: Vec<Vec<f32>> = plain.histogram.values.pieces(64).map(Result::unwrap).collect();
        let mut expected = [0.0; 64];
        (expected[0], expected[3 * 16 + 2 * 4 + 1]) = (0.5f32.sqrt(), 0.5f32.sqrt());
        assert_eq!(rows[0], expected);
        let full: Vec<usize> = (0..64).filter(|&i| rows[1][i] == 1.0).collect();
        assert_eq!(full, [6]);
    }

    #[test]
    fn the_training_mean_is_taken_from_both_sets() {
        let set = |values: &[f32]| Labelled::new(2, values.to_vec(), vec![0; values.len() / 2]);
        let (mut train, mut test) = (set(&[1.0, 10.0, 3.0, 30.0]), set(&[0.0, 0.0]));
        centre(&mut train, &mut test).unwrap();
        assert_eq!(train.values.read(0..4).unwrap(), [-1.0, -10.0, 1.0, 10.0]);
        assert_eq!(test.values.read(0..2).unwrap(), [-2.0, -20.0]);
    }
}
