//! What a net makes of images that nobody has labelled.

use std::sync::Arc;

use super::Job;
use super::domains::Domain;
use crate::cli::eval::{embed_name, keep_details};
use crate::cli::source::ModelArgs;
use crate::data::Dataset;
use crate::error::Result;
use crate::eval::Images;
use crate::eval::details::Sample;
use crate::eval::images::draw;
use crate::space::Arch;

impl Job<'_> {
    /// Writes what the report shows of a domain without labels.
    pub(super) fn look(&self, domain: &Domain, arch: Arch) -> Result<()> {
        let (cx, data) = (self.cx, std::slice::from_ref(&domain.train));
        let ckpt = Some(self.out.to_path_buf());
        let model = ModelArgs { ckpt, ..ModelArgs::default() }.open(cx)?;
        let dataset = Arc::new(Dataset::open(data)?);
        let (n, seed) = (dataset.len(), self.globals.seed.unwrap_or(model.seed));
        let input = model.space().input();
        let images = |indices| Images::new(dataset.clone(), indices, input.clone(), cx.threads());
        let bn = images(draw(n, Some(self.sizes.images), seed));
        let subnet = model.subnet(cx, arch, &bn)?;
        let sample = Sample::take(cx, &subnet, &images((0..n).collect()).readable_only())?;
        let details = sample.details(cx, &model.describe(arch), (&dataset, data), seed)?;
        keep_details(&model, &embed_name(&model, data, &arch), &details)
    }
}
