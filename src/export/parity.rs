//! The proof that an export is the same net: features of real images, computed by the subnet
//! inside the supernet, by the net that was read back from the files, and, on a few images, by a
//! plain second implementation in f64, which walks the ONNX graph of each layout's file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::config::Origin;
use super::folder::SubnetSource;
use super::layers::Layers;
use super::layout::Layout;
use super::model::Model;
use super::onnx::{self, Graph, Interpreter, Normalise};
use crate::cx::Cx;
use crate::error::{Error, Kind, Result};
use crate::files::Named;
use crate::nn::{Classifier, Feature, Subnet};
use crate::tensor::Tensor;

/// Largest relative difference that passes where nothing else is said: what rounding in f32
/// explains.
pub const TOLERANCE: f64 = 1e-4;
/// Multiply-accumulates that a walk through a graph may take, which is slow: at least one image is
/// compared.
const WALKED_MACS: u64 = 10_000_000_000;

/// `parity.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parity {
    /// Whether everything is within the tolerance.
    pub ok: bool,
    /// Largest `max_rel` that passes.
    pub tolerance: f64,
    /// Largest absolute difference of any feature in all comparisons.
    pub max_abs: f64,
    /// Largest relative difference of any feature in all comparisons.
    pub max_rel: f64,
    /// The net that was read back against the subnet inside the supernet.
    pub reloaded: Comparison,
    /// Batch norms folded into the convolutions and computed plainly in f64, from the files,
    /// against the subnet inside the supernet.
    pub folded: Comparison,
    /// The same for each further layout, from its own file, read back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub layouts: BTreeMap<Layout, Comparison>,
}

/// Differences on a number of images.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Images that were compared.
    pub images: usize,
    /// Difference of each feature, by name: `c2` … `c5`, `pool`, `z`, `scores`.
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
    let mut wanted = vec![Feature::C2, Feature::C3, Feature::C4, Feature::C5, Feature::Pool];
    if model.config.head.is_some() {
        wanted.push(Feature::Z);
    }
    wanted
}

/// The name of the classifier's output.
const SCORES: &str = "scores";

/// What the subnet inside the supernet makes of a few images: what graphs are held against.
pub(super) struct Probes {
    /// Names of its features.
    names: Vec<&'static str>,
    images: Vec<Image>,
    normalise: Normalise,
}

struct Image {
    /// H×W×C, normalised.
    pixels: Vec<f32>,
    height: usize,
    width: usize,
    /// H×W×C of each feature.
    features: Vec<Vec<f64>>,
}

impl Probes {
    /// Compares a graph with the subnet, in those features that the graph has. `normalises`: it
    /// takes values in 0..1.
    ///
    /// # Errors
    /// Those of [`Interpreter::run`]; [`Kind::Data`] where an output is none of the subnet's.
    pub(super) fn compare(&self, graph: &Graph, normalises: bool) -> Result<Comparison> {
        let graph = Interpreter::new(graph)?;
        let mut worst: BTreeMap<String, Worst> = BTreeMap::new();
        let Normalise { mean, std } = &self.normalise;
        for image in &self.images {
            let pixels = image.pixels.iter().enumerate().map(|(i, &x)| match normalises {
                true => {
                    f64::from(x) * f64::from(std[i % std.len()]) + f64::from(mean[i % mean.len()])
                }
                false => f64::from(x),
            });
            let outputs = graph.run(pixels.collect(), image.height, image.width)?;
            for (name, values) in outputs {
                let name = if name == onnx::LOGITS { SCORES } else { name.as_str() };
                let Some(at) = self.names.iter().position(|n| *n == name) else {
                    return Err(Error::data(format!("a graph has the unknown output {name:?}")));
                };
                let worst = worst.entry(name.to_owned()).or_default();
                worst.add(&image.features[at], &values);
            }
        }
        let features = worst.into_iter().map(|(name, worst)| (name, worst.finish())).collect();
        Ok(Comparison { images: self.images.len(), features })
    }
}

/// Compares an export that was read back (`model`; `named`: the tensors of its file) with the
/// subnet that it is of, on images [n, H, W, 3].
///
/// # Errors
/// [`Kind::Data`] where there is no image, [`Kind::Diverged`] where the net holds values that
/// are not finite. A difference beyond the tolerance is no error here: see [`Parity::require`].
pub fn compare(
    cx: &Cx,
    source: &SubnetSource,
    model: &Model,
    named: &Named,
    images: &[Tensor],
    tolerance: f64,
) -> Result<Parity> {
    let (reloaded, probes) = compare_reloaded(cx, source, model, named, images)?;
    let folded = probes.compare(&onnx::build(&Layers::of(&model.config), named, None)?, false)?;
    Ok(Parity::new(tolerance, reloaded, folded, BTreeMap::new()))
}

/// The first half of [`compare`]; and a few of the images, for comparisons with graphs.
pub(super) fn compare_reloaded(
    cx: &Cx,
    source: &SubnetSource,
    model: &Model,
    named: &Named,
    images: &[Tensor],
) -> Result<(Comparison, Probes)> {
    expect_finite(named, &source.origin)?;
    let wanted = wanted(model);
    let mut names: Vec<&str> = wanted.iter().map(|feature| feature.name()).collect();
    names.extend(model.head.is_some().then_some(SCORES));
    let inside = Side {
        subnet: Subnet::with_stats(source.net, source.params, source.arch, source.stats.clone()),
        classifier: source.head.map(|head| &head.classifier),
    };
    let classifier = model.head.as_ref().map(|head| &head.classifier);
    let outside = Side { subnet: model.subnet(), classifier };
    let most = (WALKED_MACS / model.config.macs.max(1)).clamp(1, 4) as usize;
    let mut reloaded: Vec<Worst> = names.iter().map(|_| Worst::default()).collect();
    let (mut compared, mut probes) = (0, Vec::new());
    for x in images {
        let a = inside.values(cx, &wanted, x)?;
        let b = outside.values(cx, &wanted, x)?;
        let [n, height, width, channels] = x.shape().0;
        compared += n;
        reloaded.iter_mut().zip(a.iter().zip(&b)).for_each(|(w, (a, b))| w.add(a, b));
        let x = cx.download(x)?;
        let left = most.saturating_sub(probes.len());
        for (i, pixels) in x.chunks_exact(height * width * channels).take(left).enumerate() {
            let of_image = |a: &Vec<f64>| a[i * (a.len() / n)..(i + 1) * (a.len() / n)].to_vec();
            let features = a.iter().map(of_image).collect();
            probes.push(Image { pixels: pixels.to_vec(), height, width, features });
        }
    }
    if compared == 0 {
        return Err(Error::data("no images to compare the export on: expected at least 1"));
    }
    let features = names.iter().zip(&reloaded).map(|(f, w)| ((*f).to_owned(), w.finish()));
    let comparison = Comparison { images: compared, features: features.collect() };
    let normalise = Normalise::of(&model.config);
    Ok((comparison, Probes { names, images: probes, normalise }))
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
    let (step, space) = (origin.step, &origin.preset.name);
    Err(Error::new(
        Kind::Diverged,
        format!(
            "expected finite weights, found {count} of {} values of {name} that are NaN or \
             infinite, and {} such tensors in all, in the checkpoint of step {step} ({space}); \
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
        let mut out = self.subnet.features(cx, x.clone(), wanted)?;
        let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect();
        let mut values = wanted
            .iter()
            .map(|feature| Ok(wide(cx.download(out.get(*feature).value())?)))
            .collect::<Result<Vec<_>>>()?;
        if let Some(classifier) = self.classifier {
            let pooled = out.take(Feature::Pool).into_value();
            values.push(wide(classifier.scores(cx, pooled)?));
        }
        Ok(values)
    }
}

impl Parity {
    pub(super) fn new(
        tolerance: f64,
        reloaded: Comparison,
        folded: Comparison,
        layouts: BTreeMap<Layout, Comparison>,
    ) -> Self {
        let mut parity =
            Self { ok: false, tolerance, max_abs: 0.0, max_rel: 0.0, reloaded, folded, layouts };
        let largest = |of: fn(&Difference) -> f64| {
            parity.all().iter().map(|(_, _, d)| of(d)).fold(0.0, f64::max)
        };
        let (max_abs, max_rel) = (largest(|d| d.max_abs), largest(|d| d.max_rel));
        parity.max_abs = max_abs;
        parity.max_rel = max_rel;
        parity.ok = max_rel <= tolerance;
        parity
    }

    /// All differences: of which net, in words; of which feature; how large.
    fn all(&self) -> Vec<(String, &str, &Difference)> {
        let mut nets = vec![
            ("the net read back from the files".to_owned(), &self.reloaded),
            ("the net with folded batch norms".to_owned(), &self.folded),
        ];
        nets.extend(self.layouts.iter().map(|(layout, c)| (format!("layout {layout}"), c)));
        let mut all = Vec::new();
        for (what, comparison) in nets {
            let each = comparison.features.iter();
            all.extend(each.map(|(feature, d)| (what.clone(), feature.as_str(), d)));
        }
        all
    }

    /// Exit 7 with the worst feature where something is beyond the tolerance.
    pub fn require(&self) -> Result<()> {
        if self.ok {
            return Ok(());
        }
        let all = self.all();
        let worst = all.iter().max_by(|a, b| a.2.max_rel.total_cmp(&b.2.max_rel));
        let Some((what, feature, worst)) = worst else { return Ok(()) };
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
