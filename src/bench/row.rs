//! Something that is done again and again, and how long it took each time.

use serde_json::{Value, json};

use super::filter::Filter;
use super::machine;
use crate::cx::Cx;
use crate::device;
use crate::error::{Error, Result};
use crate::program::output::table;

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
    if costs.len() <= WORST {
        return String::new();
    }
    costs.sort_by(|a, b| b.1.total_cmp(&a.1));
    let all = costs.iter().map(|(_, cost)| cost).sum::<f64>().max(f64::MIN_POSITIVE);
    let row = |(name, cost): &(&str, f64)| {
        vec![(*name).to_owned(), words(*cost), format!("{:.1} %", 100.0 * cost / all)]
    };
    let mut rows = vec![["work", column, "of all"].map(str::to_owned).to_vec()];
    rows.extend(costs.iter().take(WORST).map(row));
    format!("\nthe {WORST} that {heading} most, as often as they are used:\n{}", table(&rows))
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
        let number = |value: Option<f64>, digits| {
            value.map_or(String::new(), |value| format!("{value:.digits$}"))
        };
        let percent =
            |value: Option<f64>| value.map_or(String::new(), |v| format!("{:.1} %", 100.0 * v));
        vec![
            mark.to_owned(),
            self.name.clone(),
            number(self.median_ms(), 3),
            number(self.timed(|s| quantile(s, 0.0)), 3),
            number(self.timed(|s| quantile(s, 1.0)), 3),
            percent(self.timed(noise)),
            number(self.rate(), 1),
            number(self.floor_ms, 3),
            percent(self.share()),
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
    let mut out = table(&cells);
    out += "\nms: median of the iterations; noise: distance of their quartiles over it";
    if worst.is_some() {
        out += &format!("; * the part with the most time{above}");
    }
    if rows.iter().any(Row::is_noisy) {
        out += &format!("\n{}", NOISY.1);
    }
    out + "\n\n"
}
