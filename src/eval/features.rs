//! Features of frozen subnets, for many pictures.

use super::pictures::{Batch, Pictures};
use super::progress::Progress;
use crate::data::Dataset;
use crate::device::Cx;
use crate::error::{Error, Result};
use crate::nn::{Feature, Subnet};

/// Feature vectors and the classes of their pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct Labelled {
    /// Length of a vector.
    pub dim: usize,
    /// The vectors, one after the other.
    pub values: Vec<f32>,
    /// Class of each.
    pub labels: Vec<usize>,
}

impl Labelled {
    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// Vectors of `feature` ([`Feature::Pool`] or [`Feature::Z`]) for all pictures, with their
/// classes.
///
/// # Errors
/// [`crate::Kind::Data`] where a picture has no class, [`crate::Kind::Diverged`] where
/// features are not finite.
pub fn extract(
    cx: &Cx,
    subnet: &Subnet,
    pictures: &Pictures,
    feature: Feature,
) -> Result<Labelled> {
    let (mut values, mut labels) = (Vec::new(), Vec::with_capacity(pictures.len()));
    let mut progress = Progress::new("pictures", pictures.len(), 0);
    for batch in pictures.batches(cx, pictures.len())? {
        let Batch { shown, x, .. } = batch?;
        for &i in &shown {
            labels.push(label(pictures.dataset(), i)?);
        }
        let out = subnet.features(cx, x, &[feature])?.take(feature).into_value();
        values.extend(cx.download(&out)?);
        progress.advance(shown.len(), String::new);
    }
    let dim = values.len() / pictures.len().max(1);
    if !values.iter().all(|v| v.is_finite()) {
        return Err(super::not_finite(subnet.arch()));
    }
    Ok(Labelled { dim, values, labels })
}

fn label(dataset: &Dataset, i: usize) -> Result<usize> {
    dataset.label(i).ok_or_else(|| {
        Error::data(format!(
            "{} has no class: expected a folder for each class, such as train/<class>/<picture>",
            dataset.name(i)
        ))
    })
}
