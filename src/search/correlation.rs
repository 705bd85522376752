//! Rank correlation between what a search says of architectures and what they are worth:
//! Spearman's ρ (paper, Table 2) and Kendall's τ-b.

use crate::eval::evaluate::Z95;

/// Ranks 1, 2, … of the values; equal values share the mean of their ranks.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let same = |&&i: &&usize| values[i] == values[order[start]];
        let end = start + order[start..].iter().take_while(same).count().max(1);
        let mean = (start + 1 + end) as f64 / 2.0;
        order[start..end].iter().for_each(|&i| ranks[i] = mean);
        start = end;
    }
    ranks
}

/// Spearman's ρ: Pearson's correlation of the ranks. `None` where fewer than two pairs are
/// given or one side is constant, so that no ranking exists. Panics where the lengths differ.
pub fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    assert_eq!(a.len(), b.len(), "pairs of values");
    let (a, b) = (ranks(a), ranks(b));
    let mean = (a.len() as f64 + 1.0) / 2.0;
    let product = |x: &[f64], y: &[f64]| -> f64 {
        x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum()
    };
    let spread = (product(&a, &a) * product(&b, &b)).sqrt();
    (spread > 0.0).then(|| product(&a, &b) / spread)
}

/// Kendall's τ-b: concordant less discordant pairs over the geometric mean of the pairs that
/// are not tied on either side. `None` as [`spearman`].
pub fn kendall(a: &[f64], b: &[f64]) -> Option<f64> {
    assert_eq!(a.len(), b.len(), "pairs of values");
    let sign = |x: f64, y: f64| f64::from(i8::from(x > y) - i8::from(x < y));
    let (mut agree, mut free_a, mut free_b) = (0.0, 0.0, 0.0);
    for i in 0..a.len() {
        for j in 0..i {
            let (da, db) = (sign(a[i], a[j]), sign(b[i], b[j]));
            agree += da * db;
            free_a += da * da;
            free_b += db * db;
        }
    }
    let spread = (free_a * free_b).sqrt();
    (spread > 0.0).then(|| agree / spread)
}

/// Partial correlation of x and y given z, from the three pairwise ones:
/// (r_xy − r_xz·r_yz) / √((1 − r_xz²)·(1 − r_yz²)). Of Spearman's ρ it is what x says of y's ranks
/// beyond what z says. `None` where z leaves nothing to explain.
pub fn partial(xy: f64, xz: f64, yz: f64) -> Option<f64> {
    let left = (1.0 - xz * xz) * (1.0 - yz * yz);
    (left > 1e-12).then(|| ((xy - xz * yz) / left.sqrt()).clamp(-1.0, 1.0))
}

/// 95 % confidence interval of a Spearman's ρ of `n` pairs, `given` variables held fixed:
/// tanh(artanh ρ ± 1.96·√(1.06/(n − 3 − given))) (Fieller, Hartley and Pearson, 1957). A perfect
/// ranking counts as half a swap less than perfect. `None` for too few pairs.
pub fn rank_interval95(rho: f64, n: usize, given: usize) -> Option<[f64; 2]> {
    let free = n.checked_sub(3 + given).filter(|&free| free > 0)?;
    let n = n as f64;
    let most = 1.0 - 6.0 / (n * n * n - n);
    let half = Z95 * (1.06 / free as f64).sqrt();
    let z = rho.clamp(-most, most).atanh();
    Some([(z - half).tanh(), (z + half).tanh()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: [f64; 2], expected: [f64; 2]) {
        for (f, e) in found.into_iter().zip(expected) {
            assert!((f - e).abs() < 1e-12, "{found:?} {expected:?}");
        }
    }

    #[test]
    fn partial_correlations_and_their_intervals() {
        // scipy.stats.spearmanr; the partial one also as the correlation of residuals of ranks.
        let score = [0.71, 0.64, 0.80, 0.75, 0.69, 0.83, 0.78, 0.60];
        let macs = [12.0, 8.0, 30.0, 25.0, 10.0, 28.0, 33.0, 9.0];
        let accuracy = [41.0, 39.5, 47.2, 44.1, 43.0, 46.0, 45.5, 40.2];
        let rho = |x: &[f64], y: &[f64]| spearman(x, y).unwrap();
        let (sa, ma, sm) = (rho(&score, &accuracy), rho(&macs, &accuracy), rho(&score, &macs));
        near([sa, ma], [13.0 / 14.0, 19.0 / 21.0]);
        let given = partial(sa, sm, ma).unwrap();
        assert!((given - 0.652_550_982_537_094_5).abs() < 1e-12, "{given}");
        let (lo, hi) = (0.632_446_585_771_284, 0.987_888_913_611_396_4);
        near(rank_interval95(sa, 8, 0).unwrap(), [lo, hi]);
        let (lo, hi) = (-0.225_292_317_323_608_85, 0.945_621_289_532_897_9);
        near(rank_interval95(given, 8, 1).unwrap(), [lo, hi]);
        assert_eq!(partial(0.5, 1.0, 0.5), None);
        assert_eq!((rank_interval95(0.5, 3, 0), rank_interval95(0.5, 4, 1)), (None, None));
        // Of four nets even a perfect ranking says nothing, of five it says a little.
        assert!(rank_interval95(1.0, 4, 0).unwrap()[0] < 0.0);
        let [lo, hi] = rank_interval95(1.0, 5, 0).unwrap();
        assert!(0.0 < lo && lo < 0.5 && hi < 1.0, "{lo} {hi}");
    }

    #[test]
    fn known_values() {
        // scipy.stats.spearmanr and kendalltau of the same numbers.
        let a = [106.0, 86.0, 100.0, 101.0, 99.0, 103.0, 97.0, 113.0, 112.0, 110.0];
        let b = [7.0, 0.0, 27.0, 50.0, 28.0, 29.0, 20.0, 12.0, 6.0, 17.0];
        assert!((spearman(&a, &b).unwrap() + 29.0 / 165.0).abs() < 1e-12);
        assert!((kendall(&a, &b).unwrap() + 1.0 / 9.0).abs() < 1e-12);
    }

    #[test]
    fn numbers_are_scipys() {
        let fixture = crate::search::fixture::read();
        for case in fixture["ranks"].as_array().unwrap() {
            let of = |key: &str| serde_json::from_value::<Vec<f64>>(case[key].clone()).unwrap();
            let (x, y, z) = (of("x"), of("y"), of("z"));
            let same = |found: f64, key: &str| {
                let expected = case[key].as_f64().unwrap();
                assert!((found - expected).abs() < 1e-12, "{key}: {found} {expected}");
            };
            let rho = |a: &[f64], b: &[f64]| spearman(a, b).unwrap();
            same(rho(&x, &y), "spearman");
            same(kendall(&x, &y).unwrap(), "kendall");
            same(partial(rho(&x, &y), rho(&x, &z), rho(&y, &z)).unwrap(), "partial");
            let found = rank_interval95(rho(&x, &y), x.len(), 0).unwrap();
            near(found, [of("interval")[0], of("interval")[1]]);
        }
    }

    #[test]
    fn ties_share_ranks() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
        let (a, b) = ([1.0, 2.0, 2.0, 3.0], [1.0, 2.0, 3.0, 3.0]);
        // 4 concordant pairs; 5 pairs are untied on each side.
        assert!((kendall(&a, &b).unwrap() - 0.8).abs() < 1e-12);
        assert!((spearman(&a, &b).unwrap() - 5.0 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn no_ranking_no_correlation() {
        assert_eq!(spearman(&[1.0], &[2.0]), None);
        assert_eq!(spearman(&[1.0, 1.0], &[2.0, 3.0]), None);
        assert_eq!(kendall(&[], &[]), None);
        assert_eq!(kendall(&[1.0, 2.0], &[5.0, 5.0]), None);
        assert_eq!(spearman(&[f64::NAN, 1.0], &[0.0, 1.0]).map(f64::is_nan), Some(false));
    }
}
