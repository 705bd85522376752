//! Numbers of rows: means over seeds, and how sure they are.

use serde_json::Value;

use super::cells::Made;
use super::lab::number;
use crate::eval::answers::from_digits;
use crate::eval::evaluate::wilson95;
use crate::search::bootstrap::{interval95, resample};

/// A number of each seed's cell, and what is said of all of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Mean {
    /// Their mean.
    pub value: f64,
    /// Its 95 % interval: of one share Wilson's over test images, of three or more seeds Student's.
    pub ci95: Option<[f64; 2]>,
    /// Deviation over seeds, of two or more.
    pub deviation: Option<f64>,
}

impl Mean {
    /// Of numbers that are shares of so many test images, or anything else.
    pub fn of(values: &[f64], test_images: Option<u64>) -> Option<Self> {
        let n = values.len() as f64;
        let value = values.iter().sum::<f64>() / n;
        let square = values.iter().map(|v| (v - value).powi(2)).sum::<f64>();
        let deviation = (values.len() > 1).then(|| (square / (n - 1.0)).sqrt());
        let ci95 = match values.len() {
            0 => return None,
            1 => test_images.map(|images| wilson95(value, images)),
            2 => None,
            _ => deviation.map(|s| {
                let half = student975(values.len() - 1) * s / n.sqrt();
                [value - half, value + half]
            }),
        };
        Some(Self { value, ci95, deviation })
    }
}

/// The 97.5 % quantile of Student's t, by Hill's expansion about the normal quantile with exact values
/// for few degrees of freedom.
fn student975(free: usize) -> f64 {
    const FEW: [f64; 10] = [
        12.706_204_736_174_7,
        4.302_652_729_749_46,
        3.182_446_305_283_71,
        2.776_445_105_197_79,
        2.570_581_835_636_31,
        2.446_911_851_144_97,
        2.364_624_251_592_78,
        2.306_004_135_204_17,
        2.262_157_162_798_2,
        2.228_138_851_986_27,
    ];
    if let Some(value) = free.checked_sub(1).and_then(|i| FEW.get(i)) {
        return *value;
    }
    let (z, v) = (1.959_963_984_540_054_f64, free as f64);
    let (z3, z5, z7) = (z.powi(3), z.powi(5), z.powi(7));
    z + (z3 + z) / (4.0 * v)
        + (5.0 * z5 + 16.0 * z3 + 3.0 * z) / (96.0 * v * v)
        + (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * z) / (384.0 * v.powi(3))
}

/// Test images of a result: `test_images`, or those of `test`.
pub fn test_images(result: &Value) -> Option<u64> {
    let own = result.get("test_images").and_then(Value::as_u64);
    own.or_else(|| number(result, &["test", "images"]).map(|n| n as u64))
}

/// Whether each test image was named right; empty where that was not kept.
pub fn correct(result: &Value) -> Vec<bool> {
    let images = test_images(result).unwrap_or(0) as usize;
    let digits = result.get("correct").and_then(Value::as_str).unwrap_or_default();
    from_digits(digits, images).unwrap_or_default()
}

/// A difference from the baseline.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Difference {
    /// The row's less the baseline's.
    pub value: f64,
    /// Its 95 % interval: of accuracies over test images (paired bootstrap; seeds are taken as they
    /// are), of other numbers Student's over three or more seeds.
    pub ci95: Option<[f64; 2]>,
    /// Whether there is an interval that leaves out 0.
    pub resolved: bool,
}

impl Difference {
    fn new(value: f64, ci95: Option<[f64; 2]>) -> Self {
        Self { value, ci95, resolved: ci95.is_some_and(|[lo, hi]| lo > 0.0 || hi < 0.0) }
    }
}

/// Compares two sets of cells by their answers; none where these were not kept.
pub fn difference(row: &[Made], baseline: &[Made], seed: u64) -> Option<Difference> {
    let (value, ci95) = paired(&mean_answers(row)?, &mean_answers(baseline)?, seed)?;
    Some(Difference::new(value, Some(ci95)))
}

/// Compares two sets of cells, one a seed, by a number that is no mean over test images; none where
/// they are not of the same seeds.
pub fn over_seeds(row: &[Made], baseline: &[Made], keys: &[&str]) -> Option<Difference> {
    if row.len() != baseline.len() {
        return None;
    }
    let value = |made: &Made| defined(made.result.as_ref().ok()?, keys);
    let each = row.iter().zip(baseline).filter_map(|(a, b)| Some(value(a)? - value(b)?));
    let mean = Mean::of(&each.collect::<Vec<_>>(), None)?;
    Some(Difference::new(mean.value, mean.ci95))
}

/// A number of a cell's result; none where it is not defined, which results write as −1.
pub fn defined(result: &Value, keys: &[&str]) -> Option<f64> {
    number(result, keys).filter(|value| *value >= 0.0)
}

/// The mean of `a` less that of `b`, of the same test images, with its 95 % interval (paired
/// bootstrap); none where these are not as many.
pub fn paired(a: &[f64], b: &[f64], seed: u64) -> Option<(f64, [f64; 2])> {
    if a.len() != b.len() || a.is_empty() {
        return None;
    }
    let each: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let ci95 = interval95(resample(seed, &[&each]).into_iter().map(|means| means[0]).collect());
    let value = each.iter().sum::<f64>() / each.len() as f64;
    Some((value, ci95))
}

/// How often each test image was named right, over all cells.
fn mean_answers(cells: &[Made]) -> Option<Vec<f64>> {
    let answers: Vec<Vec<bool>> =
        cells.iter().filter_map(|made| made.result.as_ref().ok()).map(correct).collect();
    let images = answers.first().map(Vec::len).filter(|n| *n > 0)?;
    if answers.iter().any(|one| one.len() != images) {
        return None;
    }
    let share =
        |i: usize| answers.iter().filter(|one| one[i]).count() as f64 / answers.len() as f64;
    Some((0..images).map(share).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_of_seeds_are_scipys() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/statistics.json");
        let fixture: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        for case in fixture["t"].as_array().unwrap() {
            let of = |key: &str| serde_json::from_value::<Vec<f64>>(case[key].clone()).unwrap();
            let found = Mean::of(&of("x"), None).unwrap().ci95.unwrap();
            for (found, expected) in found.into_iter().zip(of("interval")) {
                assert!((found - expected).abs() < 1e-6, "{found} {expected}");
            }
        }
    }

    #[test]
    fn one_seed_has_wilsons_interval_and_two_have_none() {
        let one = Mean::of(&[0.45], Some(100)).unwrap();
        assert_eq!((one.ci95, one.deviation), (Some(wilson95(0.45, 100)), None));
        let two = Mean::of(&[0.4, 0.5], Some(100)).unwrap();
        assert!(two.ci95.is_none() && (two.deviation.unwrap() - 0.05 * 2f64.sqrt()).abs() < 1e-12);
        assert_eq!(Mean::of(&[], None), None);
    }
}
