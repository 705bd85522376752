//! Normalised pixels, and buffers that are used again.

use std::ops::{Deref, DerefMut};
use std::sync::mpsc::Sender;

/// Mean of ImageNet's pixels, red green blue, on [0, 1].
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Standard deviation of ImageNet's pixels, red green blue, on [0, 1].
pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// What every byte `v` becomes: `(v/255 − mean)/std`, as `v·scale + shift` for each channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalise {
    pub(super) scale: [f32; 3],
    pub(super) shift: [f32; 3],
}

impl Normalise {
    /// For a mean and a deviation, red green blue, on [0, 1].
    pub fn new(mean: [f32; 3], std: [f32; 3]) -> Self {
        let scale = std::array::from_fn(|c| (1.0 / (255.0 * f64::from(std[c]))) as f32);
        let shift = std::array::from_fn(|c| (-f64::from(mean[c]) / f64::from(std[c])) as f32);
        Self { scale, shift }
    }
}

/// A batch's pixels, N×R×R×3.
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
