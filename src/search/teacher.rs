//! Whether a search's teacher can rank anything. A search finds the nets that resemble the
//! teacher; where the teacher gives all images nearly the same embedding, every net does, and
//! the scores still have an order and a winner.
//!
//! The teacher embeds the first of the search's images. Of these z (N×D, rows of unit length):
//!
//! ```text
//! spread = √D · mean over dimensions of the deviation over images     1 even, 0 one point
//! rank   = (tr C)² / ‖C‖²_F, C their covariance                       N·D/(N + D) when isotropic
//! ```
//!
//! It is z that is judged whatever features a search compares: z is what was trained.

use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::device::Cx;
use crate::error::{Error, Kind, Result};
use crate::eval::Pictures;
use crate::files;
use crate::nn::{Feature, Subnet};

/// The file in a search's folder.
pub(super) const FILE: &str = "teacher.json";
/// Below this spread a teacher has collapsed.
const COLLAPSED_SPREAD: f64 = 0.15;
/// Below this spread it is narrow.
const NARROW_SPREAD: f64 = 0.5;
/// Below this share of an isotropic cloud's rank it is narrow.
const NARROW_RANK: f64 = 0.1;
/// Images that are looked at, at most.
const MOST_IMAGES: usize = 2048;

crate::choice! {
    /// What a teacher's embeddings say of it.
    pub enum Health("health of a teacher") {
        /// Images are spread over many dimensions.
        Healthy = "healthy",
        /// They are near each other, or lie along few directions.
        Narrow = "narrow",
        /// They are nearly one point: no score means anything.
        Collapsed = "collapsed",
        /// The net was never trained.
        Untrained = "untrained",
    }
}

/// A teacher as a search found it: `teacher.json`, and `teacher` in `winners.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Teacher {
    /// √D times the standard deviation of z over images, averaged over dimensions: 1 for an
    /// even spread over the sphere, 0 for one point.
    pub spread: f64,
    /// Participation ratio (tr C)²/‖C‖²_F of z: how many dimensions the images use.
    pub rank: f64,
    /// The rank that as many images would have if they were spread evenly, N·D/(N + D).
    pub rank_isotropic: f64,
    /// Images that were embedded.
    pub images: usize,
    /// What follows from that.
    pub health: Health,
}

impl Teacher {
    /// Embeds the first of the search's `images` with the teacher and judges the embeddings.
    /// `trained`: whether its weights were ever trained.
    ///
    /// # Errors
    /// [`Kind::Diverged`] where embeddings are not finite.
    pub(super) fn judge(
        cx: &Cx,
        teacher: &Subnet,
        pictures: &Pictures,
        images: usize,
        trained: bool,
    ) -> Result<Self> {
        let images = images.min(MOST_IMAGES);
        let (mut z, mut dim) = (Vec::new(), 1);
        for x in pictures.tensors(cx, images)? {
            let value = teacher.features(cx, x?, &[Feature::Z])?.take(Feature::Z).into_value();
            dim = value.shape().c();
            z.extend(cx.download(&value)?);
        }
        if !z.iter().all(|v| v.is_finite()) {
            return Err(crate::eval::not_finite(teacher.arch()));
        }
        let (spread, rank) = spread_and_rank(&z, images, dim);
        let (n, d) = (images as f64, dim as f64);
        let rank_isotropic = n * d / (n + d);
        let health = match trained {
            true => health(spread, rank, rank_isotropic),
            false => Health::Untrained,
        };
        Ok(Self { spread, rank, rank_isotropic, images, health })
    }

    /// The `teacher.json` of a search's folder; none where a search has not come so far.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(FILE);
        path.exists().then(|| files::read_json(&path)).transpose()
    }

    /// Writes `teacher.json`.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        files::write_json(&dir.join(FILE), self)
    }

    /// Refuses a collapsed teacher unless `force`; says on stderr what else is wrong with it.
    ///
    /// # Errors
    /// [`Kind::Diverged`] for a collapsed one.
    pub(super) fn admit(&self, force: bool) -> Result<()> {
        if self.health == Health::Collapsed && !force {
            return Err(Error::new(
                Kind::Diverged,
                format!(
                    "the teacher has collapsed: the spread of its embeddings over {} images is \
                     {:.3}, expected at least {COLLAPSED_SPREAD}, better above {NARROW_SPREAD} (1 \
                     is even, 0 is one point), so scores would rank nothing; train again (a lower \
                     train.lr, a longer train.warmup_epochs or a smaller moco.queue help), or \
                     search an earlier checkpoint; --force searches nevertheless",
                    self.images, self.spread
                ),
            ));
        }
        if let Some(warning) = self.warning() {
            tracing::warn!("{warning}");
        }
        Ok(())
    }

    /// Its numbers in words.
    pub fn numbers(&self) -> String {
        format!(
            "spread {:.2} (1 is even, 0 one point), rank {:.1} of {:.1}, over {} images",
            self.spread, self.rank, self.rank_isotropic, self.images
        )
    }

    /// A sentence for people where it is not healthy.
    pub fn warning(&self) -> Option<String> {
        let so = match self.health {
            Health::Healthy => return None,
            Health::Narrow => {
                "The teacher is narrow: it tells images apart little, or in few ways, so scores \
                 may not mean what they should"
            }
            Health::Collapsed => {
                "The teacher has collapsed: it gives all images nearly the same embedding, so \
                 scores and winners mean nothing"
            }
            Health::Untrained => {
                "The teacher is untrained: scores say which nets are like a random net, not which \
                 are good"
            }
        };
        Some(format!("{so} ({})", self.numbers()))
    }
}

fn health(spread: f64, rank: f64, rank_isotropic: f64) -> Health {
    if spread < COLLAPSED_SPREAD {
        Health::Collapsed
    } else if spread < NARROW_SPREAD || rank < NARROW_RANK * rank_isotropic {
        Health::Narrow
    } else {
        Health::Healthy
    }
}

/// Spread and participation ratio of `n` rows of `d` numbers; a cloud that is one point has
/// rank 0. Sums are in the rows' order, whatever the number of threads.
fn spread_and_rank(z: &[f32], n: usize, d: usize) -> (f64, f64) {
    let mean: Vec<f64> =
        (0..d).map(|j| (0..n).map(|i| f64::from(z[i * d + j])).sum::<f64>() / n as f64).collect();
    let centred: Vec<f64> =
        z.iter().enumerate().map(|(i, &v)| f64::from(v) - mean[i % d]).collect();
    let at = |i: usize, j: usize| centred[i * d + j];
    let variances: Vec<f64> =
        (0..d).map(|j| (0..n).map(|i| at(i, j).powi(2)).sum::<f64>() / n as f64).collect();
    let deviation = variances.iter().map(|v| v.sqrt()).sum::<f64>() / d as f64;
    let trace: f64 = variances.iter().sum();
    // The covariance and the matrix of the rows' products have the same norm: the smaller one.
    let square = |i: usize, j: usize| -> f64 {
        let product: f64 = match d <= n {
            true => (0..n).map(|k| at(k, i) * at(k, j)).sum(),
            false => (0..d).map(|k| at(i, k) * at(j, k)).sum(),
        };
        (product / n as f64).powi(2) * if i == j { 1.0 } else { 2.0 }
    };
    let rows: Vec<f64> =
        (0..d.min(n)).into_par_iter().map(|i| (0..=i).map(|j| square(i, j)).sum()).collect();
    let norm: f64 = rows.iter().sum();
    ((d as f64).sqrt() * deviation, if norm > 0.0 { trace * trace / norm } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Philox, Purpose};

    /// Unit rows: a common direction of this weight, and noise.
    fn rows(n: usize, d: usize, common: f64, dims: usize) -> Vec<f32> {
        let mut rng = Philox::new(4, Purpose::Check, 0, 0);
        let mut row = || {
            let mut v: Vec<f64> =
                (0..d).map(|j| if j < dims { f64::from(rng.normal()) } else { 0.0 }).collect();
            v[0] += common;
            let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
            v.into_iter().map(|x| (x / norm) as f32).collect::<Vec<f32>>()
        };
        (0..n).flat_map(|_| row()).collect()
    }

    fn judged(z: &[f32], n: usize, d: usize) -> (f64, f64, Health) {
        let (spread, rank) = spread_and_rank(z, n, d);
        let isotropic = (n * d) as f64 / (n + d) as f64;
        (spread, rank, health(spread, rank, isotropic))
    }

    #[test]
    fn known_values() {
        // Four corners of a square: C = diag(1, 1).
        let (spread, rank) = spread_and_rank(&[1.0, 1.0, 1.0, -1.0, -1.0, 1.0, -1.0, -1.0], 4, 2);
        assert!((spread - 2f64.sqrt()).abs() < 1e-12 && (rank - 2.0).abs() < 1e-12);
        // C = diag(4, 1): (4 + 1)² / (16 + 1); deviations 2 and 1.
        let (spread, rank) = spread_and_rank(&[2.0, 1.0, 2.0, -1.0, -2.0, 1.0, -2.0, -1.0], 4, 2);
        assert!((spread - 2f64.sqrt() * 1.5).abs() < 1e-12, "{spread}");
        assert!((rank - 25.0 / 17.0).abs() < 1e-12, "{rank}");
        // More dimensions than rows: two points lie along one direction.
        let (_, rank) = spread_and_rank(&[1.0, 0.0, 2.0, 0.0, 3.0, 1.0], 2, 3);
        assert!((rank - 1.0).abs() < 1e-12, "{rank}");
        assert_eq!(spread_and_rank(&[0.5; 12], 4, 3), (0.0, 0.0));
    }

    #[test]
    fn clouds_get_the_verdict_that_they_deserve() {
        let (n, d) = (400, 64);
        let (spread, rank, healthy) = judged(&rows(n, d, 0.0, d), n, d);
        assert!((spread - 1.0).abs() < 0.02, "{spread}");
        let isotropic = (n * d) as f64 / (n + d) as f64;
        assert!((rank / isotropic - 1.0).abs() < 0.05, "{rank} {isotropic}");
        assert_eq!(healthy, Health::Healthy);
        assert_eq!(judged(&rows(n, d, 16.0, d), n, d).2, Health::Narrow);
        assert_eq!(judged(&rows(n, d, 100.0, d), n, d).2, Health::Collapsed);
        // Far apart, but along three directions only.
        let (_, rank, narrow) = judged(&rows(n, d, 0.0, 3), n, d);
        assert!((2.0..=3.0).contains(&rank), "{rank}");
        assert_eq!(narrow, Health::Narrow);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let teacher =
            |health| Teacher { spread: 0.1, rank: 3.0, rank_isotropic: 50.0, images: 100, health };
        let refused = teacher(Health::Collapsed).admit(false).unwrap_err();
        assert_eq!(refused.kind(), Kind::Diverged);
        assert!(refused.to_string().contains("--force"), "{refused}");
        teacher(Health::Collapsed).admit(true).unwrap();
        for health in [Health::Narrow, Health::Untrained] {
            teacher(health).admit(false).unwrap();
            let said = teacher(health).warning().unwrap();
            assert!(said.contains(health.as_str()) && said.contains("0.10"), "{said}");
        }
        assert_eq!(teacher(Health::Healthy).warning(), None);
    }
}
