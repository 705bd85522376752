//! Axes: from values to pixels, and ticks at round numbers whose labels do not touch.

use super::svg::text_width;
use crate::report::numbers;

/// Font size of tick labels, in pixels.
pub(super) const TICK_FONT: f64 = 11.0;

/// One axis of a chart.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    lo: f64,
    hi: f64,
    log: bool,
    /// Pixels of `lo` and of `hi`.
    span: (f64, f64),
    /// Values with their labels, ascending.
    pub(super) ticks: Vec<(f64, String)>,
}

/// Which way labels are laid out beside each other.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Along {
    X,
    Y,
}

impl Axis {
    /// An axis over values `lo..=hi` drawn over the pixels `span`; `log` is taken only where
    /// all values are above 0.
    pub(super) fn new((lo, hi): (f64, f64), log: bool, span: (f64, f64), along: Along) -> Self {
        let log = log && lo > 0.0;
        let (lo, hi) = widen(lo, hi, log);
        let mut axis = Self { lo, hi, log, span, ticks: Vec::new() };
        let room = (span.1 - span.0).abs();
        let most = if along == Along::X { room / 56.0 } else { room / 34.0 };
        let mut wanted = (most as usize).clamp(2, 9);
        loop {
            axis.ticks = if log { log_ticks(lo, hi, wanted) } else { linear_ticks(lo, hi, wanted) };
            if wanted <= 2 || along == Along::Y || axis.labels_fit() {
                break;
            }
            wanted -= 1;
        }
        axis
    }

    /// An axis whose ends lie on ticks, for charts that should breathe.
    pub(super) fn rounded(range: (f64, f64), span: (f64, f64), along: Along) -> Self {
        let first = Self::new(range, false, span, along);
        let step = match first.ticks.as_slice() {
            [a, b, ..] => b.0 - a.0,
            _ => return first,
        };
        let (lo, hi) = (first.lo, first.hi);
        let floor = (lo / step + 1e-9).floor() * step;
        let ceil = (hi / step - 1e-9).ceil() * step;
        Self::new((floor, ceil), false, span, along)
    }

    fn labels_fit(&self) -> bool {
        let half = |t: &(f64, String)| text_width(&t.1, TICK_FONT) / 2.0;
        self.ticks
            .windows(2)
            .all(|w| (self.at(w[1].0) - self.at(w[0].0)).abs() > half(&w[0]) + half(&w[1]) + 10.0)
    }

    /// The pixel of a value; values outside lie at the nearer end.
    pub(super) fn at(&self, value: f64) -> f64 {
        let f = |v: f64| if self.log { v.max(f64::MIN_POSITIVE).ln() } else { v };
        let share = (f(value) - f(self.lo)) / (f(self.hi) - f(self.lo));
        self.span.0 + (self.span.1 - self.span.0) * share.clamp(0.0, 1.0)
    }

    /// Leaves out ticks between whole numbers, for axes that count.
    pub(super) fn keep_whole_ticks(&mut self) {
        self.ticks.retain(|t| (t.0 - t.0.round()).abs() < 1e-6);
        self.ticks.iter_mut().for_each(|t| t.1 = numbers::fixed(t.0, 0));
    }

    /// Pixels of the lowest and of the highest value.
    pub(super) fn span(&self) -> (f64, f64) {
        self.span
    }

    /// Values at both ends, and whether the axis is logarithmic, as the page's script reads them.
    pub(super) fn scale(&self) -> String {
        format!("{} {} {}", self.lo, self.hi, if self.log { "log" } else { "linear" })
    }

    /// Widest tick label, in pixels.
    pub(super) fn label_width(&self) -> f64 {
        self.ticks.iter().map(|t| text_width(&t.1, TICK_FONT)).fold(0.0, f64::max)
    }
}

/// Smallest and largest of the finite values, if there are any.
pub(super) fn extent(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    values
        .into_iter()
        .filter(|v| v.is_finite())
        .fold(None, |r, v| Some(r.map_or((v, v), |(lo, hi): (f64, f64)| (lo.min(v), hi.max(v)))))
}

/// A range of one value gets room on both sides.
fn widen(lo: f64, hi: f64, log: bool) -> (f64, f64) {
    let tiny = (hi - lo) <= lo.abs().max(hi.abs()) * 1e-9;
    match (tiny, log) {
        (false, _) => (lo, hi),
        (true, true) => (lo / 2.0, hi * 2.0),
        (true, false) if lo == 0.0 => (0.0, 1.0),
        (true, false) => (lo - lo.abs() * 0.1, hi + hi.abs() * 0.1),
    }
}

/// Multiples of 1, 2 or 5 times a power of ten, at most about `wanted`.
fn linear_ticks(lo: f64, hi: f64, wanted: usize) -> Vec<(f64, String)> {
    let raw = (hi - lo) / wanted as f64;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|&s| s >= raw * 0.999);
    let step = step.unwrap_or(10.0 * power);
    let decimals = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
    let (first, last) = ((lo / step - 1e-6).ceil() as i64, (hi / step + 1e-6).floor() as i64);
    let small = lo.abs().max(hi.abs()) < 1e-4;
    let label = |v: f64| match small && v != 0.0 {
        true => format!("{v:.0e}"),
        false => numbers::fixed(v, decimals),
    };
    (first..=last).map(|i| i as f64 * step).map(|v| (v, label(v))).collect()
}

/// Powers of ten, and 2 and 5 times them where there is room.
fn log_ticks(lo: f64, hi: f64, wanted: usize) -> Vec<(f64, String)> {
    let pick = |factors: &[f64], every: i32| -> Vec<(f64, String)> {
        let (first, last) = (lo.log10().floor() as i32, hi.log10().ceil() as i32);
        (first..=last)
            .filter(|e| e % every == 0)
            .flat_map(|e| factors.iter().map(move |f| f * 10f64.powi(e)))
            .filter(|v| (lo * 0.9999..=hi * 1.0001).contains(v))
            .map(|v| (v, numbers::short(v)))
            .collect()
    };
    let thirds = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0];
    let choices = [pick(&thirds, 1), pick(&[1.0, 2.0, 5.0], 1), pick(&[1.0, 3.0], 1)];
    let coarse = (1..=300).map(|every| pick(&[1.0], every));
    let few = choices.into_iter().chain(coarse).find(|t| t.len() <= wanted);
    few.filter(|t| !t.is_empty()).unwrap_or_else(|| linear_ticks(lo, hi, wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|t| t.1.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_and_apart() {
        let axis = Axis::new((0.0, 100_000.0), false, (0.0, 300.0), Along::X);
        assert_eq!(labels(&axis), ["0", "20,000", "40,000", "60,000", "80,000", "100,000"][..]);
        for (lo, hi) in [(0.0, 0.0), (-3.0, 7.0), (1e-9, 2e-9), (5.0, 5.0), (1e9, 1.5e10)] {
            for px in [60.0, 200.0, 900.0] {
                let axis = Axis::new((lo, hi), false, (0.0, px), Along::X);
                assert!(!axis.ticks.is_empty() && axis.ticks.len() < 12, "{lo} {hi} {px}");
                assert!(axis.labels_fit() || axis.ticks.len() <= 4, "{lo} {hi} {px}");
            }
        }
    }

    #[test]
    fn logarithmic_axis_is_even_in_ratios() {
        let axis = Axis::new((1.0, 100.0), true, (0.0, 200.0), Along::X);
        assert!((axis.at(10.0) - 100.0).abs() < 1e-9);
        assert!(axis.ticks.iter().any(|t| t.1 == "10"));
    }
}
