//! Images that a data set holds more than once: the same pixels, or nearly so.

use std::collections::HashMap;

use rayon::prelude::*;
use serde::Serialize;

use crate::data::augment::with_scratch;
use crate::data::resample::{Crop, Filter, Window, resize};
use crate::data::{Image, Scratch};

/// Images that are compared with each other, at most: the time grows with their square.
const COMPARED: usize = 20_000;
/// Bits of 64 in which the hashes of two images may differ that are nearly the same.
const BITS: u32 = 16;
/// Levels of 255, root mean square, by which their thumbnails may differ.
const LEVELS: u32 = 4;
/// Least spread of levels of an image that is compared: plain ones resemble all others.
const SPREAD: u8 = 16;
/// Side of a thumbnail.
const SIDE: usize = 16;
/// Pairs that are named.
const NAMED: usize = 5;

/// What an image looks like, in a few bytes.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// Of its size and its pixels.
    exact: [u8; 16],
    /// See [`gradient()`].
    gradient: u64,
    /// In grey.
    thumbnail: [u8; SIDE * SIDE],
}

impl Look {
    pub(super) fn of(image: &Image) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(image.width as u64).to_le_bytes());
        hasher.update(&image.rgb);
        let mut exact = [0; 16];
        exact.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        let thumbnail = thumbnail(image);
        Self { exact, gradient: gradient(&thumbnail), thumbnail }
    }

    fn is_plain(&self) -> bool {
        let (least, most) = (self.thumbnail.iter().min(), self.thumbnail.iter().max());
        most.zip(least).is_none_or(|(most, least)| most - least < SPREAD)
    }

    /// Whether two images are nearly the same, but not the same.
    fn resembles(&self, other: &Look) -> bool {
        if (self.gradient ^ other.gradient).count_ones() > BITS || self.exact == other.exact {
            return false;
        }
        let apart = |(a, b): (&u8, &u8)| u32::from(a.abs_diff(*b)).pow(2);
        let sum: u32 = self.thumbnail.iter().zip(&other.thumbnail).map(apart).sum();
        sum <= LEVELS * LEVELS * (SIDE * SIDE) as u32
    }
}

/// An image in grey, made as small as that.
fn thumbnail(image: &Image) -> [u8; SIDE * SIDE] {
    let whole = Crop { x: 0, y: 0, width: image.width, height: image.height };
    let window = Window { width: SIDE, height: SIDE, x: 0, y: 0 };
    with_scratch(|Scratch { resize: scratch, planes, .. }| {
        resize(image, whole, Filter::Bilinear, window, [SIDE; 2], scratch, planes);
        let plane = |c: usize, i: usize| u32::from(planes[c * SIDE * SIDE + i]);
        std::array::from_fn(|i| {
            ((299 * plane(0, i) + 587 * plane(1, i) + 114 * plane(2, i)) / 1000) as u8
        })
    })
}

/// For each of 8×8 cells, whether it is brighter than the next of its row, or the last one than
/// the first.
fn gradient(thumbnail: &[u8; SIDE * SIDE]) -> u64 {
    let cell = |x: usize, y: usize| {
        let at = 2 * y * SIDE + 2 * (x % 8);
        [at, at + 1, at + SIDE, at + SIDE + 1].iter().map(|&i| u32::from(thumbnail[i])).sum::<u32>()
    };
    (0..64).fold(0, |bits, i| bits << 1 | u64::from(cell(i % 8, i / 8) > cell(i % 8 + 1, i / 8)))
}

/// An image that was looked at: its number, its class, and what it looks like.
pub(super) type Seen = (usize, Option<usize>, Look);

/// Images of two lists, or of one list twice, that are the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Repeats {
    /// Images with the very pixels of an image before them.
    pub same: usize,
    /// Those of them that have another class than it.
    pub same_in_another_class: usize,
    /// Images that are nearly the same as one before them.
    pub nearly: usize,
    /// Images that were compared for that, each with all others.
    pub compared: usize,
    /// A few pairs of the same, by their numbers.
    pub same_pairs: Vec<[usize; 2]>,
    /// A few pairs of nearly the same.
    pub near_pairs: Vec<[usize; 2]>,
}

/// Images of a list that repeat an earlier one of it.
pub(super) fn within(seen: &[Seen]) -> Repeats {
    repeats(seen, None)
}

/// Images of `test` that repeat one of `train`.
pub(super) fn between(train: &[Seen], test: &[Seen]) -> Repeats {
    repeats(test, Some(train))
}

fn repeats(seen: &[Seen], train: Option<&[Seen]>) -> Repeats {
    let mut found = Repeats::default();
    let mut first: HashMap<[u8; 16], &Seen> = HashMap::new();
    for image in train.into_iter().flatten() {
        first.entry(image.2.exact).or_insert(image);
    }
    for image in seen {
        match first.get(&image.2.exact) {
            Some(before) => {
                found.same += 1;
                let differ = image.1.zip(before.1).is_some_and(|(a, b)| a != b);
                found.same_in_another_class += usize::from(differ && train.is_none());
                if found.same_pairs.len() < NAMED {
                    found.same_pairs.push([before.0, image.0]);
                }
            }
            None if train.is_none() => drop(first.insert(image.2.exact, image)),
            None => {}
        }
    }
    let some = spread(seen);
    let others = train.map(spread);
    found.compared = some.len();
    // The first that each resembles.
    let nearest: Vec<Option<usize>> = some
        .par_iter()
        .enumerate()
        .map(|(i, image)| {
            let before = others.as_deref().unwrap_or(&some[..i]);
            before.iter().find(|other| image.2.resembles(&other.2)).map(|other| other.0)
        })
        .collect();
    for (image, near) in some.iter().zip(nearest) {
        if let Some(near) = near {
            found.nearly += 1;
            if found.near_pairs.len() < NAMED {
                found.near_pairs.push([near, image.0]);
            }
        }
    }
    found
}

/// Images that are compared: not plain, and at most so many, spread evenly.
fn spread(seen: &[Seen]) -> Vec<&Seen> {
    let count = seen.len().min(COMPARED);
    let some = (0..count).map(|k| &seen[k * seen.len() / count]);
    some.filter(|image| !image.2.is_plain()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(width: usize, height: usize, shift: f32, noise: u8) -> Image {
        let pixel = |i: usize| {
            let at = |i: usize, side: usize| (i as f32 + 0.5) / side as f32;
            let (x, y) = (at(i % width, width), at(i / width, height));
            let value = 128.0 + 60.0 * (9.0 * x + 4.0 * y * y + shift).sin();
            value as u8 + (i * 7919 % 5) as u8 * noise
        };
        let rgb = (0..width * height).flat_map(|i| [pixel(i); 3]).collect();
        Image { width, height, rgb }
    }

    #[test]
    fn the_same_and_nearly_the_same_are_told_from_others() {
        let images = [
            wave(40, 30, 0.0, 0),
            wave(40, 30, 2.0, 0),
            wave(40, 30, 0.0, 0),
            wave(80, 60, 0.0, 1),
            wave(40, 30, 4.0, 0),
            Image { width: 5, height: 1, rgb: vec![9; 15] },
            Image { width: 4, height: 1, rgb: vec![9; 12] },
        ];
        let seen: Vec<Seen> =
            images.iter().enumerate().map(|(i, image)| (i, Some(i % 4), Look::of(image))).collect();
        let found = within(&seen);
        assert_eq!((found.same, found.same_pairs), (1, vec![[0, 2]]));
        assert_eq!((found.nearly, found.near_pairs), (1, vec![[0, 3]]));
        assert_eq!((found.same_in_another_class, found.compared), (1, 5));
        let found = between(&seen[..2], &seen[2..]);
        assert_eq!((found.same_pairs, found.near_pairs), (vec![[0, 2]], vec![[0, 3]]));
    }
}
