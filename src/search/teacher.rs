//! Whether a search's teacher can rank anything. A search finds the nets that resemble the
//! teacher; where the teacher gives all images nearly the same embedding, every net does, and
//! the scores still have an order and a winner.
//!
//! The teacher embeds the first of the search's images, and these z are judged as training judges
//! those of a batch ([`Scatter`], [`Health`]). It is z that is judged whatever features a search
//! compares: z is what was trained.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cx::Cx;
use crate::error::{Error, Kind, Result};
use crate::eval::Images;
use crate::files::sealed;
use crate::nn::{Feature, Subnet};
use crate::train::Health;
use crate::train::health::{COLLAPSED_SPREAD, NARROW_SPREAD, Scatter, rank_share};

/// The file in a search's folder.
pub(super) const FILE: &str = "teacher.json";
/// Images that are looked at, at most.
const MOST_IMAGES: usize = 2048;

/// A teacher as a search found it: `teacher.json`, and `teacher` in `winners.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Teacher {
    /// √D times the standard deviation of z over images, averaged over dimensions: 1 for an
    /// even spread over the sphere, 0 for one point.
    pub spread: f64,
    /// Participation ratio (tr C)²/‖C‖²_F of z: how many dimensions the images use.
    pub rank: f64,
    /// The rank that as many random directions have.
    pub expected_rank: f64,
    /// Images that were embedded.
    pub images: usize,
    /// The verdict on the embeddings.
    pub health: Health,
    /// Whether the net was never trained, in which case the verdict says little.
    pub untrained: bool,
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
        images: &Images,
        count: usize,
        trained: bool,
    ) -> Result<Self> {
        let count = count.min(MOST_IMAGES);
        let (mut z, mut dim) = (Vec::new(), 1);
        for x in images.tensors(cx, count)? {
            let value = teacher.features(cx, x?, &[Feature::Z])?.take(Feature::Z).into_value();
            dim = value.shape().c();
            z.extend(cx.download(&value)?);
        }
        if !z.iter().all(|v| v.is_finite()) {
            return Err(crate::eval::not_finite(teacher.arch()));
        }
        let Scatter { spread, rank, expected_rank, .. } = Scatter::of(&z, dim);
        let health = Health::of(spread, rank_share(rank, expected_rank));
        Ok(Self { spread, rank, expected_rank, images: count, health, untrained: !trained })
    }

    /// The `teacher.json` of a search's folder; none where a search has not come so far.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(FILE);
        path.exists().then(|| sealed::read_json_or_older(&path)).transpose()
    }

    /// Writes `teacher.json`.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        sealed::write_json(&dir.join(FILE), self)
    }

    /// Refuses a collapsed teacher unless `force` or it was never trained; says on stderr what
    /// else is wrong with it.
    ///
    /// # Errors
    /// [`Kind::Diverged`] for a collapsed one.
    pub(super) fn admit(&self, force: bool) -> Result<()> {
        if self.health == Health::Collapsed && !self.untrained && !force {
            return Err(Error::new(
                Kind::Diverged,
                format!(
                    "the teacher has collapsed: the spread of its embeddings over {} images is \
                     {:.3}, expected at least {COLLAPSED_SPREAD}, better above {NARROW_SPREAD} (1 \
                     is even, 0 is one point), so scores would rank nothing; train again (a lower \
                     train.lr, a longer train.warmup_epochs or a smaller queue help), or \
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
            "spread {:.2} (1 is even, 0 one point), rank {:.1} of about {:.0}, over {} images",
            self.spread, self.rank, self.expected_rank, self.images
        )
    }

    /// The verdict in a word: `untrained`, or the health.
    pub fn state(&self) -> &'static str {
        if self.untrained { "untrained" } else { self.health.as_str() }
    }

    /// A sentence for people where it is untrained or not healthy.
    pub fn warning(&self) -> Option<String> {
        let so = match self.health {
            _ if self.untrained => {
                "The teacher is untrained: scores say which nets are like a random net, not which \
                 are good"
            }
            Health::Healthy => return None,
            Health::Narrow => {
                "The teacher is narrow: it tells images apart little, or in few ways, so scores \
                 may not mean what they should"
            }
            Health::Collapsing => {
                "The teacher is collapsing: it gives images embeddings that lie close together, so \
                 scores and winners mean little"
            }
            Health::Collapsed => {
                "The teacher has collapsed: it gives all images nearly the same embedding, so \
                 scores and winners mean nothing"
            }
        };
        Some(format!("{so} ({})", self.numbers()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn teacher(health: Health, untrained: bool) -> Teacher {
        Teacher { spread: 0.1, rank: 3.0, expected_rank: 50.0, images: 100, health, untrained }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let refused = teacher(Health::Collapsed, false).admit(false).unwrap_err();
        assert_eq!(refused.kind(), Kind::Diverged);
        assert!(refused.to_string().contains("--force"), "{refused}");
        teacher(Health::Collapsed, false).admit(true).unwrap();
        for health in [Health::Narrow, Health::Collapsing] {
            teacher(health, false).admit(false).unwrap();
            let said = teacher(health, false).warning().unwrap();
            assert!(said.contains(health.as_str()) && said.contains("0.10"), "{said}");
        }
        assert_eq!(teacher(Health::Healthy, false).warning(), None);
        assert_eq!(teacher(Health::Healthy, false).state(), "healthy");
    }

    #[test]
    fn an_untrained_teacher_is_said_and_never_refused() {
        for health in [Health::Healthy, Health::Collapsed] {
            let teacher = teacher(health, true);
            teacher.admit(false).unwrap();
            assert!(teacher.warning().unwrap().contains("untrained"));
            assert_eq!(teacher.state(), "untrained");
            let written = serde_json::to_value(&teacher).unwrap();
            assert_eq!(written["untrained"], true);
            assert_eq!(written["health"], health.as_str());
        }
    }
}
