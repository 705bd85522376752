//! What an accuracy has to be held against: the same net untrained, pixels and colours without a
//! net, and guessing.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::evaluate::{EvalResult, standard_error};
use super::features::Labelled;
use super::raw_features::{self, BINS, MOST_SIDE, RawFeatures};
use super::record::Setup;
use crate::error::Result;

/// Training images that pixels and histograms are taken of, at most: 0.6 GB of pixels.
pub const MOST_TRAIN: usize = 50_000;
/// Test images, at most.
pub const MOST_TEST: usize = 10_000;
/// Standard errors of a difference within which it may be chance.
const ERRORS: f64 = 2.0;

/// What pixels and colour histograms are worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RawBaselines {
    /// Of centred pixels.
    pub pixels: EvalResult,
    /// Of centred √ of colour histograms.
    pub histogram: EvalResult,
    /// Images that were learnt from.
    pub train_images: usize,
    /// Images that were tested on.
    pub test_images: usize,
}

impl RawBaselines {
    /// Centres both kinds of features by their mean over the training images and has `verdict`
    /// evaluate them.
    pub(super) fn evaluate(
        mut train: RawFeatures,
        mut test: RawFeatures,
        verdict: impl Fn(Labelled, Labelled) -> Result<EvalResult>,
    ) -> Result<Self> {
        raw_features::centre(&mut train.pixels, &mut test.pixels)?;
        raw_features::centre(&mut train.histogram, &mut test.histogram)?;
        let (train_images, test_images) = (train.pixels.len(), test.pixels.len());
        Ok(Self {
            pixels: verdict(train.pixels, test.pixels)?,
            histogram: verdict(train.histogram, test.histogram)?,
            train_images,
            test_images,
        })
    }

    /// `pixels` and `histogram` with their accuracies, errors and numbers of images.
    pub fn to_json(&self) -> Map<String, Value> {
        let one = |verdict: &EvalResult, (what, value): (&str, usize)| {
            let mut all = verdict.to_json(self.test_images);
            all.insert(what.into(), json!(value));
            all.insert("train_images".into(), json!(self.train_images));
            all.insert("test_images".into(), json!(self.test_images));
            Value::Object(all)
        };
        Map::from_iter([
            ("pixels".to_owned(), one(&self.pixels, ("most_side", MOST_SIDE))),
            ("histogram".to_owned(), one(&self.histogram, ("bins", BINS.pow(3)))),
        ])
    }
}

/// All that stands beside one net's accuracy.
#[derive(Clone, Debug, PartialEq)]
pub struct Baselines {
    /// The same net before training, or why it is not there.
    pub untrained: Result<EvalResult, String>,
    /// Pixels and colours.
    pub raw: RawBaselines,
    /// Accuracy of always naming the most frequent class of the test images.
    pub largest_class: f64,
    /// Accuracy of drawing answers evenly from the classes.
    pub uniform: f64,
    /// Images that nets were tested on.
    pub tests: usize,
}

impl Baselines {
    /// For nets evaluated in `setup`.
    pub fn new(untrained: Result<EvalResult, String>, raw: RawBaselines, setup: &Setup) -> Self {
        let (largest_class, uniform) = (setup.chance, setup.chance_uniform);
        Self { untrained, raw, largest_class, uniform, tests: setup.test.images }
    }

    /// `untrained` (with `absent`, the reason, where it is not there), `pixels`, `histogram` and
    /// `guessing`.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut all = self.raw.to_json();
        let untrained = match &self.untrained {
            Ok(verdict) => Value::Object(verdict.to_json(self.tests)),
            Err(reason) => json!({ "absent": reason }),
        };
        all.insert("untrained".into(), untrained);
        let guessing = json!({"largest_class": self.largest_class, "uniform": self.uniform});
        all.insert("guessing".into(), guessing);
        all
    }

    /// A sentence for each baseline that `net` should be above and is not.
    pub fn remarks(&self, net: &EvalResult) -> Vec<String> {
        let net = (net.accuracy(), self.tests);
        let mut all = Vec::new();
        if let Ok(untrained) = &self.untrained {
            let before = (untrained.accuracy(), self.tests);
            if !is_above(net, before) {
                all.push(format!(
                    "The trained net is not above the untrained one by more than {ERRORS} standard \
                     errors: {} against {}.",
                    percent(net.0),
                    percent(before.0)
                ));
            }
        }
        let pixels = (self.raw.pixels.accuracy(), self.raw.test_images);
        if is_above(pixels, net) {
            all.push(format!(
                "The net is below raw pixels by more than {ERRORS} standard errors: {} against {}. \
                 Its features say less of these classes than the images do without a net.",
                percent(net.0),
                percent(pixels.0)
            ));
        }
        all
    }
}

/// Whether a share is above another by more than chance; each with its number of images.
fn is_above((p, n): (f64, usize), (q, m): (f64, usize)) -> bool {
    p - q > ERRORS * standard_error(p, n).hypot(standard_error(q, m))
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baselines(untrained: f64, pixels: f64) -> Baselines {
        let verdict = |a: f64| EvalResult::Knn(vec![a, a - 0.1]);
        Baselines {
            untrained: Ok(verdict(untrained)),
            raw: RawBaselines {
                pixels: verdict(pixels),
                histogram: verdict(0.2),
                train_images: 300,
                test_images: 100,
            },
            largest_class: 0.2,
            uniform: 0.1,
            tests: 400,
        }
    }

    #[test]
    fn the_standard_error_is_that_of_a_share() {
        assert!((standard_error(0.5, 100) - 0.05).abs() < 1e-12);
        assert!((standard_error(0.2, 400) - 0.02).abs() < 1e-12);
        assert_eq!(
            [standard_error(0.0, 9), standard_error(1.0, 9), standard_error(0.5, 0)],
            [0.0, 0.0, 0.5]
        );
    }

    #[test]
    fn what_training_did_not_reach_is_said() {
        let net = EvalResult::Knn(vec![0.5, 0.4]);
        let said = |untrained, pixels| baselines(untrained, pixels).remarks(&net);
        assert_eq!(said(0.4, 0.5), [""; 0]);
        // 2·√(0.025² + 0.0249²) = 0.0706.
        let close = said(0.44, 0.5);
        assert!(close.len() == 1 && close[0].contains("50.0 % against 44.0 %"), "{close:?}");
        // Pixels were tested on fewer images: 2·√(0.025² + 0.0490²) = 0.110.
        assert_eq!(said(0.4, 0.6).len(), 0);
        let far = said(0.9, 0.7);
        assert!(far.len() == 2 && far[1].contains("below raw pixels"), "{far:?}");
        let absent = Baselines { untrained: Err("no step 0".into()), ..baselines(0.9, 0.5) };
        assert_eq!(absent.remarks(&net).len(), 0);
    }

    #[test]
    fn json_has_every_baseline() {
        let json = Value::Object(baselines(0.25, 0.5).to_json());
        assert_eq!(json["untrained"]["accuracy"]["k20"], 0.25);
        assert_eq!(json["pixels"]["stderr"]["k20"], 0.05);
        assert_eq!(
            (&json["histogram"]["bins"], &json["pixels"]["test_images"]),
            (&json!(64), &json!(100))
        );
        assert_eq!(json["guessing"], json!({"largest_class": 0.2, "uniform": 0.1}));
        let absent = Baselines { untrained: Err("why".into()), ..baselines(0.1, 0.1) };
        assert_eq!(absent.to_json()["untrained"], json!({"absent": "why"}));
    }
}
