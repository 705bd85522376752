//! What `eval/*.json` says of a net: written here only, whatever evaluates.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::baselines::Baselines;
use super::evaluate::{EvalResult, Options, Splits};
use crate::space::{Arch, Space};

/// The images of one side of an evaluation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Split {
    /// Where they are from.
    pub data: Vec<String>,
    /// How many they are.
    pub images: usize,
}

/// A net that was evaluated.
#[derive(Clone, Debug, Serialize)]
pub struct Net {
    /// Which.
    pub arch: Arch,
    /// Multiply-accumulates of the backbone's convolutions for one image.
    pub macs: u64,
    /// Parameters of the backbone.
    pub params: u64,
    /// Name of its space.
    pub preset: String,
    /// Training step of its weights.
    pub step: u64,
    /// `student` or `teacher`.
    pub weights: &'static str,
}

impl Net {
    /// The net `arch` of a space.
    pub fn new(arch: Arch, space: &Space, preset: &str, step: u64, weights: &'static str) -> Self {
        let cost = space.cost(&arch);
        Self {
            arch,
            macs: cost.macs,
            params: cost.params,
            preset: preset.to_owned(),
            step,
            weights,
        }
    }
}

/// What nets were evaluated with.
#[derive(Clone, Debug, Serialize)]
pub struct Setup {
    /// `knn` or `linear`.
    pub protocol: String,
    /// `pool` or `z`.
    pub features: String,
    /// To learn from.
    pub train: Split,
    /// To test on.
    pub test: Split,
    /// Number of classes.
    pub classes: usize,
    /// Accuracy of always naming the most frequent class of the test images.
    pub chance: f64,
    /// Accuracy of drawing from the classes evenly.
    pub chance_uniform: f64,
}

impl Setup {
    /// For images of `sets`, which are from `data` and `test_data`.
    pub fn new(options: &Options, sets: &Splits, data: &[String], test_data: &[String]) -> Self {
        Self {
            protocol: options.protocol.to_string(),
            features: options.feature.name().to_owned(),
            train: Split { data: data.to_vec(), images: sets.train.len() },
            test: Split { data: test_data.to_vec(), images: sets.test.len() },
            classes: sets.classes,
            chance: sets.chance(),
            chance_uniform: sets.uniform_chance(),
        }
    }

    /// As the first keys of a result.
    pub fn to_json(&self) -> Map<String, Value> {
        object(self)
    }
}

/// The result of one net: what it is, how it was evaluated, what it is worth, and what stands
/// beside that. `bn_images`: how many images its batch norms' statistics are from, where they did
/// not come with it.
pub fn of_net(
    net: &Net,
    setup: &Setup,
    bn_images: Option<usize>,
    verdict: &EvalResult,
    baselines: Option<&Baselines>,
) -> Map<String, Value> {
    let mut all = object(net);
    all.extend(setup.to_json());
    all.insert("bn_images".into(), json!(bn_images));
    all.extend(verdict.to_json(setup.test.images));
    if let Some(baselines) = baselines {
        all.insert("baselines".into(), Value::Object(baselines.to_json()));
        all.insert("remarks".into(), json!(baselines.remarks(verdict)));
    }
    all
}

fn object(value: &impl Serialize) -> Map<String, Value> {
    json!(value).as_object().cloned().unwrap_or_default()
}
