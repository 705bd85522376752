//! How good a choice of a net is: differences of accuracy from what else could have been chosen.

use serde::{Deserialize, Serialize};

use super::bootstrap::interval95;

/// Fewest nets over which an interval of a gap is given.
pub const LEAST_FOR_GAPS: usize = 30;

/// A difference of accuracies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// The difference.
    pub value: f64,
    /// Its 95 % interval; null over too few nets.
    pub ci95: Option<[f64; 2]>,
    /// Whether the interval leaves out 0.
    pub resolved: bool,
}

/// How good a choice is, as differences of accuracy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gaps {
    /// The best net's accuracy less the chosen one's: 0 is perfect.
    pub regret: Gap,
    /// The chosen net's less the mean: what is gained over a random net.
    pub over_random: Gap,
    /// The chosen net's less that of the net with the most MACs.
    pub over_largest: Gap,
    /// Probability that a random net of the budget is worse; of an equal one, half. Its interval
    /// is about 1/2, not 0.
    pub beats_random: Gap,
}

/// What is found in one budget: regret, gains over the mean and the largest, and the share beaten.
pub(super) type Found = [f64; 4];

impl Gaps {
    /// From what is found, and in each resample, over so many nets.
    pub(super) fn new(found: &Found, drawn: &[Found], nets: usize) -> Self {
        let gap = |i: usize, nothing: f64| {
            let all = || drawn.iter().map(|found| found[i]).collect();
            let ci95 = (nets >= LEAST_FOR_GAPS).then(|| interval95(all()));
            let resolved = ci95.is_some_and(|[lo, hi]| lo > nothing || hi < nothing);
            Gap { value: found[i], ci95, resolved }
        };
        Self {
            regret: gap(0, 0.0),
            over_random: gap(1, 0.0),
            over_largest: gap(2, 0.0),
            beats_random: gap(3, 0.5),
        }
    }
}

impl Gap {
    /// Points of a per cent: `0.4 (-0.1 to 0.8, not resolved)`.
    pub fn words(&self) -> String {
        let so = if self.resolved { "" } else { ", not resolved" };
        match self.ci95.map(|ends| ends.map(|end| 100.0 * end)) {
            Some([lo, hi]) => format!("{:.1} ({lo:.1} to {hi:.1}{so})", 100.0 * self.value),
            None => format!("{:.1} (too few nets, not resolved)", 100.0 * self.value),
        }
    }
}
