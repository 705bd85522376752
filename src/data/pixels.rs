//! Normalised pixels, and buffers that are used again.

use std::ops::{Deref, DerefMut};
use std::sync::mpsc::Sender;

/// Mean of ImageNet's pixels, red green blue, on [0, 1].
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Standard deviation of ImageNet's pixels, red green blue, on [0, 1].
pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// What every sample becomes: `(v − mean)/std` for `v` on [0, 1], for each channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalise {
    mean: Vec<f64>,
    /// As many.
    std: Vec<f64>,
}

impl Normalise {
    /// For a mean and a deviation of each channel, on [0, 1].
    pub fn new(mean: &[f32], std: &[f32]) -> Self {
        let exact = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect();
        Self { mean: exact(mean), std: exact(std) }
    }

    /// Scale and shift of the bytes of red, green and blue.
    pub(super) fn of_bytes(&self) -> [[f32; 3]; 2] {
        let scale = std::array::from_fn(|c| (1.0 / (255.0 * self.std[c])) as f32);
        [scale, std::array::from_fn(|c| self.shift(c))]
    }

    /// Scale and shift of a channel's values on [0, 1].
    pub(super) fn of_unit(&self, channel: usize) -> (f32, f32) {
        ((1.0 / self.std[channel]) as f32, self.shift(channel))
    }

    fn shift(&self, channel: usize) -> f32 {
        (-self.mean[channel] / self.std[channel]) as f32
    }
}

/// A batch's pixels, N×R×R×C.
pub type Pixels = Recycled<f32>;
/// The bytes of a batch's decoded images.
pub type Bytes = Recycled<u8>;

/// Values of a batch. The memory goes back to its loader when dropped, which fills it again:
/// batches are large, and fresh pages cost as much as some images.
#[derive(Debug)]
pub struct Recycled<T> {
    values: Vec<T>,
    home: Option<Sender<Vec<T>>>,
}

impl<T> Recycled<T> {
    /// Over `values`, which go to `home` when dropped.
    pub(super) fn new(values: Vec<T>, home: Sender<Vec<T>>) -> Self {
        Self { values, home: Some(home) }
    }

    /// The values, for good.
    pub fn into_vec(mut self) -> Vec<T> {
        self.home = None;
        std::mem::take(&mut self.values)
    }
}

impl<T> Deref for Recycled<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.values
    }
}

impl<T> DerefMut for Recycled<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values
    }
}

impl<T> Drop for Recycled<T> {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            // A loader that is gone needs no memory back.
            let _ = home.send(std::mem::take(&mut self.values));
        }
    }
}
