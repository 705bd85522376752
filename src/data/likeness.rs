//! How far the views of an image may differ before they say less of it than other images do.
//!
//! Contrastive learning asks two views of an image to be more alike than views of different
//! images. Where augmentation changes an image more than images differ from each other, the
//! embedding collapses along those directions instead (Jing et al., “Understanding dimensional
//! collapse in contrastive self-supervised learning”, 2022). Photographs of all kinds of things
//! bear strong crops; images that look alike, such as aligned objects on a plain ground, do not,
//! and their mirror images may be no more alike than two of them. Both can be measured on the
//! pixels, before training.

use std::sync::Arc;

use rayon::prelude::*;

use super::augment::with_scratch;
use super::policy::Reader;
use super::{AnyImage, CorruptPolicy, Dataset, Input, Views};
use crate::error::Result;
use crate::ops::gemm::{MatMut, MatRef, gemm};
use crate::rng::{Philox, Purpose};
use crate::signals;

/// Images that are compared, at most.
const IMAGES: usize = 256;
/// Side of the views that are compared: what nets for small images see.
const SIDE: usize = 32;
/// Least shares of an image's area that crops may take.
pub const CROPS: [f64; 8] = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];

/// How often other images are more alike than an image's own views are.
///
/// A number here is the share of pairs (i, j) of different images in which a view of image i
/// resembles a view of image j more than another view of image i: 0 where an image's views are
/// unmistakable, 0.5 where they say nothing of it. Two views resemble each other by the
/// correlation of their pixels, after each channel's mean over the view was taken away.
#[derive(Clone, Debug, PartialEq)]
pub struct Likeness {
    /// Images that were compared.
    pub images: usize,
    /// With crops of at least each share of [`CROPS`].
    pub crops: [f64; CROPS.len()],
    /// Of an image and its mirror image.
    pub flip: f64,
}

impl Likeness {
    /// Measured on a sample of a data set, drawn from a seed.
    ///
    /// # Errors
    /// Those of reading images, under the default [`CorruptPolicy`].
    pub fn measure(dataset: &Arc<Dataset>, input: &Input, seed: u64) -> Result<Self> {
        let policy = CorruptPolicy { seed, ..Default::default() };
        let reader = Reader::new(dataset.clone(), input.channels(), policy);
        let chosen = Philox::new(seed, Purpose::Subset, 2, 0).sample(dataset.len(), IMAGES);
        let sets: Vec<[Views; 2]> = CROPS
            .iter()
            .map(|&least| [0, 1].map(|_| geometry(input, least, 0.0)))
            .chain([[geometry(input, 1.0, 0.0), geometry(input, 1.0, 1.0)]])
            .collect();
        // One image at a time in each thread: all of them decoded may be more than memory holds.
        let rows = |(i, &index): (usize, &usize)| {
            signals::go_on()?;
            let (_, image) = reader.load(index)?;
            let pair = |(s, [a, b]): (usize, &[Views; 2])| {
                // Flips are compared with what they are flips of.
                let view = u16::from(s < CROPS.len());
                [rendered(&image, i, a, seed, 0), rendered(&image, i, b, seed, view)]
            };
            Ok(sets.iter().enumerate().map(pair).collect())
        };
        let images: Vec<Vec<[Vec<f32>; 2]>> =
            chosen.par_iter().enumerate().map(rows).collect::<Result<_>>()?;
        let mistaken = |s: usize| {
            let all = |k: usize| images.iter().flat_map(|sets| &sets[s][k]).copied().collect();
            let views: [Vec<f32>; 2] = [all(0), all(1)];
            confusion(&views[0], &views[1], images.len())
        };
        let crops = std::array::from_fn(mistaken);
        Ok(Self { images: images.len(), crops, flip: mistaken(CROPS.len()) })
    }
}

/// Views that change geometry alone.
fn geometry(input: &Input, crop_min: f64, flip_p: f32) -> Views {
    let crop_scale = [crop_min as f32, 1.0];
    Views { crop_scale, flip_p, ..Views::weak() }.of(input)
}

/// One view of image `i`: every channel without its mean, of unit length.
fn rendered(image: &AnyImage, i: usize, views: &Views, seed: u64, view: u16) -> Vec<f32> {
    let channels = views.mean.len();
    let mut row = vec![0.0; SIDE * SIDE * channels];
    let (width, height) = image.size();
    let params = views.draw(seed, i as u64, view, width, height);
    let normalise = views.normalise();
    with_scratch(|scratch| image.view(&params, &normalise, SIDE, scratch, &mut row));
    centre(&mut row, channels);
    row
}

fn centre(row: &mut [f32], channels: usize) {
    for channel in 0..channels {
        let values = row[channel..].iter().step_by(channels);
        let mean = values.map(|x| f64::from(*x)).sum::<f64>() / (SIDE * SIDE) as f64;
        row[channel..].iter_mut().step_by(channels).for_each(|x| *x -= mean as f32);
    }
    let norm = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt().max(1e-6);
    row.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
}

/// The share of pairs i ≠ j with aᵢ·bⱼ > aᵢ·bᵢ, ties counting half.
fn confusion(a: &[f32], b: &[f32], n: usize) -> f64 {
    if n < 2 {
        return 0.0;
    }
    let inputs = a.len() / n;
    let mut products = vec![0.0; n * n];
    let (a, b) = (MatRef::new(a, n, inputs), MatRef::new(b, n, inputs));
    gemm(1.0, a, b.t(), 0.0, MatMut::new(&mut products, n, n));
    let confused = |(i, row): (usize, &[f32])| -> f64 {
        let others = row.iter().enumerate().filter(|(j, _)| *j != i);
        let weigh = |(_, x): (usize, &f32)| match x.total_cmp(&row[i]) {
            std::cmp::Ordering::Greater => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Less => 0.0,
        };
        others.map(weigh).sum()
    };
    products.chunks_exact(n).enumerate().map(confused).sum::<f64>() / (n * (n - 1)) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::synthetic::{self, Domain};

    fn of(domain: Domain) -> Likeness {
        let dir = tempfile::tempdir().unwrap();
        synthetic::write(dir.path(), domain, [160, 0], 32, 4).unwrap();
        let train = format!("{}#train", dir.path().display());
        Likeness::measure(&Arc::new(Dataset::open(&[train]).unwrap()), &Input::rgb(SIDE), 0)
            .unwrap()
    }

    #[test]
    fn hands_are_mistaken_for_each_other_sooner_than_textures() {
        let (hands, textures) = (of(Domain::Hands), of(Domain::Textures));
        println!("{hands:?}\n{textures:?}");
        assert_eq!(hands.images, 160);
        assert!(hands.crops[0] > 0.3 && hands.crops[4] > 0.1, "{hands:?}");
        assert!(hands.crops.windows(2).all(|w| w[1] < w[0] + 0.03), "{hands:?}");
        assert!(hands.flip > 0.3, "{hands:?}");
    }

    #[test]
    fn views_that_are_the_same_are_never_mistaken() {
        let row = |hot: usize| {
            let mut row = vec![0.0; SIDE * SIDE * 3];
            row[3 * hot] = 1.0;
            centre(&mut row, 3);
            row
        };
        let rows = [row(1), row(7), row(100)].concat();
        assert_eq!(confusion(&rows, &rows, 3), 0.0);
        assert_eq!(confusion(&rows, &[row(2), row(3), row(4)].concat(), 3), 0.5);
        assert_eq!(confusion(&rows[..3072], &rows[..3072], 1), 0.0);
    }
}
