//! What the nets of two runs are worth, beside each other.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::evals::{self, Evaluation};
use super::{dense, numbers};
use crate::error::Result;
use crate::eval::answers::from_digits;
use crate::eval::evaluate::wilson95;
use crate::study::measure::paired;

/// A net's accuracy in both runs.
#[derive(Serialize)]
pub(super) struct Compared {
    images: String,
    protocol: String,
    arch: String,
    accuracy: [String; 2],
    difference: String,
}

/// What two evaluations must have in common to stand in one row.
type Question = (String, String, String, String);

/// The results of both runs: those of one question in one row.
pub(super) fn evaluations(dirs: [&Path; 2]) -> Result<Vec<Compared>> {
    let mut all: BTreeMap<Question, [Option<(Evaluation, String)>; 2]> = BTreeMap::new();
    for (i, dir) in dirs.into_iter().enumerate() {
        for found in evals::trained(dir)? {
            // Of several accuracies the first stands for all: the answers that were kept are its.
            let Some(key) = found.accuracy.keys().next().cloned() else { continue };
            let protocol = evals::protocol(&found, &key);
            let weights = if found.weights == "student" { "" } else { ", teacher" };
            let question =
                (evals::images(&found), protocol + weights, found.arch.clone(), key.clone());
            let place = &mut all.entry(question).or_default()[i];
            // Of several steps the last.
            if place.as_ref().is_none_or(|(known, _)| known.step <= found.step) {
                *place = Some((found, key));
            }
        }
    }
    Ok(all.into_iter().map(compared).chain(dense_results(dirs)?).collect())
}

/// The numbers of tests on annotated images. They have no intervals.
fn dense_results(dirs: [&Path; 2]) -> Result<Vec<Compared>> {
    // By images, net, task and the number's place among those of its task.
    type Key = (String, String, &'static str, usize, &'static str);
    let mut all: BTreeMap<Key, [Option<f64>; 2]> = BTreeMap::new();
    for (i, dir) in dirs.into_iter().enumerate() {
        // Of several steps the last.
        for found in dense::results(dir)? {
            for (place, (name, value)) in found.main_numbers().into_iter().enumerate() {
                let (images, arch) = (found.images(), found.arch.clone());
                let key = (images, arch, found.task.as_str(), place, name);
                all.entry(key).or_default()[i] = value;
            }
        }
    }
    let row = |((images, arch, task, _, name), found): (Key, [Option<f64>; 2])| {
        let protocol = format!("{task} {name}");
        let difference = match found {
            [Some(a), Some(b)] => numbers::fixed(100.0 * (b - a), 1),
            _ => "–".into(),
        };
        let accuracy = found.map(|share| share.map_or("–".into(), numbers::percent));
        Compared { images, protocol, arch, accuracy, difference }
    };
    Ok(all.into_iter().map(row).collect())
}

fn compared(
    ((images, protocol, arch, _), found): (Question, [Option<(Evaluation, String)>; 2]),
) -> Compared {
    let accuracy = |found: &Option<(Evaluation, String)>| match found {
        Some((e, key)) => {
            let share = e.accuracy[key];
            let [lo, hi] = wilson95(share, e.test.images as u64).map(|v| 100.0 * v);
            format!("{} ({lo:.1} to {hi:.1})", numbers::percent(share))
        }
        None => "–".into(),
    };
    let difference = match &found {
        [Some((a, key)), Some((b, _))] => {
            difference((a, b), [a, b].map(|e| e.accuracy.get(key).copied().unwrap_or(f64::NAN)))
        }
        _ => "–".into(),
    };
    Compared { images, protocol, arch, accuracy: found.each_ref().map(accuracy), difference }
}

/// The second less the first in points with its 95 % interval: of the same test images a paired
/// bootstrap's, of others Newcombe's, from both Wilson intervals.
fn difference((a, b): (&Evaluation, &Evaluation), [share_a, share_b]: [f64; 2]) -> String {
    let answers = |e: &Evaluation| -> Option<Vec<f64>> {
        let bits = from_digits(&e.correct, e.test.images)?;
        Some(bits.into_iter().map(|right| f64::from(u8::from(right))).collect())
    };
    let pairs = || paired(&answers(b)?, &answers(a)?, 0);
    let (how, value, [lo, hi]) = match (a.test == b.test).then(pairs).flatten() {
        Some((value, ci95)) => ("", value, ci95),
        None => {
            let [of_a, of_b] = [(share_a, a), (share_b, b)]
                .map(|(share, e)| wilson95(share, e.test.images as u64));
            let below = (share_b - of_b[0]).hypot(of_a[1] - share_a);
            let above = (of_b[1] - share_b).hypot(share_a - of_a[0]);
            let value = share_b - share_a;
            (", unpaired", value, [value - below, value + above])
        }
    };
    let so = if lo > 0.0 || hi < 0.0 { "" } else { ", not resolved" };
    let [value, lo, hi] = [value, lo, hi].map(|v| numbers::fixed(100.0 * v, 1));
    format!("{value} ({lo} to {hi}{how}{so})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_have_intervals() {
        let evaluation = |correct: &str, data: &str| -> Evaluation {
            let split = serde_json::json!({ "data": [data], "images": 16 });
            serde_json::from_value(serde_json::json!({
                "arch": "s8", "macs": 1.0, "step": 1, "weights": "student", "protocol": "knn",
                "features": "pool", "train": split, "test": split, "chance": 0.1,
                "accuracy": { "k20": 0.5 }, "correct": correct,
            }))
            .unwrap()
        };
        let [all, none] = ["ffff", "0000"].map(|bits| evaluation(bits, "t"));
        let half = [0.5; 2];
        assert_eq!(difference((&none, &all), half), "100.0 (100.0 to 100.0)");
        assert_eq!(difference((&all, &all), half), "0.0 (0.0 to 0.0, not resolved)");
        // Newcombe's example, 56 of 70 against 48 of 80: 20.0 (5.2 to 33.4).
        let mut others = ["u", "v"].map(|data| evaluation("", data));
        others[0].test.images = 80;
        others[1].test.images = 70;
        let [a, b] = &others;
        assert_eq!(difference((a, b), [48.0 / 80.0, 56.0 / 70.0]), "20.0 (5.2 to 33.4, unpaired)");
    }
}
