//! Features of frozen subnets, for many images.

use super::images::{Batch, Images};
use super::progress::Progress;
use super::store::Store;
use crate::cx::Cx;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::nn::{Feature, Subnet};
use crate::signals;

/// Feature vectors and the classes of their images. There is one copy of them: what works on them
/// changes them in place.
pub struct Labelled {
    /// Length of a vector.
    pub dim: usize,
    /// The vectors, one after the other.
    pub values: Store,
    /// Class of each.
    pub labels: Vec<usize>,
}

impl Labelled {
    /// Vectors of `dim` numbers that lie in memory.
    pub fn new(dim: usize, values: Vec<f32>, labels: Vec<usize>) -> Self {
        Self { dim, values: values.into(), labels }
    }

    /// Some of them, in this order.
    ///
    /// # Errors
    /// Those of the file that they may lie in.
    pub fn rows(&self, rows: &[usize]) -> Result<(Vec<f32>, Vec<usize>)> {
        let labels = rows.iter().map(|&i| self.labels[i]).collect();
        Ok((self.values.rows(self.dim, rows)?, labels))
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// Vectors of `feature` ([`Feature::Pool`] or [`Feature::Z`]) for all images, with their
/// classes.
///
/// # Errors
/// [`crate::Kind::Data`] where an image has no class, [`crate::Kind::Diverged`] where
/// features are not finite.
pub fn extract(cx: &Cx, subnet: &Subnet, images: &Images, feature: Feature) -> Result<Labelled> {
    let mut progress = Progress::new("images", images.len(), 0);
    let each = |batch: &Batch, _: &[usize]| {
        progress.advance(batch.shown.len(), String::new);
        Ok(())
    };
    Ok(pass(cx, &[subnet], images, feature, each)?.swap_remove(0))
}

/// As [`extract`] for several nets, in one pass over the images; `each` sees every batch and the
/// classes of its images once the nets are done with it.
pub fn pass(
    cx: &Cx,
    subnets: &[&Subnet],
    images: &Images,
    feature: Feature,
    mut each: impl FnMut(&Batch, &[usize]) -> Result<()>,
) -> Result<Vec<Labelled>> {
    let none = || Labelled { dim: 0, values: Store::for_features(), labels: Vec::new() };
    let mut found: Vec<Labelled> = subnets.iter().map(|_| none()).collect();
    for batch in images.batches(cx, images.len())? {
        signals::go_on()?;
        let batch = batch?;
        let label = |&i: &usize| label(images.dataset(), i);
        let labels = batch.shown.iter().map(label).collect::<Result<Vec<_>>>()?;
        for (subnet, found) in subnets.iter().zip(&mut found) {
            let out = subnet.features(cx, batch.x.clone(), &[feature])?.take(feature).into_value();
            let values = cx.download(&out)?;
            if !values.iter().all(|v| v.is_finite()) {
                return Err(super::not_finite(subnet.arch()));
            }
            if found.is_empty() {
                found.dim = values.len() / labels.len().max(1);
                found.values.reserve(found.dim * images.len());
            }
            found.values.push(&values)?;
            found.labels.extend(&labels);
        }
        each(&batch, &labels)?;
    }
    Ok(found)
}

pub(super) fn label(dataset: &Dataset, i: usize) -> Result<usize> {
    dataset.label(i).ok_or_else(|| {
        Error::data(format!(
            "{} has no class: expected a folder for each class, such as train/<class>/<image>",
            dataset.name(i)
        ))
    })
}
