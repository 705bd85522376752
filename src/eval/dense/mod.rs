//! Accuracy on dense tasks: boxes and masks of objects ([`coco`], [`voc`]), and a class for each
//! pixel ([`miou`]); [`mistakes`] names what a detector missed. Each number is that of the program that defined it, to the bit where its code
//! can be followed.

pub mod coco;
mod matching;
pub mod miou;
pub mod mistakes;
pub mod score;
pub mod voc;

use std::cmp::Ordering;

/// The mean of those that are defined (not below 0); −1 where none is.
fn mean_of_defined(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut n) = (0.0, 0u64);
    values.filter(|&value| value >= 0.0).for_each(|value| {
        sum += value;
        n += 1;
    });
    if n == 0 { UNDEFINED } else { sum / n as f64 }
}

/// What stands for a number that is not defined, as in COCO's own results.
pub const UNDEFINED: f64 = -1.0;

/// What detectors find or miss of an image's objects.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detected {
    /// Number of the image.
    pub image: usize,
    /// Number of the class.
    pub class: usize,
    /// How sure the detector is.
    pub score: f64,
    /// Pixels, by which objects count as small, medium or large.
    pub area: f64,
}

/// The order of falling scores. Those that are equal, as 0 and −0 are, stay as they were.
fn falling(a: f64, b: f64) -> Ordering {
    b.partial_cmp(&a).unwrap_or(Ordering::Equal)
}

/// The order of detections, by their positions.
fn by_score(detections: &[Detected]) -> impl Fn(&u32, &u32) -> Ordering + '_ {
    |&a, &b| falling(detections[a as usize].score, detections[b as usize].score)
}
