//! Whether searches of the same candidates agree: over other images, other seeds of training, other
//! domains.

use serde::{Deserialize, Serialize};

use super::bootstrap::interval95;
use super::correlation::spearman;
use crate::rng::{Philox, Purpose};

/// How often the images are cut in halves.
const CUTS: usize = 200;

/// How two or more rankings of the same nets agree.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Consistency {
    /// Pairs of rankings that were compared.
    pub pairs: usize,
    /// Share of the pairs and budgets whose winner is the same.
    pub same_winner: f64,
    /// Mean of Spearman's ρ over pairs; null where a side is constant.
    pub spearman: Option<f64>,
    /// What holds the middle 95 % of them.
    pub middle95: Option<[f64; 2]>,
}

/// Compares rankings given as scores of the same nets, whose budgets have so many each.
fn compare<'a>(
    pairs: impl Iterator<Item = (&'a [f64], &'a [f64])>,
    sizes: &[usize],
) -> Option<Consistency> {
    let (mut count, mut same, mut rhos) = (0, 0, Vec::new());
    for (a, b) in pairs {
        count += 1;
        rhos.extend(spearman(a, b));
        let mut first = 0;
        for size in sizes {
            let own = first..(first + size).min(a.len());
            let winner = |scores: &[f64]| {
                own.clone().reduce(|best, i| if scores[i] > scores[best] { i } else { best })
            };
            same += usize::from(winner(a) == winner(b));
            first = own.end;
        }
    }
    (count > 0 && !sizes.is_empty()).then(|| Consistency {
        pairs: count,
        same_winner: same as f64 / (count * sizes.len()) as f64,
        spearman: (!rhos.is_empty()).then(|| rhos.iter().sum::<f64>() / rhos.len() as f64),
        middle95: (rhos.len() >= 20).then(|| interval95(rhos)),
    })
}

/// Every two of several searches, each with the scores of all nets. None for fewer than two.
pub fn between(searches: &[Vec<f64>], sizes: &[usize]) -> Option<Consistency> {
    let pairs = searches.iter().enumerate();
    let pairs = pairs.flat_map(|(i, a)| searches[..i].iter().map(move |b| (&b[..], &a[..])));
    compare(pairs, sizes)
}

/// One search on two halves of its images: what it would have said of others. `scores` are those of
/// each net on each image.
pub fn over_images(scores: &[&[f64]], sizes: &[usize], seed: u64) -> Option<Consistency> {
    let images = scores.first().map_or(0, |s| s.len());
    if images < 2 {
        return None;
    }
    let cut = |c: usize| {
        let order = Philox::new(seed, Purpose::Bootstrap, c as u64, 2).sample(images, images);
        let half = |part: &[usize]| -> Vec<f64> {
            let mean = |s: &&[f64]| part.iter().map(|&i| s[i]).sum::<f64>() / part.len() as f64;
            scores.iter().map(mean).collect()
        };
        let (a, b) = order.split_at(images / 2);
        [half(a), half(b)]
    };
    let cuts: Vec<[Vec<f64>; 2]> = (0..CUTS).map(cut).collect();
    compare(cuts.iter().map(|[a, b]| (&a[..], &b[..])), sizes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_searches_agree_and_opposite_ones_do_not() {
        let up: Vec<f64> = (0..6).map(f64::from).collect();
        let down: Vec<f64> = up.iter().rev().copied().collect();
        let same = between(&[up.clone(), up.clone()], &[3, 3]).unwrap();
        assert_eq!((same.pairs, same.same_winner, same.spearman), (1, 1.0, Some(1.0)));
        let other = between(&[up.clone(), down, up], &[3, 3]).unwrap();
        assert_eq!((other.pairs, other.same_winner), (3, 1.0 / 3.0));
        assert!((other.spearman.unwrap() + 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(between(&[vec![1.0]], &[1]), None);
    }

    #[test]
    fn halves_of_clear_scores_agree() {
        let images = |mean: f64| (0..40).map(|i| mean + 0.1 * f64::from(i % 7)).collect::<Vec<_>>();
        let nets: Vec<Vec<f64>> = (0..5).map(|n| images(f64::from(n))).collect();
        let nets: Vec<&[f64]> = nets.iter().map(Vec::as_slice).collect();
        let found = over_images(&nets, &[5], 1).unwrap();
        assert_eq!((found.pairs, found.same_winner, found.spearman), (CUTS, 1.0, Some(1.0)));
        assert_eq!(found.middle95, Some([1.0, 1.0]));
        assert_eq!(over_images(&[&[1.0]], &[1], 1), None);
    }
}
