//! Something that is done again and again, and how long it took each time.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::filter::Filter;
use super::machine;
use crate::cx::Cx;
use crate::device;
use crate::error::{Error, Result};
use crate::program::output::fitting_table;

/// The value that a share of all are not above.
pub(super) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

/// Distance of the quartiles over the median.
pub(super) fn noise(samples: &[f64]) -> f64 {
    let [low, high] = [0.25, 0.75].map(|share| quantile(samples, share));
    (high - low) / quantile(samples, 0.5).max(f64::MIN_POSITIVE)
}

/// Noise above which a time says little.
pub(super) const MOST_NOISE: f64 = 0.1;
/// The mark of such a time, and what it means.
pub(super) const NOISY: (&str, &str) =
    ("?", "? too noisy to believe: the quartiles are over 10 % of the median apart");

/// Rows that are listed as the worst of a table.
const WORST: usize = 10;

/// The ten rows that cost most, by name, cost and share of what all rows cost: a heading, the name of
/// the column and how a cost is written. Nothing for a table that can be read whole.
pub(super) fn worst(
    heading: &str,
    column: &str,
    mut costs: Vec<(&str, f64)>,
    words: fn(f64) -> String,
) -> String {
    // Rows that are better than their floors save nothing elsewhere.
    costs.retain(|(_, cost)| *cost > 0.0);
    if costs.len() <= WORST {
        return String::new();
    }
    costs.sort_by(|a, b| b.1.total_cmp(&a.1));
    let all: f64 = costs.iter().map(|(_, cost)| cost).sum();
    let row = |(name, cost): &(&str, f64)| {
        vec![(*name).to_owned(), words(*cost), format!("{:.1} %", 100.0 * cost / all)]
    };
    let mut rows = vec![["work", column, "of all"].map(str::to_owned).to_vec()];
    rows.extend(costs.iter().take(WORST).map(row));
    let table = fitting_table(&rows, &["of all", column]);
    format!("\nthe {WORST} that {heading} most, as often as they are used:\n{table}")
}

/// Rows of a table of work below headings: of names `op/situation/pass/type`, which are long, what
/// has op and situation in common stands together. `rows` are those of an item, by the rest of
/// its name.
pub(super) fn grouped<T>(
    items: &[T],
    name: impl Fn(&T) -> &str,
    rows: impl Fn(&T, &str) -> Vec<Vec<String>>,
) -> Vec<Vec<String>> {
    let mut first = HashMap::new();
    for (at, item) in items.iter().enumerate() {
        first.entry(split(name(item)).0).or_insert(at);
    }
    let group = |item: &T| first[split(name(item)).0];
    let mut sorted: Vec<&T> = items.iter().collect();
    sorted.sort_by_key(|item| group(item));
    let mut out = Vec::new();
    for together in sorted.chunk_by(|a, b| group(a) == group(b)) {
        out.push(vec![split(name(together[0])).0.to_owned()]);
        out.extend(together.iter().flat_map(|item| rows(item, split(name(item)).1)));
    }
    out
}

/// A name before `/pass/type`, and these.
pub(super) fn split(name: &str) -> (&str, &str) {
    let at = name.rmatch_indices('/').nth(1).map(|(at, _)| at);
    at.map_or((name, ""), |at| (&name[..at], &name[at + 1..]))
}

/// Milliseconds in seven characters, as long as they are fewer than ten million.
pub(super) fn ms(value: f64) -> String {
    let digits = match value {
        ..1e3 => 3,
        1e3..1e4 => 2,
        1e4..1e5 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}

/// How often something is done.
pub(super) struct Rounds {
    /// So many times, at least once.
    pub count: usize,
    /// Whether times mean something: then there is a round more that does not count.
    pub timed: bool,
    /// Whether a profiler is told when the measured rounds begin and end.
    pub profile: bool,
}

/// One thing that was timed, or whose kernels were counted.
pub(super) struct Row {
    /// What it is.
    pub name: String,
    /// Milliseconds of each time; none where they would mean nothing.
    pub samples_ms: Vec<f64>,
    /// Kernels queued each time, on devices.
    pub launches: Option<u64>,
    /// Images that it works on, where it is about images.
    pub images: Option<usize>,
    /// The least time that it can take, where that is known.
    pub floor_ms: Option<f64>,
}

impl Row {
    /// Of times alone.
    pub(super) fn of_ms(name: impl Into<String>, samples_ms: Vec<f64>) -> Self {
        let name = name.into();
        Self { name, samples_ms, launches: None, images: None, floor_ms: None }
    }

    /// Does `work` so many rounds.
    pub(super) fn measure(
        cx: &Cx,
        name: impl Into<String>,
        rounds: &Rounds,
        mut work: impl FnMut() -> Result<()>,
    ) -> Result<Self> {
        if rounds.timed {
            work()?;
        }
        let (mut samples_ms, before) = (Vec::new(), device::launches());
        machine::profiled(cx, rounds.profile, || {
            for _ in 0..rounds.count {
                let from = cx.record_event()?;
                work()?;
                samples_ms.push(cx.ms_between(&from, &cx.record_event()?)?);
            }
            Ok(())
        })?;
        let launches = (device::launches() - before) / rounds.count as u64;
        if !rounds.timed {
            samples_ms.clear();
        }
        let launches = cx.is_device().then_some(launches);
        Ok(Self { launches, ..Self::of_ms(name, samples_ms) })
    }

    /// The same on these images.
    pub(super) fn of_images(self, images: usize) -> Self {
        Self { images: Some(images), ..self }
    }

    /// The same with a floor.
    pub(super) fn above(self, floor_ms: Option<f64>) -> Self {
        Self { floor_ms, ..self }
    }

    /// Milliseconds, where it was timed.
    pub(super) fn median_ms(&self) -> Option<f64> {
        self.timed(|s| quantile(s, 0.5))
    }

    /// Images a second.
    pub(super) fn rate(&self) -> Option<f64> {
        Some(self.images? as f64 / self.median_ms()? * 1e3)
    }

    /// Share of its floor that it reaches.
    pub(super) fn share(&self) -> Option<f64> {
        Some(self.floor_ms? / self.median_ms()?)
    }

    fn is_noisy(&self) -> bool {
        self.timed(noise).is_some_and(|noise| noise > MOST_NOISE)
    }

    /// Milliseconds above its floor.
    fn excess_ms(&self) -> f64 {
        self.median_ms().unwrap_or(0.0) - self.floor_ms.unwrap_or(0.0)
    }

    fn cells(&self, mark: &str) -> Vec<String> {
        let cell =
            |value: Option<f64>, words: fn(f64) -> String| value.map(words).unwrap_or_default();
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        vec![
            mark.to_owned(),
            self.name.clone(),
            cell(self.median_ms(), ms),
            cell(self.timed(|s| quantile(s, 0.0)), ms),
            cell(self.timed(|s| quantile(s, 1.0)), ms),
            cell(self.timed(noise), percent),
            cell(self.rate(), |rate| format!("{rate:.1}")),
            cell(self.floor_ms, ms),
            cell(self.share(), percent),
        ]
    }

    /// Something about the samples, where there are some.
    fn timed(&self, f: fn(&[f64]) -> f64) -> Option<f64> {
        (!self.samples_ms.is_empty()).then(|| f(&self.samples_ms))
    }

    /// An entry of `benchmarks`.
    pub(super) fn json(&self) -> Value {
        json!({
            "name": self.name,
            "time_ms": self.median_ms(),
            "time_ms_min": self.timed(|s| quantile(s, 0.0)),
            "time_ms_max": self.timed(|s| quantile(s, 1.0)),
            "noise": self.timed(noise),
            "samples": self.samples_ms.len(),
            "images_per_s": self.rate(),
            "launches": self.launches,
            "floor_ms": self.floor_ms,
            "floor_share": self.share(),
        })
    }
}

/// The rows that are wanted; exit 2 where none is.
pub(super) fn filtered(rows: Vec<Row>, filter: &Filter) -> Result<Vec<Row>> {
    let names = rows.iter().map(|row| row.name.clone()).collect::<Vec<_>>().join(", ");
    let left: Vec<Row> = rows.into_iter().filter(|row| filter.matches(&row.name)).collect();
    if left.is_empty() {
        return Err(Error::usage(format!("--filter matches none of the rows: {names}")));
    }
    Ok(left)
}

/// A table for people of those that were timed. Marked is the part with the most time above its
/// floor.
pub(super) fn text(rows: &[Row], is_part: impl Fn(&Row) -> bool) -> String {
    let head = ["", "part", "ms", "least", "most", "noise", "images/s", "floor ms", "of floor"];
    let parts = rows.iter().filter(|row| is_part(row));
    let worst = parts.max_by(|a, b| a.excess_ms().total_cmp(&b.excess_ms()));
    let mark = |row: &Row| {
        let is_worst = worst.is_some_and(|worst| std::ptr::eq(worst, row));
        let marks = [(is_worst, "*"), (row.is_noisy(), NOISY.0)];
        marks.iter().filter(|(on, _)| *on).map(|(_, mark)| *mark).collect::<String>()
    };
    let mut cells = vec![head.map(str::to_owned).to_vec()];
    let timed = rows.iter().filter(|row| !row.samples_ms.is_empty());
    cells.extend(timed.map(|row| row.cells(&mark(row))));
    if cells.len() == 1 {
        return String::new();
    }
    let mut above = " above its floor";
    if rows.iter().all(|row| row.floor_ms.is_none()) {
        above = "";
        cells.iter_mut().for_each(|row| row.truncate(head.len() - 2));
    }
    let may_go = ["most", "least", "noise", "floor ms", "images/s"];
    let mut out = fitting_table(&cells, &may_go);
    out += "\nms: median of the iterations; noise: distance of their quartiles over it";
    if worst.is_some() {
        out += &format!("\n* the part with the most time{above}");
    }
    if rows.iter().any(Row::is_noisy) {
        out += &format!("\n{}", NOISY.1);
    }
    out + "\n\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_one_situation_stand_together_below_its_name() {
        let names = ["relu/8x4/forward/f32", "add/8x4/forward/f32", "relu/8x4/backward/f32"];
        let rows = grouped(&names, |name| name, |_, rest| vec![vec![String::new(), rest.into()]]);
        let text = fitting_table(&rows, &[]);
        let expected = ["relu/8x4", "  forward/f32", "  backward/f32", "add/8x4", "  forward/f32"];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }

    /// The longest name of `bench step`, and times that no run should have.
    #[test]
    fn a_table_of_steps_fits_120_columns() {
        let name = "alone: random s64-w80.160.320.640-d4.6.29.4";
        let samples_ms = vec![1_234_567.1, 2_345_678.2, 9_345_678.9];
        let row = Row::of_ms(name, samples_ms).of_images(4096).above(Some(1_234_567.8));
        let text = text(&[row], |_| true);
        assert!(text.contains("2345678  1234567  9345679"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
        assert_eq!([0.5, 1234.567, 12345.67].map(ms), ["0.500", "1234.57", "12345.7"]);
    }

    #[test]
    fn shares_are_of_what_all_rows_lose() {
        let mut costs = vec![("a", 10.0), ("better than its floor", -20.0)];
        costs.extend(["b", "c", "d", "e", "f", "g", "h", "i", "j", "k"].map(|name| (name, 1.0)));
        let text = worst("cost", "ms", costs, ms);
        assert!(text.contains("\na     10.000  50.0 %\n"), "{text}");
    }
}
