//! Rank correlation between what a search says of architectures and what they are worth:
//! Spearman's ρ (paper, Table 2) and Kendall's τ-b.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // scipy.stats.spearmanr and kendalltau of the same numbers.
        let a = [106.0, 86.0, 100.0, 101.0, 99.0, 103.0, 97.0, 113.0, 112.0, 110.0];
        let b = [7.0, 0.0, 27.0, 50.0, 28.0, 29.0, 20.0, 12.0, 6.0, 17.0];
        assert!((spearman(&a, &b).unwrap() + 29.0 / 165.0).abs() < 1e-12);
        assert!((kendall(&a, &b).unwrap() + 1.0 / 9.0).abs() < 1e-12);
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
