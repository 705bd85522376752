//! Long series made short enough to draw, without hiding their extremes.

/// Several neighbouring values as one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bin {
    /// Middle of the steps.
    pub(super) x: f64,
    /// Mean of the finite values.
    pub(super) mean: f64,
    /// Least of them.
    pub(super) min: f64,
    /// Greatest of them.
    pub(super) max: f64,
}

/// Most bins of a line: more than a screen has pixels for.
pub(super) const MAX_BINS: usize = 500;

/// At most `most` bins of equally many neighbours; a bin without a finite value has NaNs, so
/// that the line shows the gap.
pub(super) fn bins(points: &[(f64, f64)], most: usize) -> Vec<Bin> {
    let size = points.len().div_ceil(most.max(1)).max(1);
    points.chunks(size).map(bin).collect()
}

fn bin(points: &[(f64, f64)]) -> Bin {
    let x = (points[0].0 + points[points.len() - 1].0) / 2.0;
    let finite = || points.iter().map(|p| p.1).filter(|v| v.is_finite());
    let n = finite().count();
    if n == 0 {
        return Bin { x, mean: f64::NAN, min: f64::NAN, max: f64::NAN };
    }
    Bin {
        x,
        mean: finite().sum::<f64>() / n as f64,
        min: finite().fold(f64::INFINITY, f64::min),
        max: finite().fold(f64::NEG_INFINITY, f64::max),
    }
}

/// Moving mean over about a thirtieth of the series, shorter at the ends so that it is
/// centred everywhere. Gaps stay gaps.
pub(super) fn smooth(bins: &[Bin]) -> Vec<(f64, f64)> {
    let reach = bins.len() / 60;
    let one = |(i, b): (usize, &Bin)| {
        let r = reach.min(i).min(bins.len() - 1 - i);
        let near = bins[i - r..=i + r].iter().map(|b| b.mean).filter(|v| v.is_finite());
        let (sum, n) = near.fold((0.0, 0), |(s, n), v| (s + v, n + 1));
        (b.x, if b.mean.is_finite() { sum / f64::from(n) } else { f64::NAN })
    };
    bins.iter().enumerate().map(one).collect()
}

/// Mean of the last tenth of the finite values (at least one), and of the first.
pub(super) fn ends(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let finite: Vec<f64> = points.iter().map(|p| p.1).filter(|v| v.is_finite()).collect();
    if finite.is_empty() {
        return None;
    }
    let n = finite.len().div_ceil(10).min(50);
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    Some((mean(&finite[..n]), mean(&finite[finite.len() - n..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_series_keeps_its_peak() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|i| (f64::from(i), 1.0)).collect();
        points[77_777].1 = 9.0;
        points[10].1 = f64::NAN;
        let bins = bins(&points, MAX_BINS);
        assert!(bins.len() <= MAX_BINS);
        assert_eq!(bins.iter().map(|b| b.max).fold(0.0, f64::max), 9.0);
        assert!(bins.iter().all(|b| b.mean.is_finite()));
    }

    #[test]
    fn a_gap_stays_a_gap() {
        let points = [(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0)];
        let smooth = smooth(&bins(&points, 10));
        assert!(smooth[1].1.is_nan() && smooth[2].1 == 3.0);
        assert_eq!(bins(&[], 10), []);
    }
}
