//! What a frozen subnet is worth on labelled pictures.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::baselines::{MOST_TEST, MOST_TRAIN, Plains};
use super::features::{Labelled, pass};
use super::pictures::{self, Pictures};
use super::plain::Plain;
use super::progress::Progress;
use super::{knn, linear};
use crate::data::Dataset;
use crate::device::Cx;
use crate::error::{Error, Result};
use crate::nn::{Feature, Subnet};

/// Numbers of neighbours that vote.
pub const NEIGHBOURS: [usize; 2] = [20, 200];

crate::choice! {
    /// How features are judged.
    pub enum Protocol("protocol") {
        /// Weighted vote of the nearest training pictures.
        Knn = "knn",
        /// A linear classifier trained on the frozen features.
        Linear = "linear",
    }
}

/// How to judge.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The protocol.
    pub protocol: Protocol,
    /// [`Feature::Pool`] or [`Feature::Z`].
    pub feature: Feature,
    /// Epochs of the linear classifier.
    pub epochs: usize,
    /// Seed of the linear classifier's order and held-out pictures.
    pub seed: u64,
}

/// Labelled pictures to learn from and to test on, and those that batch norms are
/// recalibrated on.
pub struct Sets {
    /// To learn from.
    pub train: Pictures,
    /// To test on.
    pub test: Pictures,
    /// For batch norms, drawn from the training data.
    pub bn: Pictures,
    /// Number of classes.
    pub classes: usize,
}

impl Sets {
    /// From a training and a test set with the same classes: `images` training pictures (all
    /// where `None`) and all test pictures, `bn_images` for batch norms, drawn from a seed.
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
        resolution: usize,
        workers: usize,
    ) -> Result<Self> {
        let classes = train.classes().len();
        if classes < 2 {
            return Err(Error::data(format!(
                "{} names {classes} class(es), expected at least 2: a folder for each class, such \
                 as train/<class>/<picture>",
                train.title()
            )));
        }
        test.relabel(train.classes())?;
        let (train, test) = (Arc::new(train), Arc::new(test));
        let take = |set: &Arc<Dataset>, count: Option<usize>| {
            let mut indices = pictures::draw(set.len(), count, seed);
            indices.sort_unstable();
            Pictures::new(set.clone(), indices, resolution, workers)
        };
        let bn = take(&train, Some(bn_images));
        Ok(Self { train: take(&train, images), test: take(&test, None), bn, classes })
    }

    /// Accuracy of always naming the most frequent class of the test pictures.
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

    /// Prepares the pictures once, for many subnets; `dir` is for what memory does not hold.
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

/// Accuracy on the test pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Verdict {
    /// With each of [`NEIGHBOURS`].
    Knn(Vec<f64>),
    /// Of a linear classifier.
    Linear(linear::Probe),
}

impl Verdict {
    /// One number: with the first of [`NEIGHBOURS`], or of the linear classifier.
    pub fn accuracy(&self) -> f64 {
        match self {
            Verdict::Knn(accuracies) => accuracies[0],
            Verdict::Linear(probe) => probe.test,
        }
    }

    /// All accuracies, by name: `k20`, `k200` or `linear`.
    pub fn accuracies(&self) -> Vec<(String, f64)> {
        match self {
            Verdict::Knn(accuracies) => {
                let named = NEIGHBOURS.iter().zip(accuracies);
                named.map(|(k, a)| (format!("k{k}"), *a)).collect()
            }
            Verdict::Linear(probe) => vec![("linear".into(), probe.test)],
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
        if let Verdict::Linear(probe) = self {
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
pub fn judge(cx: &Cx, subnet: &Subnet, sets: &Sets, options: &Options) -> Result<Verdict> {
    Ok(judge_all(cx, &[subnet], sets, options, false)?.nets.swap_remove(0))
}

/// What several nets are worth, and what is there without one.
pub struct Judged {
    /// Of each net.
    pub nets: Vec<Verdict>,
    /// Of pixels and colours, where they were asked for.
    pub plains: Option<Plains>,
}

/// Judges subnets, and pixels and colour histograms where `plain`, in one pass over the images.
pub fn judge_all(
    cx: &Cx,
    subnets: &[&Subnet],
    sets: &Sets,
    options: &Options,
    plain: bool,
) -> Result<Judged> {
    let features = |pictures: &Pictures, most: usize| -> Result<_> {
        let mut plain = plain.then(|| Plain::new(pictures.resolution(), most));
        let mut progress = Progress::new("images", pictures.len(), 0);
        let nets = pass(cx, subnets, pictures, options.feature, |batch, labels| {
            plain.iter_mut().for_each(|plain| plain.add(batch, labels));
            progress.advance(labels.len(), String::new);
        })?;
        Ok((nets, plain))
    };
    let (train, plain_train) = features(&sets.train, MOST_TRAIN)?;
    let (test, plain_test) = features(&sets.test, MOST_TEST)?;
    let verdict = |train: Labelled, test: Labelled| options.verdict(cx, train, test, sets.classes);
    let pairs = train.into_iter().zip(test);
    Ok(Judged {
        nets: pairs.map(|(train, test)| verdict(train, test)).collect::<Result<_>>()?,
        plains: match plain_train.zip(plain_test) {
            Some((train, test)) => Some(Plains::judge(train, test, verdict)?),
            None => None,
        },
    })
}

impl Options {
    /// What features are worth.
    fn verdict(&self, cx: &Cx, train: Labelled, test: Labelled, classes: usize) -> Result<Verdict> {
        match self.protocol {
            Protocol::Knn => {
                Ok(Verdict::Knn(knn::accuracy(cx, train, test, &NEIGHBOURS, classes)?))
            }
            Protocol::Linear => {
                let (epochs, seed) = (self.epochs, self.seed);
                Ok(Verdict::Linear(linear::probe(cx, train, test, classes, epochs, seed)?))
            }
        }
    }
}
