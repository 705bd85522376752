//! Does a search find what labels would choose? Where candidates were evaluated by labels: how
//! well the score ranks them, beside what compute alone does, and what the winner of each budget
//! is worth beside the other nets of the budget.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::correlation::{partial, rank_interval95, spearman};
use super::journal::Candidate;
use super::winners::BudgetResult;
use crate::eval::evaluate::wilson95;
use crate::space::Arch;

/// Fewest nets whose ranks are compared.
pub const LEAST_NETS: usize = 3;

/// A rank correlation with accuracy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Correlation {
    /// Spearman's ρ; null where one side is constant.
    pub rho: Option<f64>,
    /// Its 95 % confidence interval, over nets; null for too few.
    pub ci95: Option<[f64; 2]>,
    /// Whether the interval leaves out 0.
    pub resolved: bool,
}

impl Correlation {
    /// Of a ρ over so many nets, with `given` variables held fixed.
    pub fn new(rho: Option<f64>, nets: usize, given: usize) -> Self {
        let ci95 = rho.and_then(|rho| rank_interval95(rho, nets, given));
        Self { rho, ci95, resolved: ci95.is_some_and(|[lo, hi]| lo > 0.0 || hi < 0.0) }
    }

    /// `0.36 (-0.01 to 0.64, not resolved)`.
    pub fn words(&self) -> String {
        let Some(rho) = self.rho else { return "undefined".into() };
        let so = if self.resolved { "" } else { ", not resolved" };
        match self.ci95 {
            Some([lo, hi]) => format!("{rho:.2} ({lo:.2} to {hi:.2}{so})"),
            None => format!("{rho:.2} (too few nets, not resolved)"),
        }
    }
}

/// A share of the test images whose class was named right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Worth {
    /// The net; null for the mean of several.
    pub arch: Option<Arch>,
    /// The share.
    pub accuracy: f64,
    /// Its 95 % confidence interval, over test images (Wilson).
    pub ci95: [f64; 2],
}

/// A budget's winner beside the other nets of the budget that were evaluated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Within {
    /// The budget.
    pub budget: String,
    /// Nets that were scored.
    pub candidates: usize,
    /// Those that were evaluated as well.
    pub evaluated: usize,
    /// The net with the highest score; null where it was not evaluated.
    pub winner: Option<Worth>,
    /// Mean accuracy of the evaluated nets, with the interval of one net of this accuracy.
    pub mean: Worth,
    /// The evaluated net with the highest accuracy, known only by labels.
    pub best: Worth,
    /// The evaluated net with the most MACs.
    pub largest: Worth,
    /// Whether the winner is above the mean; null where its interval holds the mean, or it was
    /// not evaluated.
    pub winner_above_mean: Option<bool>,
}

/// What labels say of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Candidates that were evaluated.
    pub nets: usize,
    /// Images that they were tested on.
    pub test_images: u64,
    /// Score and accuracy.
    pub score: Correlation,
    /// MACs alone and accuracy.
    pub macs: Correlation,
    /// Score and accuracy, MACs held fixed: what the score knows beyond compute.
    pub score_given_macs: Correlation,
    /// By budget; none where the search has not finished.
    pub budgets: Vec<Within>,
}

/// Holds a search against labels. `accuracy` is that of each evaluated net on `test_images`
/// images. `budgets` are those of `winners.json`, in whose order the candidates are. `None` for
/// fewer than [`LEAST_NETS`] candidates that were evaluated.
pub fn agreement(
    candidates: &[Candidate],
    budgets: &[BudgetResult],
    accuracy: &BTreeMap<Arch, f64>,
    test_images: u64,
) -> Option<Agreement> {
    // A net that lies in two budgets counts once.
    let mut seen = BTreeSet::new();
    let evaluated: Vec<(&Candidate, f64)> = candidates
        .iter()
        .filter(|c| seen.insert(c.arch))
        .filter_map(|c| Some((c, *accuracy.get(&c.arch)?)))
        .collect();
    let nets = evaluated.len();
    if nets < LEAST_NETS {
        return None;
    }
    let column =
        |of: fn(&(&Candidate, f64)) -> f64| -> Vec<f64> { evaluated.iter().map(of).collect() };
    let (score, macs, worth) =
        (column(|e| e.0.score), column(|e| e.0.macs as f64), column(|e| e.1));
    let (sa, ma, sm) = (spearman(&score, &worth), spearman(&macs, &worth), spearman(&score, &macs));
    let given = sa.zip(ma).zip(sm).and_then(|((sa, ma), sm)| partial(sa, sm, ma));
    let mut rest = candidates;
    let mut within = Vec::new();
    for budget in budgets {
        let (own, others) = rest.split_at(budget.candidates.min(rest.len()));
        rest = others;
        within.extend(compare(budget, own, accuracy, test_images));
    }
    Some(Agreement {
        nets,
        test_images,
        score: Correlation::new(sa, nets, 0),
        macs: Correlation::new(ma, nets, 0),
        score_given_macs: Correlation::new(given, nets, 1),
        budgets: within,
    })
}

/// A budget's winner beside its other nets; `None` where none was evaluated.
fn compare(
    budget: &BudgetResult,
    own: &[Candidate],
    accuracy: &BTreeMap<Arch, f64>,
    test_images: u64,
) -> Option<Within> {
    let worth = |arch: Option<Arch>, share: f64| Worth {
        arch,
        accuracy: share,
        ci95: wilson95(share, test_images),
    };
    let evaluated: Vec<(&Candidate, f64)> =
        own.iter().filter_map(|c| Some((c, *accuracy.get(&c.arch)?))).collect();
    let of = |e: &(&Candidate, f64)| worth(Some(e.0.arch), e.1);
    let mean = evaluated.iter().map(|e| e.1).sum::<f64>() / evaluated.len().max(1) as f64;
    let first = budget.winners.first().map(|w| w.candidate.arch);
    let winner = evaluated.iter().find(|e| Some(e.0.arch) == first).map(of);
    let apart = |w: &Worth| (mean < w.ci95[0] || mean > w.ci95[1]).then_some(w.accuracy > mean);
    Some(Within {
        budget: budget.group.budget.clone(),
        candidates: own.len(),
        evaluated: evaluated.len(),
        winner_above_mean: winner.as_ref().and_then(apart),
        winner,
        mean: worth(None, mean),
        best: of(evaluated.iter().max_by(|a, b| a.1.total_cmp(&b.1))?),
        largest: of(evaluated.iter().max_by_key(|e| e.0.macs)?),
    })
}

impl Agreement {
    /// What it comes to, a sentence a line.
    pub fn text(&self) -> String {
        let mut lines = vec![
            format!(
                "Spearman's rank correlation with accuracy over {} nets (95 % interval, over nets):",
                self.nets
            ),
            format!("  score             {}", self.score.words()),
            format!("  MACs alone        {}", self.macs.words()),
            format!("  score given MACs  {}", self.score_given_macs.words()),
        ];
        lines.extend(self.budgets.iter().map(Within::text));
        lines.push(self.conclusion().into());
        lines.join("\n")
    }

    /// What may be concluded, and no more.
    pub fn conclusion(&self) -> &'static str {
        let sign = |c: &Correlation| match c.rho {
            Some(rho) if c.resolved => rho.total_cmp(&0.0),
            _ => Ordering::Equal,
        };
        match (sign(&self.score), sign(&self.score_given_macs)) {
            (_, Ordering::Greater) => {
                "The score knows something of these nets' accuracy that their compute does not say."
            }
            (Ordering::Less, _) => "The score ranks these nets the wrong way round.",
            (Ordering::Greater, _) => {
                "The score ranks these nets, but whether it knows more than their compute is not \
                 resolved."
            }
            (Ordering::Equal, _) => "Whether the score ranks these nets is not resolved.",
        }
    }
}

impl Worth {
    /// `45.0 % (35.6 to 54.8)`.
    pub fn words(&self) -> String {
        let [lo, hi] = self.ci95.map(|share| 100.0 * share);
        format!("{:.1} % ({lo:.1} to {hi:.1})", 100.0 * self.accuracy)
    }
}

impl Within {
    fn text(&self) -> String {
        let winner = self.winner.as_ref().map_or("not evaluated".into(), Worth::words);
        format!(
            "  {}: winner {winner}, mean of {} nets {}, best {}, largest {}; winner {}",
            self.budget,
            self.evaluated,
            self.mean.words(),
            self.best.words(),
            self.largest.words(),
            self.verdict()
        )
    }

    /// Winner against mean, in a few words.
    pub fn verdict(&self) -> &'static str {
        match (self.winner_above_mean, &self.winner) {
            (_, None) => "not evaluated",
            (Some(true), _) => "above the mean",
            (Some(false), _) => "below the mean",
            (None, _) => "against mean: not resolved",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::{Group, Winner};
    use crate::space::Metric;

    fn arch(stem: usize) -> Arch {
        Arch { stem, widths: [1; 4], depths: [1; 4] }
    }

    fn candidate(stem: usize, macs: u64, score: f64) -> Candidate {
        Candidate {
            arch: arch(stem),
            macs,
            params: 1,
            latency_ms: None,
            score,
            levels: BTreeMap::new(),
            ci95: [score; 2],
            images: 9,
            bn_images: 9,
            teacher_step: 3,
        }
    }

    fn budget(name: &str, best: Candidate, candidates: usize) -> BudgetResult {
        let winner = Winner { rank: 1, candidate: best, p_best: Some(1.0), tied: false };
        let group = Group {
            budget: name.into(),
            metric: Metric::Macs,
            population: candidates,
            archs: Vec::new(),
        };
        BudgetResult { group, candidates, winners: vec![winner], ties: Vec::new() }
    }

    /// The eight nets of the correlations' test, and two that were not evaluated.
    fn setting() -> (Vec<Candidate>, BTreeMap<Arch, f64>) {
        let score = [0.71, 0.64, 0.69, 0.60, 0.99, 0.80, 0.75, 0.83, 0.78, 0.01];
        let macs = [12, 8, 10, 9, 11, 30, 25, 28, 33, 40];
        let accuracy = [41.0, 39.5, 43.0, 40.2, f64::NAN, 47.2, 44.1, 46.0, 45.5, f64::NAN];
        let all: Vec<Candidate> = (0..10).map(|i| candidate(i + 1, macs[i], score[i])).collect();
        let known = accuracy.iter().enumerate().filter(|(_, a)| a.is_finite());
        let known = known.map(|(i, a)| (arch(i + 1), a / 100.0)).collect();
        (all, known)
    }

    #[test]
    fn score_compute_and_winners_are_held_against_labels() {
        let (all, known) = setting();
        let budgets = [budget("0..20", all[4].clone(), 5), budget("20..50", all[7].clone(), 5)];
        let found = agreement(&all, &budgets, &known, 2000).unwrap();
        let rho = |c: Correlation| c.rho.unwrap();
        assert_eq!(found.nets, 8);
        assert!((rho(found.score) - 13.0 / 14.0).abs() < 1e-12);
        assert!((rho(found.macs) - 19.0 / 21.0).abs() < 1e-12);
        assert!((rho(found.score_given_macs) - 0.652_550_982_537_094_5).abs() < 1e-12);
        let resolved = [found.score, found.macs, found.score_given_macs].map(|c| c.resolved);
        assert_eq!(resolved, [true, true, false]);
        assert!(found.conclusion().contains("not resolved"));

        let [small, large] = &found.budgets[..] else { panic!("two budgets") };
        // The winner of the first was not evaluated.
        assert_eq!((small.candidates, small.evaluated, &small.winner), (5, 4, &None));
        assert_eq!(small.verdict(), "not evaluated");
        assert!((small.mean.accuracy - 0.409_25).abs() < 1e-12);
        assert_eq!((small.best.arch, small.largest.arch), (Some(arch(3)), Some(arch(1))));
        let winner = large.winner.as_ref().unwrap();
        assert_eq!((winner.arch, winner.accuracy), (Some(arch(8)), 0.46));
        assert_eq!((large.best.arch, large.largest.arch), (Some(arch(6)), Some(arch(9))));
        assert!((large.mean.accuracy - 0.457).abs() < 1e-12);
        // On 2,000 images an accuracy is known to about two points, so 0.3 are not resolved.
        assert_eq!(large.winner_above_mean, None);
        let text = found.text();
        for part in ["0.93 (0.63 to 0.99)", "0.65 (-0.23 to 0.95, not resolved)", "mean of 4 nets"]
        {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_clear_winner_is_called_one() {
        let (all, mut known) = setting();
        known.insert(arch(8), 0.60);
        let budgets = [budget("0..20", all[0].clone(), 5), budget("20..50", all[7].clone(), 5)];
        let found = agreement(&all, &budgets, &known, 2000).unwrap();
        assert_eq!(found.budgets[1].winner_above_mean, Some(true));
        known.insert(arch(8), 0.30);
        let found = agreement(&all, &budgets, &known, 2000).unwrap();
        assert_eq!(found.budgets[1].winner_above_mean, Some(false));
    }

    #[test]
    fn few_nets_say_nothing() {
        let (all, known) = setting();
        let few = |n: usize| known.clone().into_iter().take(n).collect();
        assert_eq!(agreement(&all, &[], &few(2), 100), None);
        let three = agreement(&all, &[], &few(3), 100).unwrap();
        assert_eq!((three.score.ci95, three.score.resolved), (None, false));
        assert!(three.conclusion().contains("not resolved"));
        // Nets that are all equally good have no ranking.
        let even = known.keys().map(|arch| (*arch, 0.5)).collect();
        let even = agreement(&all, &[], &even, 100).unwrap();
        assert_eq!((even.score.rho, even.score_given_macs.rho), (None, None));
        assert_eq!(even.score.words(), "undefined");
    }
}
