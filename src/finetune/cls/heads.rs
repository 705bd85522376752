//! Classifiers in training: one, or one for each learning rate that is tried.

use crate::config::{Config, HeadInit};
use crate::error::{Error, Result};
use crate::finetune::rates;
use crate::nn::{BnMode, Builder, CLASSIFIER, Init, MlpLayers, ParamSpec, Params};
use crate::ops::add::Add;
use crate::ops::cross_entropy::{self, CrossEntropy};
use crate::tape::{Tape, Var};

/// A classifier in training.
pub(super) struct Head {
    pub layer: MlpLayers,
    pub lr: f64,
    /// Whether it learns from all images, or but from those that are not held out.
    pub on_all: bool,
    pub name: String,
}

impl Head {
    /// Appends the classifiers of the settings. Of several learning rates each has one that learns
    /// from all images and, with `holds_out`, one that does not see those held out.
    pub(super) fn all(
        builder: &mut Builder,
        channels: usize,
        classes: usize,
        config: &Config,
        holds_out: bool,
    ) -> Vec<Self> {
        let init = match config.finetune.head {
            HeadInit::Normal => Init::Normal(0.01),
            HeadInit::Zero => Init::Constant(0.0),
        };
        let mut one = |name: String, lr: f64, on_all: bool| {
            let layer = builder.linear(&name, channels, classes, init);
            Self { layer, lr, on_all, name }
        };
        let tried = rates::of_heads(config);
        if let [lr] = tried[..] {
            return vec![one(CLASSIFIER.to_owned(), lr, true)];
        }
        let mut all = Vec::new();
        for (module, on_all) in [(CLASSIFIER, true), (TRIAL, false)] {
            let wanted = if on_all || holds_out { &tried[..] } else { &[] };
            let named = wanted.iter().enumerate().map(|(k, lr)| (format!("{module}.{k}"), *lr));
            all.extend(named.map(|(name, lr)| one(name, lr, on_all)));
        }
        all
    }

    /// Whether a parameter is its own.
    pub(super) fn owns(&self, name: &str) -> bool {
        is_of(name, &self.name)
    }

    /// Mean cross-entropy over rows of pooled features with classes, or the sum of several, each
    /// with its share.
    pub(super) fn loss(
        &self,
        tape: &mut Tape,
        params: &Params,
        pooled: &Var,
        targets: &[(f64, &[usize])],
    ) -> Result<Var> {
        let mut norm = BnMode::Batch { group: 0 };
        let scores = self.layer.forward(tape, params, pooled, &mut norm)?;
        let mut sum: Option<Var> = None;
        for &(weight, classes) in targets {
            let labels = cross_entropy::labels(tape.cx(), classes, self.layer.mlp().dim())?;
            let labels = tape.constant(labels);
            let loss = tape.apply(CrossEntropy { weight }, &[&scores, &labels])?;
            sum = Some(match sum {
                Some(sum) => tape.apply(Add, &[&sum, &loss])?,
                None => loss,
            });
        }
        sum.ok_or_else(|| Error::usage("a classifier learns classes; found none"))
    }
}

/// The module of classifiers that do not see what is held out.
const TRIAL: &str = "trial";

/// Whether a parameter is of a linear layer.
pub(super) fn is_of(name: &str, layer: &str) -> bool {
    name.strip_prefix(layer).is_some_and(|rest| rest == ".weight" || rest == ".bias")
}

/// The learning rate of each parameter as a share of the run's.
pub(super) fn factors(specs: &[ParamSpec], heads: &[Head], config: &Config) -> Vec<f64> {
    rates::factors(config, specs, |spec| {
        heads.iter().find(|head| head.owns(&spec.name)).map_or(config.train.lr, |head| head.lr)
    })
}
