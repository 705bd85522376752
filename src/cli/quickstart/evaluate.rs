//! What nets are worth on the domains, and what one makes of images that nobody has labelled.

use std::sync::Arc;

use super::Job;
use super::domains::Domain;
use super::results::{Accuracy, Won};
use crate::cli::eval::{self, EvalArgs, Evaluation, embed_name, keep_details};
use crate::cli::source::{Count, ModelArgs};
use crate::data::Dataset;
use crate::error::Result;
use crate::eval::details::Sample;
use crate::eval::evaluate::standard_error;
use crate::eval::images::draw;
use crate::eval::{Images, Protocol};
use crate::space::Arch;

impl Job<'_> {
    /// The largest net, the smallest and the winners, before and after training, on every domain
    /// with labels.
    pub(super) fn evaluate_all(
        &self,
        domains: &[Domain],
        won: &[Won],
        ends: &[Arch],
    ) -> Result<Vec<Accuracy>> {
        let mut all = Vec::new();
        for domain in domains {
            let Some(test) = &domain.test else {
                self.look(domain, ends[0])?;
                continue;
            };
            let mut archs = ends.to_vec();
            for w in won.iter().filter(|w| w.domain == domain.name) {
                if !archs.contains(&w.arch) {
                    archs.push(w.arch);
                }
            }
            self.evaluate(domain, test, &archs, &mut all)?;
        }
        Ok(all)
    }

    /// Nets before and after training on one domain, beside its pixels.
    fn evaluate(
        &self,
        domain: &Domain,
        test: &str,
        archs: &[Arch],
        all: &mut Vec<Accuracy>,
    ) -> Result<()> {
        let args = EvalArgs {
            model: ModelArgs { ckpt: Some(self.out.to_path_buf()), ..ModelArgs::default() },
            data: vec![domain.train.clone()],
            test_data: vec![test.to_owned()],
            features: "pool".into(),
            bn_images: self.sizes.images,
            images: Count::All,
            no_baselines: false,
            archs_from: None,
            limit: None,
        };
        let how = Evaluation { args: &args, protocol: Protocol::Knn, epochs: 0 };
        let (cx, globals) = (self.cx, self.globals);
        let model = args.model.open(cx)?;
        let sets = args.sets(globals, &model, cx.threads())?.cached(self.out)?;
        let mut raw = None;
        for &arch in archs {
            let found = eval::evaluate(cx, &how, globals, &model, &sets, arch, &mut raw)?;
            found.keep(&model)?;
            let untrained = found.baselines.as_ref().and_then(|b| b.untrained.as_ref().ok());
            let steps = [untrained.map(|v| (0, v)), Some((model.step, &found.verdict))];
            all.extend(steps.into_iter().flatten().map(|(step, verdict)| Accuracy {
                domain: domain.name.clone(),
                arch,
                step,
                accuracy: verdict.accuracy(),
                stderr: standard_error(verdict.accuracy(), sets.test.len()),
                pixels: raw.as_ref().map(|p| p.pixels.accuracy()),
                chance: sets.chance(),
            }));
        }
        Ok(())
    }

    /// Writes what the report shows of a domain without labels.
    fn look(&self, domain: &Domain, arch: Arch) -> Result<()> {
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
