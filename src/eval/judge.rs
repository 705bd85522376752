//! What a frozen subnet is worth on labelled pictures.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::features::extract;
use super::pictures::{self, Pictures};
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

/// Accuracy on the test pictures.
#[derive(Clone, Debug, PartialEq)]
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

    /// `accuracy` by name, and what else is worth knowing.
    pub fn to_json(&self) -> Map<String, Value> {
        let value = match self {
            Verdict::Knn(accuracies) => {
                let named = NEIGHBOURS.iter().zip(accuracies);
                let named: Map<String, Value> =
                    named.map(|(k, a)| (format!("k{k}"), json!(a))).collect();
                json!({"accuracy": named})
            }
            Verdict::Linear(probe) => {
                let tried = linear::LEARNING_RATES.iter().zip(&probe.held_out);
                let tried: Vec<Value> =
                    tried.map(|(lr, a)| json!({"lr": lr, "held_out_accuracy": a})).collect();
                json!({
                    "accuracy": {"linear": probe.test},
                    "train_accuracy": probe.train,
                    "lr": probe.lr,
                    "tried": tried,
                })
            }
        };
        value.as_object().cloned().unwrap_or_default()
    }
}

/// Judges a subnet.
pub fn judge(cx: &Cx, subnet: &Subnet, sets: &Sets, options: &Options) -> Result<Verdict> {
    let train = extract(cx, subnet, &sets.train, options.feature)?;
    let test = extract(cx, subnet, &sets.test, options.feature)?;
    match options.protocol {
        Protocol::Knn => {
            Ok(Verdict::Knn(knn::accuracy(cx, &train, &test, &NEIGHBOURS, sets.classes)?))
        }
        Protocol::Linear => {
            let (epochs, seed) = (options.epochs, options.seed);
            Ok(Verdict::Linear(linear::probe(cx, &train, &test, sets.classes, epochs, seed)?))
        }
    }
}
