//! The proof that an export is the same net: features of real images, computed by the subnet
//! inside the supernet, by the net that was read back from the files, and, on a few images,
//! by a plain second implementation with batch norms folded into the convolutions, in f64.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::config::Origin;
use super::folded;
use super::folder::SubnetSource;
use super::model::Model;
use crate::cx::Cx;
use crate::error::{Error, Kind, Result};
use crate::files::Named;
use crate::nn::{Classifier, Feature, Subnet};
use crate::tensor::Tensor;

/// Largest relative difference that passes where nothing else is said: what rounding in f32
/// explains.
pub const TOLERANCE: f64 = 1e-4;
/// Multiply-accumulates that the folded comparison may take, which is slow: at least one
/// image is compared.
const FOLDED_MACS: u64 = 10_000_000_000;

/// `parity.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parity {
    /// Whether everything is within the tolerance.
    pub ok: bool,
    /// Largest `max_rel` that passes.
    pub tolerance: f64,
    /// Largest absolute difference of any feature in both comparisons.
    pub max_abs: f64,
    /// Largest relative difference of any feature in both comparisons.
    pub max_rel: f64,
    /// The net that was read back against the subnet inside the supernet.
    pub reloaded: Comparison,
    /// Batch norms folded into the convolutions and computed plainly in f64, from the files,
    /// against the subnet inside the supernet.
    pub folded: Comparison,
}

/// Differences on a number of images.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Images that were compared.
    pub images: usize,
    /// Difference of each feature, by name: `c2` … `c5`, `z`, `scores`.
    pub features: BTreeMap<String, Difference>,
}

/// Largest difference of one feature over all images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// max |a − b|.
    pub max_abs: f64,
    /// max |a − b| / max |a|, where a is the supernet's.
    pub max_rel: f64,
}

/// Running maxima of one feature.
#[derive(Default)]
struct Worst {
    difference: f64,
    magnitude: f64,
}

impl Worst {
    fn add(&mut self, supernet: &[f64], other: &[f64]) {
        let same = supernet.len() == other.len();
        for (a, b) in supernet.iter().zip(other) {
            let d = (a - b).abs();
            // Once NaN, always NaN: it compares false with everything.
            if d > self.difference || d.is_nan() {
                self.difference = d;
            }
            self.magnitude = self.magnitude.max(a.abs());
        }
        if !same {
            self.difference = f64::INFINITY;
        }
    }

    fn finish(&self) -> Difference {
        let rel = if self.difference == 0.0 { 0.0 } else { self.difference / self.magnitude };
        // JSON has no infinity and no NaN; both mean that nothing is alike.
        let finite = |x: f64| if x.is_finite() { x } else { f64::MAX };
        Difference { max_abs: finite(self.difference), max_rel: finite(rel) }
    }
}

/// The features that are compared.
fn wanted(model: &Model) -> Vec<Feature> {
    let mut wanted = vec![Feature::C2, Feature::C3, Feature::C4, Feature::C5];
    if model.config.head.is_some() {
        wanted.push(Feature::Z);
    }
    wanted
}

/// Compares an export that was read back (`model`; `named`: the tensors of its file) with the
/// subnet that it is of, on images [n, H, W, 3].
///
/// # Errors
/// [`Kind::Data`] where there is no image, [`Kind::Diverged`] where the net holds values that
/// are not finite. A difference beyond the tolerance is no
/// error here: see [`Parity::require`].
pub fn compare(
    cx: &Cx,
    source: &SubnetSource,
    model: &Model,
    named: &Named,
    images: &[Tensor],
    tolerance: f64,
) -> Result<Parity> {
    expect_finite(named, &source.origin)?;
    let wanted = wanted(model);
    let mut names: Vec<&str> = wanted.iter().map(|feature| feature.name()).collect();
    names.extend(model.head.is_some().then_some("scores"));
    let inside = Side {
        subnet: Subnet::with_stats(source.net, source.params, source.arch, source.stats.clone()),
        classifier: source.head.map(|head| &head.classifier),
    };
    let classifier = model.head.as_ref().map(|head| &head.classifier);
    let outside = Side { subnet: model.subnet(), classifier };
    let plain = folded::Net::new(&model.config, named)?;
    let mut most = (FOLDED_MACS / model.config.macs.max(1)).clamp(1, 4) as usize;
    let mut reloaded: Vec<Worst> = names.iter().map(|_| Worst::default()).collect();
    let mut folded: Vec<Worst> = names.iter().map(|_| Worst::default()).collect();
    let (mut compared, mut folded_images) = (0, 0);
    for x in images {
        let a = inside.values(cx, &wanted, x)?;
        let b = outside.values(cx, &wanted, x)?;
        let n = x.shape().n();
        compared += n;
        reloaded.iter_mut().zip(a.iter().zip(&b)).for_each(|(w, (a, b))| w.add(a, b));
        let [_, h, w, c] = x.shape().0;
        let x = cx.download(x)?;
        for (i, image) in x.chunks_exact(h * w * c).take(most).enumerate() {
            let c = plain.features(image, h, w);
            for ((worst, a), c) in folded.iter_mut().zip(&a).zip(&c) {
                let len = a.len() / n;
                worst.add(&a[i * len..(i + 1) * len], c);
            }
            folded_images += 1;
        }
        most = most.saturating_sub(n);
    }
    if compared == 0 {
        return Err(Error::data("no images to compare the export on: expected at least 1"));
    }
    let finish = |images: usize, worst: &[Worst]| Comparison {
        images,
        features: names.iter().zip(worst).map(|(f, w)| ((*f).to_owned(), w.finish())).collect(),
    };
    Ok(Parity::new(tolerance, finish(compared, &reloaded), finish(folded_images, &folded)))
}

/// Exit 4 where the net itself is no net: values that are not finite, of which nothing can be shown
/// to be the same.
fn expect_finite(named: &Named, origin: &Origin) -> Result<()> {
    let bad = |(_, (_, values)): &(&String, &(_, Vec<f32>))| values.iter().any(|v| !v.is_finite());
    // Statistics are computed from weights: where both are bad, the weights are the cause.
    let (stats, weights): (Vec<_>, Vec<_>) =
        named.iter().filter(bad).partition(|(name, _)| name.contains("running_"));
    let Some((name, (_, values))) = weights.first().or(stats.first()) else { return Ok(()) };
    let count = values.iter().filter(|v| !v.is_finite()).count();
    let Origin { step, preset, .. } = origin;
    Err(Error::new(
        Kind::Diverged,
        format!(
            "expected finite weights, found {count} of {} values of {name} that are NaN or \
             infinite, and {} such tensors in all, in the checkpoint of step {step} ({preset}); \
             nothing was exported: training had diverged there, or the file is damaged (engine \
             inspect shows it); export from an earlier checkpoint",
            values.len(),
            weights.len() + stats.len(),
        ),
    ))
}

/// One of two nets that are compared.
struct Side<'a> {
    subnet: Subnet<'a>,
    classifier: Option<&'a Classifier>,
}

impl Side<'_> {
    /// Values of all features of images, N×H×W×C, and the classifier's scores, where there is one.
    fn values(&self, cx: &Cx, wanted: &[Feature], x: &Tensor) -> Result<Vec<Vec<f64>>> {
        let pooled = self.classifier.map(|_| Feature::Pool);
        let all: Vec<Feature> = wanted.iter().copied().chain(pooled).collect();
        let mut out = self.subnet.features(cx, x.clone(), &all)?;
        let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect();
        let mut values = wanted
            .iter()
            .map(|feature| Ok(wide(cx.download(out.take(*feature).value())?)))
            .collect::<Result<Vec<_>>>()?;
        if let Some(classifier) = self.classifier {
            let pooled = out.take(Feature::Pool).into_value();
            values.push(wide(classifier.scores(cx, pooled)?));
        }
        Ok(values)
    }
}

impl Parity {
    fn new(tolerance: f64, reloaded: Comparison, folded: Comparison) -> Self {
        let all = || reloaded.features.values().chain(folded.features.values());
        let max_abs = all().map(|d| d.max_abs).fold(0.0, f64::max);
        let max_rel = all().map(|d| d.max_rel).fold(0.0, f64::max);
        Self { ok: max_rel <= tolerance, tolerance, max_abs, max_rel, reloaded, folded }
    }

    /// Exit 7 with the worst feature where something is beyond the tolerance.
    pub fn require(&self) -> Result<()> {
        if self.ok {
            return Ok(());
        }
        let reloaded =
            self.reloaded.features.iter().map(|d| ("the net read back from the files", d));
        let folded = self.folded.features.iter().map(|d| ("the net with folded batch norms", d));
        let worst = reloaded.chain(folded).max_by(|a, b| a.1.1.max_rel.total_cmp(&b.1.1.max_rel));
        let Some((what, (feature, worst))) = worst else { return Ok(()) };
        Err(Error::new(
            Kind::Parity,
            format!(
                "the export is not the same net: {feature} of {what} differs from the supernet's by {:.1e} \
                 ({:.1e} of its largest value), expected at most {:.1e} relative; nothing was \
                 exported. Weights of very different magnitudes or values that are not finite \
                 cause this: look at the checkpoint with engine inspect, or allow more with \
                 --tolerance",
                worst.max_abs, worst.max_rel, self.tolerance
            ),
        ))
    }
}
