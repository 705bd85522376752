//! k nearest neighbours on frozen features: what a net knows without training anything on
//! top of it (Wu et al., "Unsupervised feature learning via non-parametric instance
//! discrimination", CVPR 2018).

pub mod checks;
mod cpu;
mod kernels;
pub mod work;

use rayon::prelude::*;

use super::features::Labelled;
use super::store::Store;
use crate::cx::{Cx, Exec};
use crate::error::{Error, Result};

/// Temperature of the vote: a neighbour with cosine s weighs exp(s / 0.07).
const TAU: f64 = 0.07;
/// A neighbour: similarity and index among the training images.
pub type Neighbour = (f32, u32);

/// Accuracy with each number of neighbours in `ks`: the share of test images that are named right, see
/// [`answers`].
///
/// # Errors
/// Those of [`answers`].
pub fn accuracy(
    cx: &Cx,
    train: Labelled,
    test: Labelled,
    ks: &[usize],
    classes: usize,
) -> Result<Vec<f64>> {
    Ok(answers(cx, train, test, ks, classes)?.iter().map(|right| share(right)).collect())
}

/// The share of test images that are named right.
pub fn share(right: &[bool]) -> f64 {
    right.iter().filter(|right| **right).count() as f64 / right.len().max(1) as f64
}

/// How test images are classified.
pub struct Votes {
    /// The class of each test image, for each number of neighbours.
    pub classes: Vec<Vec<usize>>,
    /// The nearest training images of each test image, the nearest first.
    pub nearest: Vec<Vec<Neighbour>>,
}

/// Whether each test image is named right, for each number of neighbours in `ks`. Takes the features,
/// as [`votes`] changes them.
///
/// # Errors
/// Those of [`votes`].
pub fn answers(
    cx: &Cx,
    mut train: Labelled,
    mut test: Labelled,
    ks: &[usize],
    classes: usize,
) -> Result<Vec<Vec<bool>>> {
    let votes = votes(cx, &mut train, &mut test, ks, classes)?;
    Ok(votes.classes.iter().map(|named| right(named, &test.labels)).collect())
}

/// Which images are named right.
pub fn right(named: &[usize], labels: &[usize]) -> Vec<bool> {
    named.iter().zip(labels).map(|(named, label)| named == label).collect()
}

/// The class of each test image, for each number of neighbours in `ks`: the one that gets most of the
/// weight of its k nearest training images by cosine similarity. Equal similarities are taken by
/// index, equal votes by class. Where there are fewer than k training images, all vote. Makes the
/// features rows of unit length in place: of a large set they fill much of the memory.
///
/// # Errors
/// Those of the device; training and test features of different lengths.
pub fn votes(
    cx: &Cx,
    train: &mut Labelled,
    test: &mut Labelled,
    ks: &[usize],
    classes: usize,
) -> Result<Votes> {
    let most = ks.iter().copied().max().unwrap_or(0);
    let nearest = neighbours(cx, train, test, most)?;
    let vote =
        |near: &[Neighbour], k: usize| classify(&near[..k.min(near.len())], &train.labels, classes);
    let named = |&k: &usize| nearest.par_iter().map(|near| vote(near, k)).collect();
    Ok(Votes { classes: ks.iter().map(named).collect(), nearest })
}

/// The `most` nearest training images of each test image, or all where there are fewer. Makes the
/// features rows of unit length in place.
///
/// # Errors
/// Those of [`votes`].
pub fn neighbours(
    cx: &Cx,
    train: &mut Labelled,
    test: &mut Labelled,
    most: usize,
) -> Result<Vec<Vec<Neighbour>>> {
    if train.dim != test.dim && !train.is_empty() && !test.is_empty() {
        return Err(Error::usage(format!(
            "knn: expected features of one length; found {} and {}",
            train.dim, test.dim
        )));
    }
    train.values.update(train.dim, to_unit)?;
    test.values.update(test.dim, to_unit)?;
    nearest(cx, train, test, most.min(train.len()))
}

/// The `most` (at most those there are) nearest training images of each test image,
/// sorted: equal similarities by index.
fn nearest(cx: &Cx, train: &Labelled, test: &Labelled, most: usize) -> Result<Vec<Vec<Neighbour>>> {
    let pair = Pair { queries: &test.values, keys: &train.values, dim: train.dim, most };
    match cx.exec("knn") {
        _ if most == 0 || test.is_empty() => Ok(vec![Vec::new(); test.len()]),
        Exec::DryRun => Ok(vec![Vec::new(); test.len()]),
        Exec::Cpu => cpu::nearest(&pair),
        Exec::Device(launcher) => kernels::nearest(cx, &launcher, &pair),
    }
}

/// Rows of unit length whose nearest are sought, and those they are sought among, which are read
/// once.
struct Pair<'a> {
    queries: &'a Store,
    keys: &'a Store,
    /// Length of a row.
    dim: usize,
    /// Neighbours wanted, at least one and no more than keys.
    most: usize,
}

/// Gives a row length 1.
fn to_unit(row: &mut [f32]) {
    let norm = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt().max(1e-12);
    row.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
}

/// Nearer first, then by index.
fn nearer(a: &Neighbour, b: &Neighbour) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// The class with most of the neighbours' weight; the first one where several are equal.
fn classify(near: &[Neighbour], labels: &[usize], classes: usize) -> usize {
    let mut votes = vec![0.0f64; classes];
    for &(similarity, j) in near {
        votes[labels[j as usize]] += (f64::from(similarity) / TAU).exp();
    }
    let best = (0..classes).max_by(|&a, &b| votes[a].total_cmp(&votes[b]).then(b.cmp(&a)));
    best.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::cpu::{TEST_TILE, TRAIN_TILE};
    use super::*;
    use crate::rng::{Philox, Purpose};

    fn values(x: &Labelled) -> Vec<f32> {
        x.values.read(0..x.values.elems()).unwrap()
    }

    fn accuracy(train: &Labelled, test: &Labelled, ks: &[usize], classes: usize) -> Vec<f64> {
        let [train, test] =
            [train, test].map(|x| Labelled::new(x.dim, values(x), x.labels.clone()));
        super::accuracy(&Cx::for_tests(), train, test, ks, classes).unwrap()
    }

    fn random(n: usize, dim: usize, classes: usize, stream: u64) -> Labelled {
        let mut rng = Philox::new(5, Purpose::Check, stream, 0);
        let labels: Vec<usize> = (0..n).map(|_| rng.below(classes)).collect();
        let mut values = Vec::new();
        for &label in &labels {
            values.extend((0..dim).map(|d| rng.normal() + if d == label { 1.0 } else { 0.0 }));
        }
        Labelled::new(dim, values, labels)
    }

    /// Every similarity in f64, everything sorted.
    fn brute_force(train: &Labelled, test: &Labelled, k: usize, classes: usize) -> f64 {
        let row = |x: &Labelled, i: usize| -> Vec<f64> {
            let v: Vec<f64> =
                x.values.rows(x.dim, &[i]).unwrap().into_iter().map(f64::from).collect();
            let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
            v.iter().map(|x| x / norm).collect()
        };
        let hit = |i: usize| {
            let q = row(test, i);
            let cosine = |j| row(train, j).iter().zip(&q).map(|(a, b)| a * b).sum::<f64>();
            let mut near: Vec<(f64, usize)> = (0..train.len()).map(|j| (cosine(j), j)).collect();
            near.sort_by(|a, b| b.0.total_cmp(&a.0));
            let mut votes = vec![0.0; classes];
            near[..k].iter().for_each(|(s, j)| votes[train.labels[*j]] += (s / 0.07).exp());
            let best = (0..classes).max_by(|&a, &b| votes[a].total_cmp(&votes[b])).unwrap();
            best == test.labels[i]
        };
        (0..test.len()).filter(|&i| hit(i)).count() as f64 / test.len() as f64
    }

    #[test]
    fn agrees_with_brute_force() {
        // More than one tile of both, the last ones partial.
        let (train, test) = (random(TRAIN_TILE + 300, 9, 4, 0), random(TEST_TILE + 20, 9, 4, 1));
        let found = accuracy(&train, &test, &[1, 20, 200], 4);
        for (k, found) in [1, 20, 200].into_iter().zip(found) {
            assert_eq!(found, brute_force(&train, &test, k, 4), "k = {k}");
        }
    }

    #[test]
    fn a_copy_of_the_training_data_is_recognised() {
        let train = random(300, 16, 3, 2);
        assert_eq!(accuracy(&train, &train, &[1], 3), [1.0]);
    }

    #[test]
    fn few_images_all_vote() {
        let train = random(7, 4, 3, 3);
        let all = accuracy(&train, &train, &[7, 200], 3);
        assert_eq!(all[0], all[1]);
    }

    #[test]
    fn equal_similarities_go_by_index() {
        let rows = |labels: Vec<usize>| {
            Labelled::new(2, labels.iter().flat_map(|_| [1.0, 0.0]).collect(), labels)
        };
        let train = rows(vec![2, 1, 0, 0]);
        assert_eq!(accuracy(&train, &rows(vec![2]), &[1], 3), [1.0]);
        // One vote each for 2 and 1: the first class wins.
        assert_eq!(accuracy(&train, &rows(vec![1]), &[2], 3), [1.0]);
    }
}
