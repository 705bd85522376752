//! Budgets: half-open ranges of MACs, parameters or latency, `3G..4G`, and the groups that a
//! search goes through, `1G..8G:1G`.

use std::fmt;
use std::str::FromStr;

use super::{Arch, Cost, Space};
use crate::error::{Error, Result};

crate::choice! {
    /// What a budget limits.
    pub enum Metric("budget metric") {
        /// Multiply-accumulates of the backbone's convolutions for one image.
        Macs = "macs",
        /// Parameters of the backbone: convolutions and batch norms.
        Params = "params",
        /// Measured time of a forward pass, in nanoseconds.
        Latency = "latency",
    }
}

impl Metric {
    /// The value that follows from an architecture alone; none for a latency, which has to be
    /// measured.
    pub fn of(self, cost: &Cost) -> Option<u64> {
        match self {
            Metric::Macs => Some(cost.macs),
            Metric::Params => Some(cost.params),
            Metric::Latency => None,
        }
    }

    /// A value in words: `3.69 G`, `25.7 M`, `1.25 ms`.
    pub fn show(self, value: u64) -> String {
        match self {
            Metric::Latency => format!("{:.2} ms", value as f64 / 1e6),
            _ => si(value),
        }
    }

    /// A value as it is written in a budget: exact, with the largest suffix of which it has
    /// whole tenths (`1.1G`, `500M`).
    fn exact(self, value: u64) -> String {
        let mut units = self.units().iter().rev();
        // A unit is divided by ten where it has tenths, as ten times the value may be too much.
        let whole = |unit: u64| match unit {
            1 => true,
            _ => value.is_multiple_of(unit / 10),
        };
        match units.find(|(_, unit)| value >= *unit && whole(*unit)) {
            Some((suffix, unit)) => format!("{}{suffix}", value as f64 / *unit as f64),
            None => value.to_string(),
        }
    }

    /// Suffixes of this metric's numbers, ascending.
    fn units(self) -> &'static [(&'static str, u64)] {
        match self {
            Metric::Latency => &[("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)],
            _ => &[("", 1), ("K", 1_000), ("M", 1_000_000), ("G", 1_000_000_000)],
        }
    }

    /// Parses `3G`, `500M`, `1.5G`, `123456`; a latency needs its unit: `1.5ms`, `200us`.
    pub fn parse(self, s: &str) -> Result<u64> {
        let s = s.trim();
        let split = s.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(s.len());
        let (number, suffix) = s.split_at(split);
        let unit = self.units().iter().find(|(u, _)| u.eq_ignore_ascii_case(suffix));
        let value = number.parse::<f64>().ok().zip(unit).map(|(n, (_, unit))| n * *unit as f64);
        // Above 2⁵³ a number of MACs would no longer be exact.
        match value {
            Some(v) if v.is_finite() && v < 9e15 => Ok(v.round() as u64),
            _ => Err(Error::usage(format!(
                "{s:?} is not an amount of {self}: expected a number with one of the suffixes {}",
                self.units()
                    .iter()
                    .map(|u| u.0)
                    .filter(|u| !u.is_empty())
                    .collect::<Vec<_>>()
                    .join(", ")
            ))),
        }
    }
}

/// Compute in words, one way everywhere: `4.09 GMACs`, `7.12 MMACs`.
pub fn macs(value: u64) -> String {
    let number = si(value);
    let gap = if number.contains(' ') { "" } else { " " };
    format!("{number}{gap}MACs")
}

/// A number in three digits with K, M, G or T.
pub fn si(value: u64) -> String {
    let v = value as f64;
    let (scaled, suffix) = match value {
        1_000_000_000_000.. => (v / 1e12, " T"),
        1_000_000_000.. => (v / 1e9, " G"),
        1_000_000.. => (v / 1e6, " M"),
        1_000.. => (v / 1e3, " K"),
        _ => return value.to_string(),
    };
    let decimals = if scaled >= 100.0 {
        0
    } else if scaled >= 10.0 {
        1
    } else {
        2
    };
    format!("{scaled:.decimals$}{suffix}")
}

/// A range [lo, hi) of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    /// What is limited.
    pub metric: Metric,
    /// Least value inside.
    pub lo: u64,
    /// Least value above.
    pub hi: u64,
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.metric.exact(self.lo), self.metric.exact(self.hi))
    }
}

impl FromStr for Budget {
    type Err = Error;
    /// Parses a budget in MACs.
    fn from_str(s: &str) -> Result<Self> {
        Self::parse(s, Metric::Macs)
    }
}

impl Budget {
    /// Parses `3G..4G`.
    pub fn parse(s: &str, metric: Metric) -> Result<Self> {
        let (lo, hi) = s.split_once("..").ok_or_else(|| {
            Error::usage(format!("{s:?} is not a budget: expected lo..hi, such as 3G..4G"))
        })?;
        let (lo, hi) = (metric.parse(lo)?, metric.parse(hi)?);
        if lo >= hi {
            return Err(Error::usage(format!(
                "budget {s:?} is empty: expected lo below hi, such as 3G..4G (hi itself is outside)"
            )));
        }
        Ok(Self { metric, lo, hi })
    }

    /// Parses groups of equal size, `1G..8G:1G`: 1G..2G, 2G..3G, … 7G..8G. The last one ends
    /// at the upper end even where the step does not divide the range.
    pub fn parse_groups(s: &str, metric: Metric) -> Result<Vec<Self>> {
        let (range, step) = s.split_once(':').ok_or_else(|| {
            Error::usage(format!(
                "{s:?} is not a list of groups: expected lo..hi:step, such as 1G..8G:1G"
            ))
        })?;
        let (whole, step) = (Self::parse(range, metric)?, metric.parse(step)?);
        if step == 0 || (whole.hi - whole.lo) / step >= MOST_GROUPS {
            return Err(Error::usage(format!(
                "groups {s:?} are too fine: expected a step that gives at most {MOST_GROUPS} groups"
            )));
        }
        Ok(whole.split(step))
    }

    fn split(self, step: u64) -> Vec<Self> {
        (self.lo..self.hi)
            .step_by(step as usize)
            .map(|lo| Self { lo, hi: (lo + step).min(self.hi), ..self })
            .collect()
    }

    /// Whether a value is inside.
    pub fn contains(&self, value: u64) -> bool {
        self.lo <= value && value < self.hi
    }
}

/// More groups than anyone reads.
const MOST_GROUPS: u64 = 10_000;
/// Most groups that [`Space::default_groups`] makes.
const DEFAULT_GROUPS: u64 = 20;

impl Space {
    /// Every architecture with its value of a metric. Exit 2 for a latency.
    pub fn values(&self, metric: Metric) -> Result<Vec<(Arch, u64)>> {
        self.enumerate()
            .map(|arch| match metric.of(&self.cost(&arch)) {
                Some(value) => Ok((arch, value)),
                None => Err(Error::usage(
                    "latencies cannot be enumerated: expected --metric macs or params here",
                )),
            })
            .collect()
    }

    /// The architectures inside a budget, in lexicographic order. Where there is none, exit 2
    /// with the range that the space has.
    pub fn within(&self, budget: &Budget) -> Result<Vec<Arch>> {
        let values = self.values(budget.metric)?;
        let inside: Vec<Arch> =
            values.iter().filter(|(_, v)| budget.contains(*v)).map(|(a, _)| *a).collect();
        if !inside.is_empty() {
            return Ok(inside);
        }
        let metric = budget.metric;
        let all = || values.iter().map(|(_, v)| *v);
        let show = |v: Option<u64>| v.map_or("nothing".to_owned(), |v| metric.show(v));
        Err(Error::usage(format!(
            "no architecture of space {} lies in budget {budget} of {metric}: expected a budget \
             between {} ({}) and {} ({}); the nearest are at {} below and {} above it",
            self.name,
            show(all().min()),
            self.min(),
            show(all().max()),
            self.max(),
            show(all().filter(|&v| v < budget.lo).max()),
            show(all().filter(|&v| v >= budget.hi).min()),
        )))
    }

    /// Groups of a round size that cover the space: at most twenty, of 1, 2 or 5 times a power
    /// of ten. For the paper's space these are whole GMACs.
    pub fn default_groups(&self, metric: Metric) -> Result<Vec<Budget>> {
        let ends = [self.min(), self.max()].map(|a| metric.of(&self.cost(&a)));
        let [Some(lo), Some(hi)] = ends else {
            return Err(Error::usage("groups of latencies have to be given: --groups lo..hi:step"));
        };
        let covering =
            |step: u64| Budget { metric, lo: lo / step * step, hi: (hi / step + 1) * step };
        let steps = (0..15).flat_map(|e| [1, 2, 5].map(|m| m * 10u64.pow(e)));
        let step = steps
            .into_iter()
            .find(|&s| {
                let whole = covering(s);
                (whole.hi - whole.lo) / s <= DEFAULT_GROUPS
            })
            .unwrap_or(hi + 1);
        Ok(covering(step).split(step))
    }

    /// How many architectures lie in each group.
    pub fn count_groups(&self, groups: &[Budget]) -> Result<Vec<usize>> {
        let Some(first) = groups.first() else { return Ok(Vec::new()) };
        let mut counts = vec![0; groups.len()];
        for (_, value) in self.values(first.metric)? {
            for (count, group) in counts.iter_mut().zip(groups) {
                *count += usize::from(group.contains(value));
            }
        }
        Ok(counts)
    }
}
