//! What a net with a classifier is worth: whether the class of a test image is its first answer, or
//! among its first five.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::answers::to_digits;
use super::evaluate::{standard_error, wilson95};
use super::features::label;
use super::images::Images;
use super::progress::Progress;
use crate::cx::Cx;
use crate::error::Result;
use crate::nn::{Classifier, Feature, Subnet};
use crate::signals;

/// Answers that may hold the class.
const MOST: usize = 5;

/// How a net answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Whether the first answer was right, of each test image.
    pub first: Vec<bool>,
    /// How many had their class among the first five.
    pub among_five: usize,
    /// How often images of a class were named as another or the same: by class and first answer.
    pub confusion: Confusion,
}

/// How many images of a class got which answer, by class and answer.
pub type Confusion = BTreeMap<(usize, usize), usize>;

impl Answers {
    /// Adds the answer to an image of class `label`, by the scores of all classes: of equal ones the
    /// first class comes first.
    pub fn add(&mut self, scores: &[f32], label: usize) {
        let rank = rank(scores, label);
        self.first.push(rank == 0);
        self.among_five += usize::from(rank < MOST);
        // What is not a number is no answer.
        if let Some(named) = (0..scores.len()).find(|&class| self::rank(scores, class) == 0) {
            *self.confusion.entry((label, named)).or_default() += 1;
        }
    }

    /// Share of the images whose first answer is right.
    pub fn top1(&self) -> f64 {
        share(self.first.iter().filter(|right| **right).count(), self.first.len())
    }

    /// Share of the images with their class among the first five answers.
    pub fn top5(&self) -> f64 {
        share(self.among_five, self.first.len())
    }

    /// `top1`, `top5`, their Wilson intervals, and a bit for each test image, eight of them in two
    /// hexadecimal digits, the first one lowest.
    pub fn to_json(&self) -> Map<String, Value> {
        let n = self.first.len();
        let (top1, top5) = (self.top1(), self.top5());
        let all = json!({
            "top1": top1,
            "top5": top5,
            "top1_ci95": wilson95(top1, n as u64),
            "top5_ci95": wilson95(top5, n as u64),
            "correct": to_digits(&self.first),
            "accuracy": {"top1": top1, "top5": top5},
            "stderr": {"top1": standard_error(top1, n), "top5": standard_error(top5, n)},
        });
        all.as_object().cloned().unwrap_or_default()
    }
}

fn share(hits: usize, n: usize) -> f64 {
    hits as f64 / n.max(1) as f64
}

/// Asks a net for the classes of all images, a batch at a time. Of equal scores the first class is
/// the answer.
///
/// # Errors
/// [`crate::Kind::Data`] where an image has no class, [`crate::Kind::Diverged`] where scores are not
/// finite.
pub fn ask(cx: &Cx, subnet: &Subnet, classifier: &Classifier, images: &Images) -> Result<Answers> {
    Ok(ask_all(cx, subnet, &[classifier], images)?.swap_remove(0))
}

/// The same of several classifiers on one net, in one pass over the images.
///
/// # Errors
/// Those of [`ask`].
pub fn ask_all(
    cx: &Cx,
    subnet: &Subnet,
    classifiers: &[&Classifier],
    images: &Images,
) -> Result<Vec<Answers>> {
    let mut all = vec![Answers::default(); classifiers.len()];
    let mut progress = Progress::new("images", images.len(), 0);
    for batch in images.batches(cx, images.len())? {
        signals::go_on()?;
        let batch = batch?;
        let labels: Vec<usize> =
            batch.shown.iter().map(|&i| label(images.dataset(), i)).collect::<Result<_>>()?;
        let pooled = subnet.features(cx, batch.x, &[Feature::Pool])?.take(Feature::Pool);
        for (classifier, answers) in classifiers.iter().zip(&mut all) {
            let scores = classifier.scores(cx, pooled.value().clone())?;
            if !scores.iter().all(|score| score.is_finite()) {
                return Err(super::not_finite(subnet.arch()));
            }
            for (scores, &label) in scores.chunks_exact(classifier.classes()).zip(&labels) {
                answers.add(scores, label);
            }
        }
        progress.advance(labels.len(), String::new);
    }
    Ok(all)
}

/// How many classes come before one: where scores are NaN, as those of a classifier that diverged, all
/// that cannot be told to come behind it.
fn rank(scores: &[f32], class: usize) -> usize {
    let own = scores[class];
    let behind = |(i, score): &(usize, &f32)| **score < own || (**score == own && *i >= class);
    scores.iter().enumerate().filter(|x| x.0 != class && !behind(x)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_go_by_score_then_class() {
        let scores = [0.5, 2.0, 0.5, -1.0];
        assert_eq!([0, 1, 2, 3].map(|class| rank(&scores, class)), [1, 0, 2, 3]);
    }

    #[test]
    fn what_is_not_a_number_is_no_answer() {
        assert_eq!([0, 1, 2].map(|class| rank(&[f32::NAN; 3], class)), [2, 2, 2]);
        assert_eq!([0, 1, 2].map(|class| rank(&[1.0, f32::NAN, 2.0], class)), [2, 2, 1]);
    }

    #[test]
    fn answers_are_counted_by_class() {
        let mut answers = Answers::default();
        for (scores, label) in [([0.0, 1.0, 1.0], 2), ([3.0, 1.0, 1.0], 0), ([f32::NAN; 3], 1)] {
            answers.add(&scores, label);
        }
        assert_eq!(answers.first, [false, true, false]);
        assert_eq!(answers.confusion, BTreeMap::from([((2, 1), 1), ((0, 0), 1)]));
    }

    #[test]
    fn a_bit_is_kept_for_each_image() {
        let first = [true, false, false, true, false, false, false, false, true].to_vec();
        let json = Answers { first, among_five: 9, ..Answers::default() }.to_json();
        assert_eq!((&json["correct"], &json["top5"]), (&json!("0901"), &json!(1.0)));
        assert_eq!(json["top1"], json!(3.0 / 9.0));
    }
}
