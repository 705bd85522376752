//! Frozen subnets on images: features for use elsewhere ([`mod@embed`]), and what they are worth
//! without fine-tuning ([`evaluate`]: [`knn`], [`linear`]), beside what no training reaches
//! ([`baselines`]). What detectors and segmenters found is scored by [`dense`].

pub mod answers;
pub mod baseline_cache;
pub mod baselines;
pub mod classes;
pub mod components;
pub mod dense;
pub mod details;
pub mod embed;
pub mod evaluate;
pub mod features;
pub mod images;
pub mod knn;
pub mod linear;
pub mod progress;
pub mod raw_features;
pub mod record;
pub mod store;

pub use baseline_cache::BaselineCache;
pub use baselines::{Baselines, RawBaselines};
pub use details::Details;
pub use embed::embed;
pub use evaluate::{EvalResult, Protocol, Splits};
pub use features::{Labelled, extract};
pub use images::Images;

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
