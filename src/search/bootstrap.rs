//! How sure a score is: percentile bootstrap over images. All candidates are resampled
//! alike, so that differences between two of them are paired.

use rayon::prelude::*;

use crate::rng::{Philox, Purpose};

/// How often the images are resampled.
pub const RESAMPLES: usize = 1000;

/// Mean scores of every candidate on each of [`RESAMPLES`] resamples of the images, as
/// \[resample\]\[candidate\]. `scores` holds the scores per image of each candidate, of equal
/// lengths. Resample r is a function of seed and r alone.
pub fn resample(seed: u64, scores: &[&[f64]]) -> Vec<Vec<f64>> {
    let images = scores.first().map_or(0, |s| s.len());
    let one = |r: usize| {
        let mut rng = Philox::new(seed, Purpose::Bootstrap, r as u64, 0);
        let drawn: Vec<u32> = (0..images).map(|_| rng.below(images) as u32).collect();
        let mean = |s: &&[f64]| drawn.iter().map(|&i| s[i as usize]).sum::<f64>() / images as f64;
        scores.iter().map(mean).collect()
    };
    (0..RESAMPLES).into_par_iter().map(one).collect()
}

/// The interval that holds the middle 95 % of the values (at least one).
pub fn interval95(mut values: Vec<f64>) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    let quantile = |q: f64| {
        let at = q * (values.len() - 1) as f64;
        let (below, above) = (values[at.floor() as usize], values[at.ceil() as usize]);
        below + (above - below) * at.fract()
    };
    [quantile(0.025), quantile(0.975)]
}

/// 95 % confidence interval of the mean of `scores` (one candidate's, a value an image).
pub fn mean_interval(seed: u64, scores: &[f64]) -> [f64; 2] {
    interval95(resample(seed, &[scores]).into_iter().map(|means| means[0]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_covers_the_mean_as_often_as_it_says() {
        // The standard error of 400 standard normal values is 0.05.
        let mut covered = 0;
        for seed in 0..40 {
            let mut rng = Philox::new(seed, Purpose::Check, 0, 0);
            let scores: Vec<f64> = (0..400).map(|_| f64::from(rng.normal())).collect();
            let [lo, hi] = mean_interval(seed, &scores);
            assert!((0.15..0.25).contains(&(hi - lo)), "{lo} {hi}");
            covered += usize::from(lo <= 0.0 && 0.0 <= hi);
        }
        assert!((34..=40).contains(&covered), "{covered} of 40");
    }

    #[test]
    fn intervals_are_scipys_but_for_the_draws() {
        let fixture = &crate::search::fixture::read()["bootstrap"];
        let of = |key: &str| serde_json::from_value::<Vec<f64>>(fixture[key].clone()).unwrap();
        let (a, b) = (of("a"), of("b"));
        let difference: Vec<f64> = a.iter().zip(&b).map(|(a, b)| b - a).collect();
        for (key, values) in [("mean", a), ("difference", difference)] {
            let (found, expected) = (mean_interval(3, &values), of(key));
            let width = expected[1] - expected[0];
            let near = found.iter().zip(&expected).all(|(f, e)| (f - e).abs() < 0.08 * width);
            assert!(near, "{key}: {found:?} {expected:?}");
        }
    }

    #[test]
    fn quantiles_interpolate() {
        let [lo, hi] = interval95((0..=40).rev().map(f64::from).collect());
        assert!((lo - 1.0).abs() < 1e-12 && (hi - 39.0).abs() < 1e-12, "{lo} {hi}");
    }

    #[test]
    fn candidates_are_resampled_alike() {
        let a = [1.0, 5.0, 2.0, 9.0];
        let b = a.map(|x| x + 1.0);
        for means in resample(3, &[&a, &b]) {
            assert!((means[1] - means[0] - 1.0).abs() < 1e-12);
        }
    }
}
