//! Frozen subnets on pictures: features for use elsewhere ([`mod@embed`]), and what they are worth
//! without fine-tuning ([`judge`]: [`knn`], [`linear`]), beside what no training reaches
//! ([`baselines`]).

pub mod baselines;
pub mod embed;
pub mod features;
pub mod judge;
pub mod kept_plains;
pub mod knn;
pub mod linear;
pub mod pictures;
pub mod plain;
pub mod progress;
pub mod record;
pub mod store;

pub use baselines::{Baselines, Plains};
pub use embed::embed;
pub use features::{Labelled, extract};
pub use judge::{Protocol, Sets, Verdict};
pub use kept_plains::KeptPlains;
pub use pictures::Pictures;

use crate::error::{Error, Kind};
use crate::space::Arch;

/// Features that are no numbers.
pub fn not_finite(arch: &Arch) -> Error {
    Error::new(
        Kind::Diverged,
        format!(
            "features of {arch} are not finite: training had diverged; use an earlier checkpoint"
        ),
    )
}
