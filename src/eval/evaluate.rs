//! What a frozen subnet is worth on labelled images.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::baselines::{MOST_TEST, MOST_TRAIN, RawBaselines};
use super::classes::Confusion;
use super::details::Seen;
use super::features::{Labelled, pass};
use super::images::{self, Images};
use super::progress::Progress;
use super::raw_features::RawFeatures;
use super::{knn, linear};
use crate::cx::Cx;
use crate::data::{Dataset, Input};
use crate::error::{Error, Result};
use crate::nn::{Feature, Subnet};

/// Numbers of neighbours that vote.
pub const NEIGHBOURS: [usize; 2] = [20, 200];

crate::choice! {
    /// How features are evaluated.
    pub enum Protocol("protocol") {
        /// Weighted vote of the nearest training images.
        Knn = "knn",
        /// A linear classifier trained on the frozen features.
        Linear = "linear",
    }
}

/// How to evaluate.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The protocol.
    pub protocol: Protocol,
    /// [`Feature::Pool`] or [`Feature::Z`].
    pub feature: Feature,
    /// Epochs of the linear classifier.
    pub epochs: usize,
    /// Seed of the linear classifier's order and held-out images.
    pub seed: u64,
}

/// Labelled images to learn from and to test on, and those that batch norms are
/// recalibrated on.
pub struct Splits {
    /// To learn from.
    pub train: Images,
    /// To test on.
    pub test: Images,
    /// For batch norms, drawn from the training data.
    pub bn: Images,
    /// Number of classes.
    pub classes: usize,
}

impl Splits {
    /// From a training and a test set with the same classes: `images` training images (all
    /// where `None`) and all test images, `bn_images` for batch norms, drawn from a seed.
    ///
    /// # Errors
    /// [`crate::Kind::Data`] where the training set has fewer than two classes or the test
    /// set others.
    pub fn new(
        train: Dataset,
        mut test: Dataset,
        images: Option<usize>,
        bn_images: usize,
        seed: u64,
        input: &Input,
        workers: usize,
    ) -> Result<Self> {
        let classes = train.classes().len();
        if classes < 2 {
            return Err(Error::data(format!(
                "{} names {classes} class(es), expected at least 2: a folder for each class, such \
                 as train/<class>/<image>",
                train.title()
            )));
        }
        test.relabel(train.classes())?;
        let (train, test) = (Arc::new(train), Arc::new(test));
        let take = |set: &Arc<Dataset>, count: Option<usize>| {
            let mut indices = images::draw(set.len(), count, seed);
            indices.sort_unstable();
            Images::new(set.clone(), indices, input.clone(), workers)
        };
        let bn = take(&train, Some(bn_images));
        Ok(Self { train: take(&train, images), test: take(&test, None), bn, classes })
    }

    /// Accuracy of always naming the most frequent class of the test images.
    pub fn chance(&self) -> f64 {
        let mut counts = vec![0usize; self.classes];
        let labels = self.test.indices().iter().filter_map(|&i| self.test.dataset().label(i));
        labels.for_each(|label| counts[label] += 1);
        counts.into_iter().max().unwrap_or(0) as f64 / self.test.len().max(1) as f64
    }

    /// Accuracy of drawing each answer evenly from the classes: one over their number.
    pub fn uniform_chance(&self) -> f64 {
        1.0 / self.classes.max(1) as f64
    }

    /// Prepares the images once, for many subnets; `dir` is for what memory does not hold.
    pub fn cached(self, dir: &std::path::Path) -> Result<Self> {
        let Self { train, test, bn, classes } = self;
        Ok(Self {
            train: train.cached(dir)?,
            test: test.cached(dir)?,
            bn: bn.cached(dir)?,
            classes,
        })
    }
}

/// Standard error √(p(1 − p)/n) of a share p that was found over n images.
pub fn standard_error(p: f64, n: usize) -> f64 {
    (p * (1.0 - p) / n.max(1) as f64).max(0.0).sqrt()
}

/// The 97.5 % quantile of the standard normal distribution.
pub(crate) const Z95: f64 = 1.959_963_984_540_054;

/// 95 % confidence interval (Wilson) of a probability, of which a `share` of `n` trials is known.
pub fn wilson95(share: f64, n: u64) -> [f64; 2] {
    if n == 0 {
        return [0.0, 1.0];
    }
    let (n, z2) = (n as f64, Z95 * Z95);
    let middle = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z95 / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    [(middle - half).max(0.0), (middle + half).min(1.0)]
}

/// Accuracy on the test images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum EvalResult {
    /// With each of [`NEIGHBOURS`].
    Knn(Vec<f64>),
    /// Of a linear classifier.
    Linear(linear::Probe),
}

impl EvalResult {
    /// One number: with the first of [`NEIGHBOURS`], or of the linear classifier.
    pub fn accuracy(&self) -> f64 {
        match self {
            EvalResult::Knn(accuracies) => accuracies[0],
            EvalResult::Linear(probe) => probe.test,
        }
    }

    /// All accuracies, by name: `k20`, `k200`, or `linear` and `linear_top5`.
    pub fn accuracies(&self) -> Vec<(String, f64)> {
        match self {
            EvalResult::Knn(accuracies) => {
                let named = NEIGHBOURS.iter().zip(accuracies);
                named.map(|(k, a)| (format!("k{k}"), *a)).collect()
            }
            EvalResult::Linear(probe) => {
                vec![("linear".into(), probe.test), ("linear_top5".into(), probe.test_top5)]
            }
        }
    }

    /// `accuracy` and its `stderr` over `tests` images by name, and what else is worth knowing.
    pub fn to_json(&self, tests: usize) -> Map<String, Value> {
        let mut all = Map::new();
        let mut add = |name: &str, of: &dyn Fn(f64) -> f64| {
            let named = self.accuracies().into_iter().map(|(name, a)| (name, json!(of(a))));
            all.insert(name.into(), Value::Object(named.collect()));
        };
        add("accuracy", &|a| a);
        add("stderr", &|a| standard_error(a, tests));
        if let EvalResult::Linear(probe) = self {
            let tried = linear::LEARNING_RATES.iter().zip(&probe.held_out);
            let tried: Vec<Value> =
                tried.map(|(lr, a)| json!({"lr": lr, "held_out_accuracy": a})).collect();
            all.insert("train_accuracy".into(), json!(probe.train));
            all.insert("lr".into(), json!(probe.lr));
            all.insert("tried".into(), json!(tried));
        }
        all
    }
}

/// Judges a subnet.
pub fn evaluate(cx: &Cx, subnet: &Subnet, sets: &Splits, options: &Options) -> Result<EvalResult> {
    Ok(evaluate_all(cx, &[subnet], sets, options, Beside::default())?.nets.swap_remove(0))
}

/// What is found out beside accuracies.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside {
    /// What pixels and colour histograms are worth.
    pub raw: bool,
    /// What the report shows of the first net.
    pub details: bool,
}

/// What several nets are worth, and what is there without one.
pub struct Evaluations {
    /// Of each net.
    pub nets: Vec<EvalResult>,
    /// Which test images each net names right: with the first of [`NEIGHBOURS`], or by the linear
    /// classifier.
    pub correct: Vec<Vec<bool>>,
    /// Of pixels and colours, where they were asked for.
    pub raw: Option<RawBaselines>,
    /// Of the first net, where it was asked for.
    pub seen: Option<Seen>,
    /// Indices of the training images that were looked at, and of the test images.
    pub shown: [Vec<usize>; 2],
}

/// Judges subnets, and what else is wanted, in one pass over the images.
pub fn evaluate_all(
    cx: &Cx,
    subnets: &[&Subnet],
    sets: &Splits,
    options: &Options,
    beside: Beside,
) -> Result<Evaluations> {
    let features = |images: &Images, most: usize| -> Result<_> {
        let mut raw = beside.raw.then(|| RawFeatures::new(images.input(), most));
        let mut progress = Progress::new("images", images.len(), 0);
        let mut shown = Vec::with_capacity(images.len());
        let nets = pass(cx, subnets, images, options.feature, |batch, labels| {
            progress.advance(labels.len(), String::new);
            shown.extend(&batch.shown);
            raw.iter_mut().try_for_each(|raw| raw.add(batch, labels))
        })?;
        Ok((nets, raw, shown))
    };
    let (train, raw_train, shown_train) = features(&sets.train, MOST_TRAIN)?;
    let (test, raw_test, shown_test) = features(&sets.test, MOST_TEST)?;
    let mut all = Evaluations {
        nets: Vec::new(),
        correct: Vec::new(),
        raw: None,
        seen: None,
        shown: [shown_train, shown_test],
    };
    for (i, (train, test)) in train.into_iter().zip(test).enumerate() {
        let details = beside.details && i == 0;
        let judged = options.judge(cx, train, test, sets.classes, details)?;
        all.nets.push(judged.result);
        all.correct.push(judged.correct);
        all.seen = all.seen.or(judged.seen);
    }
    let raw = raw_train.zip(raw_test).map(|(train, test)| {
        let judge = |train, test| options.judge(cx, train, test, sets.classes, false);
        RawBaselines::evaluate(train, test, |train, test| Ok(judge(train, test)?.result))
    });
    all.raw = raw.transpose()?;
    Ok(all)
}

/// What features are worth.
struct JudgedFeatures {
    result: EvalResult,
    /// Which test images are named right.
    correct: Vec<bool>,
    seen: Option<Seen>,
}

impl Options {
    /// What features are worth, and, where `details` are wanted, what the report shows of them.
    fn judge(
        &self,
        cx: &Cx,
        mut train: Labelled,
        mut test: Labelled,
        classes: usize,
        details: bool,
    ) -> Result<JudgedFeatures> {
        match self.protocol {
            Protocol::Knn => {
                let votes = knn::votes(cx, &mut train, &mut test, &NEIGHBOURS, classes)?;
                let right = |named: &Vec<usize>| knn::right(named, &test.labels);
                let accuracies = votes.classes.iter().map(|named| knn::share(&right(named)));
                let result = EvalResult::Knn(accuracies.collect());
                let named = &votes.classes[0];
                let seen = details.then(|| -> Result<Seen> {
                    let seen = Seen::new(&test, confusion(&test.labels, named))?;
                    Ok(seen.with_neighbours((named, &votes.nearest), &test.labels, self.seed))
                });
                Ok(JudgedFeatures { result, correct: right(named), seen: seen.transpose()? })
            }
            Protocol::Linear => {
                let (epochs, seed) = (self.epochs, self.seed);
                let (probe, found) =
                    linear::probe(cx, &mut train, &mut test, classes, epochs, seed)?;
                let seen = details.then(|| Seen::new(&test, found.confusion)).transpose()?;
                Ok(JudgedFeatures { result: EvalResult::Linear(probe), correct: found.first, seen })
            }
        }
    }
}

/// How labels and answers go together.
fn confusion(labels: &[usize], named: &[usize]) -> Confusion {
    let mut counts = Confusion::new();
    for pair in labels.iter().copied().zip(named.iter().copied()) {
        *counts.entry(pair).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_wilsons_interval() {
        let near = |found: [f64; 2], expected: [f64; 2]| {
            let far = found.iter().zip(expected).any(|(a, b)| (a - b).abs() > 1e-12);
            assert!(!far, "{found:?}, scipy has {expected:?}");
        };
        // scipy.stats.binomtest(k, n).proportion_ci(method="wilson").
        near(wilson95(0.45, 100), [0.356_145_379_795_119_84, 0.547_553_970_025_578_7]);
        near(wilson95(0.0, 50), [0.0, 0.071_347_599_133_358_72]);
        near(wilson95(1.0, 50), [0.928_652_400_866_641_2, 1.0]);
        near(wilson95(0.766, 500), [0.726_948_549_468_487_6, 0.800_995_301_405_966_6]);
        assert_eq!(wilson95(0.0, 0), [0.0, 1.0]);
    }
}
