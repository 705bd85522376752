//! What a search is worth: the nets that it chooses, beside a random net of the budget, the best
//! one, the largest that fits, and what anyone could choose by instead: compute, parameters, and a
//! proxy that needs no training ([`naswot`](super::naswot)).
//!
//! Intervals are bootstrap intervals over nets (within their budgets) and test images together.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::agreement::{Correlation, LEAST_NETS};
use super::bootstrap::{RESAMPLES, interval95};
use super::correlation::{kendall, partial, spearman};
use super::gaps::{Found, Gaps};
use super::journal::Candidate;
use super::winners::BudgetResult;
use crate::rng::{Philox, Purpose};
use crate::space::Arch;

/// Fewest nets over which a correlation has a bootstrap interval: of fewer, resamples say little.
const LEAST_FOR_BOOTSTRAP: usize = 10;
/// Draws of resamples of nets: those of images alone have 0.
const NETS: u16 = 1;

/// What labels say of a net, and what is known of it without training.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judged {
    /// Share of the test images that it names right.
    pub accuracy: f64,
    /// Whether it names each test image right; empty where that was not kept.
    pub correct: Vec<bool>,
    /// NASWOT's score.
    pub naswot: Option<f64>,
}

/// A budget's choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chosen {
    /// The budget.
    pub budget: String,
    /// Its nets that were evaluated.
    pub nets: usize,
    /// The chosen one.
    pub arch: Arch,
    /// Its accuracy.
    pub accuracy: f64,
    /// Beside the others.
    #[serde(flatten)]
    pub gaps: Gaps,
}

/// A way to choose nets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chooser {
    /// `score`, `macs`, `params` or `naswot`; the highest value is chosen.
    pub by: String,
    /// Spearman's ρ with accuracy.
    pub spearman: Correlation,
    /// Its bootstrap interval over nets and test images; null over too few nets.
    pub bootstrap95: Option<[f64; 2]>,
    /// Mean of the ρ within budgets that have at least three nets: what is left where compute is
    /// nearly the same.
    pub within_budgets: Option<f64>,
    /// Kendall's τ-b.
    pub kendall: Option<f64>,
    /// Spearman's partial correlation with MACs held fixed; null for MACs.
    pub given_macs: Option<Correlation>,
    /// By budget.
    pub budgets: Vec<Chosen>,
    /// Mean over the budgets.
    pub mean: Gaps,
}

/// What choosing is worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choosing {
    /// Nets that were evaluated.
    pub nets: usize,
    /// Test images that were resampled; 0 where only accuracies are known.
    pub test_images: usize,
    /// Share of the variance of accuracies that is not error of the test images, at least 0: no way to
    /// choose can correlate better than its root. Null where only accuracies are known.
    pub reliability: Option<f64>,
    /// The search's score first.
    pub choosers: Vec<Chooser>,
}

/// A net that was evaluated.
struct Net<'a> {
    candidate: &'a Candidate,
    judged: &'a Judged,
}

/// One resample: which nets were drawn, by budget, and their accuracies on the drawn images.
struct Resample {
    nets: Vec<Vec<usize>>,
    accuracies: Vec<f64>,
}

/// Holds ways to choose against labels. `budgets` are those of `winners.json`, in whose order the
/// candidates are; where there are none, all are one. `None` for fewer than [`LEAST_NETS`] nets.
pub fn worth(
    candidates: &[Candidate],
    budgets: &[BudgetResult],
    judged: &BTreeMap<Arch, Judged>,
    seed: u64,
) -> Option<Choosing> {
    let mut seen = BTreeSet::new();
    let (mut nets, mut groups) = (Vec::new(), Vec::new());
    let mut rest = candidates;
    let all = ("all".to_owned(), candidates.len());
    let parts = budgets.iter().map(|b| (b.group.budget.clone(), b.candidates));
    let parts: Vec<_> = if budgets.is_empty() { vec![all] } else { parts.collect() };
    for (budget, count) in parts {
        let (own, others) = rest.split_at(count.min(rest.len()));
        rest = others;
        // A net that lies in two budgets counts once.
        let new = own.iter().filter(|c| seen.insert(c.arch));
        let first = nets.len();
        nets.extend(new.filter_map(|c| Some(Net { candidate: c, judged: judged.get(&c.arch)? })));
        if nets.len() > first {
            groups.push((budget, (first..nets.len()).collect::<Vec<_>>()));
        }
    }
    if nets.len() < LEAST_NETS {
        return None;
    }
    let tests = nets[0].judged.correct.len();
    let tests = if nets.iter().all(|n| n.judged.correct.len() == tests) { tests } else { 0 };
    let resamples: Vec<Resample> =
        (0..RESAMPLES).into_par_iter().map(|r| resample(&nets, &groups, tests, seed, r)).collect();
    type Value = fn(&Net) -> Option<f64>;
    let ways: [(&str, Value); 4] = [
        ("score", |n| Some(n.candidate.score)),
        ("macs", |n| Some(n.candidate.macs as f64)),
        ("params", |n| Some(n.candidate.params as f64)),
        ("naswot", |n| n.judged.naswot),
    ];
    let choosers = ways.into_iter().filter_map(|(by, value)| {
        let values: Option<Vec<f64>> = nets.iter().map(value).collect();
        Some(chooser(by, &values?, &nets, &groups, &resamples))
    });
    Some(Choosing {
        nets: nets.len(),
        test_images: tests,
        reliability: reliability(&nets, tests),
        choosers: choosers.collect(),
    })
}

/// (V − mean of p(1 − p)/n) / V with the variance V of accuracies p on n images.
fn reliability(nets: &[Net], tests: usize) -> Option<f64> {
    let n = nets.len() as f64;
    let mean = nets.iter().map(|net| net.judged.accuracy).sum::<f64>() / n;
    let square = |net: &Net| (net.judged.accuracy - mean).powi(2);
    let variance = nets.iter().map(square).sum::<f64>() / (n - 1.0);
    let error = |net: &Net| net.judged.accuracy * (1.0 - net.judged.accuracy) / tests as f64;
    let error = nets.iter().map(error).sum::<f64>() / n;
    (tests > 0 && variance > 0.0).then(|| ((variance - error) / variance).max(0.0))
}

/// Resample `r`, a function of seed and `r` alone.
fn resample(
    nets: &[Net],
    groups: &[(String, Vec<usize>)],
    tests: usize,
    seed: u64,
    r: usize,
) -> Resample {
    let mut rng = Philox::new(seed, Purpose::Bootstrap, r as u64, 0);
    let mut times = vec![0u32; tests];
    (0..tests).for_each(|_| times[rng.below(tests)] += 1);
    let accuracy = |net: &Net| match tests {
        0 => net.judged.accuracy,
        _ => {
            let right = net.judged.correct.iter().zip(&times).filter(|(right, _)| **right);
            right.map(|(_, times)| f64::from(*times)).sum::<f64>() / tests as f64
        }
    };
    let mut rng = Philox::new(seed, Purpose::Bootstrap, r as u64, NETS);
    let mut drawn = |own: &[usize]| own.iter().map(|_| own[rng.below(own.len())]).collect();
    Resample {
        nets: groups.iter().map(|(_, own)| drawn(own)).collect(),
        accuracies: nets.iter().map(accuracy).collect(),
    }
}

/// What the net with the highest of `values` is worth among `own`; the first of equals.
fn choose(own: &[usize], values: &[f64], accuracies: &[f64], nets: &[Net]) -> (usize, Found) {
    let first_max = |of: &dyn Fn(usize) -> f64| {
        own.iter().copied().reduce(|best, i| if of(i) > of(best) { i } else { best }).unwrap_or(0)
    };
    let chosen = first_max(&|i| values[i]);
    let largest = first_max(&|i| nets[i].candidate.macs as f64);
    let (n, found) = (own.len() as f64, accuracies[chosen]);
    let best = own.iter().map(|&i| accuracies[i]).fold(f64::MIN, f64::max);
    let mean = own.iter().map(|&i| accuracies[i]).sum::<f64>() / n;
    let beaten = |&i: &usize| match accuracies[i].total_cmp(&found) {
        std::cmp::Ordering::Less => 1.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Greater => 0.0,
    };
    let beats = own.iter().map(beaten).sum::<f64>() / n;
    (chosen, [best - found, found - mean, found - accuracies[largest], beats])
}

fn chooser(
    by: &str,
    values: &[f64],
    nets: &[Net],
    groups: &[(String, Vec<usize>)],
    resamples: &[Resample],
) -> Chooser {
    let accuracies: Vec<f64> = nets.iter().map(|n| n.judged.accuracy).collect();
    let macs: Vec<f64> = nets.iter().map(|n| n.candidate.macs as f64).collect();
    let rho = |x: &[f64], y: &[f64]| spearman(x, y);
    let given = || {
        let (va, vm, ma) =
            (rho(values, &accuracies)?, rho(values, &macs)?, rho(&macs, &accuracies)?);
        partial(va, vm, ma)
    };
    let redrawn = |r: &Resample| {
        let pairs = r.nets.iter().flatten().map(|&i| (values[i], r.accuracies[i]));
        let (x, y): (Vec<f64>, Vec<f64>) = pairs.unzip();
        spearman(&x, &y)
    };
    let redrawn: Vec<f64> = resamples.par_iter().filter_map(redrawn).collect();
    let drawn = |g: usize, r: &Resample| choose(&r.nets[g], values, &r.accuracies, nets).1;
    let mut budgets = Vec::new();
    let mut sum: (Found, Vec<Found>) = ([0.0; 4], vec![[0.0; 4]; resamples.len()]);
    let share = 1.0 / groups.len() as f64;
    for (g, (budget, own)) in groups.iter().enumerate() {
        let (chosen, found) = choose(own, values, &accuracies, nets);
        let drawn: Vec<Found> = resamples.par_iter().map(|r| drawn(g, r)).collect();
        add(&mut sum.0, &found, share);
        sum.1.iter_mut().zip(&drawn).for_each(|(sum, drawn)| add(sum, drawn, share));
        budgets.push(Chosen {
            budget: budget.clone(),
            nets: own.len(),
            arch: nets[chosen].candidate.arch,
            accuracy: accuracies[chosen],
            gaps: Gaps::new(&found, &drawn, own.len()),
        });
    }
    Chooser {
        by: by.to_owned(),
        spearman: Correlation::new(rho(values, &accuracies), nets.len(), 0),
        bootstrap95: (nets.len() >= LEAST_FOR_BOOTSTRAP && redrawn.len() * 2 > resamples.len())
            .then(|| interval95(redrawn)),
        within_budgets: within(values, &accuracies, groups),
        kendall: kendall(values, &accuracies),
        given_macs: (by != "macs").then(|| Correlation::new(given(), nets.len(), 1)),
        budgets,
        mean: Gaps::new(&sum.0, &sum.1, nets.len()),
    }
}

/// Mean ρ of the budgets that have a ranking.
fn within(values: &[f64], accuracies: &[f64], groups: &[(String, Vec<usize>)]) -> Option<f64> {
    let of = |own: &Vec<usize>, all: &[f64]| own.iter().map(|&i| all[i]).collect::<Vec<_>>();
    let ranked = groups.iter().filter(|(_, own)| own.len() >= LEAST_NETS);
    let rhos = ranked.filter_map(|(_, own)| spearman(&of(own, values), &of(own, accuracies)));
    let rhos: Vec<f64> = rhos.collect();
    (!rhos.is_empty()).then(|| rhos.iter().sum::<f64>() / rhos.len() as f64)
}

fn add(sum: &mut Found, found: &Found, share: f64) {
    sum.iter_mut().zip(found).for_each(|(sum, value)| *sum += share * value);
}

impl Choosing {
    /// A line for each way to choose.
    pub fn text(&self) -> String {
        let mut lines = vec![format!(
            "What choosing is worth, points of accuracy, mean over the budgets ({} nets; 95 % \
             intervals over nets and test images):",
            self.nets
        )];
        lines.extend(self.choosers.iter().map(|c| {
            format!(
                "  by {}: below the best {}, above a random net {}, above the largest {}; ρ {}",
                c.title(),
                c.mean.regret.words(),
                c.mean.over_random.words(),
                c.mean.over_largest.words(),
                c.spearman.words()
            )
        }));
        lines.join("\n")
    }
}

impl Chooser {
    /// What it is called.
    pub fn title(&self) -> &'static str {
        match self.by.as_str() {
            "score" => "score",
            "macs" => "MACs",
            "params" => "parameters",
            _ => "NASWOT, untrained",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(stem: usize, macs: u64, score: f64) -> Candidate {
        Candidate {
            arch: Arch { stem, widths: [1; 4], depths: [1; 4] },
            macs,
            params: 100 - macs,
            latency_ms: None,
            score,
            levels: BTreeMap::new(),
            ci95: [score; 2],
            images: 9,
            bn_images: 9,
            teacher_step: 3,
        }
    }

    /// 40 nets whose accuracy is their score's but for noise; larger nets are no better.
    fn setting(noise: f32) -> (Vec<Candidate>, BTreeMap<Arch, Judged>) {
        let mut rng = Philox::new(4, Purpose::Check, 0, 0);
        let nets: Vec<Candidate> =
            (0..40).map(|i| candidate(i + 1, 1 + rng.below(50) as u64, i as f64 / 40.0)).collect();
        let judge = |c: &Candidate| {
            let p = 0.3 + 0.4 * c.score as f32 + noise * rng.normal();
            let correct: Vec<bool> = (0..500).map(|_| rng.uniform() < p).collect();
            let accuracy = correct.iter().filter(|c| **c).count() as f64 / 500.0;
            (c.arch, Judged { accuracy, correct, naswot: Some(-c.score) })
        };
        let judged = nets.iter().map(judge).collect();
        (nets, judged)
    }

    #[test]
    fn a_good_score_is_told_from_chance_and_a_bad_one_from_a_good_one() {
        let (nets, judged) = setting(0.01);
        let found = worth(&nets, &[], &judged, 1).unwrap();
        assert_eq!((found.nets, found.test_images), (40, 500));
        let [score, macs, params, naswot] = &found.choosers[..] else { panic!("four") };
        assert!(score.spearman.rho.unwrap() > 0.9 && naswot.spearman.rho.unwrap() < -0.9);
        assert_eq!(macs.spearman.rho.unwrap(), -params.spearman.rho.unwrap());
        assert!(score.mean.over_random.resolved && score.mean.over_random.value > 0.1);
        assert!(naswot.mean.over_random.resolved && naswot.mean.over_random.value < -0.1);
        assert!(naswot.mean.regret.resolved && naswot.mean.regret.value > 0.3);
        assert_eq!(macs.mean.over_largest.value, 0.0);
        assert!(!macs.mean.over_largest.resolved);
        assert!(score.mean.beats_random.value > 0.9 && score.mean.beats_random.resolved);
        let [lo, hi] = score.bootstrap95.unwrap();
        assert!(lo > 0.8 && lo < score.spearman.rho.unwrap() && hi <= 1.0, "{lo} {hi}");
        // The standard error of an accuracy is 0.02, their spread 0.12.
        assert!((0.95..0.99).contains(&found.reliability.unwrap()), "{:?}", found.reliability);
        assert_eq!(score.within_budgets, score.spearman.rho);
        // One budget: its gaps are the mean's.
        assert_eq!(score.budgets[0].gaps, score.mean);
        assert_eq!(found, worth(&nets, &[], &judged, 1).unwrap());
    }

    #[test]
    fn few_nets_have_no_interval() {
        let (nets, judged) = setting(0.01);
        let found = worth(&nets[..10], &[], &judged, 1).unwrap();
        assert_eq!(found.choosers[0].mean.regret.ci95, None);
        assert!(found.choosers[0].bootstrap95.is_some());
        let five = worth(&nets[..5], &[], &judged, 1).unwrap();
        assert_eq!(five.choosers[0].bootstrap95, None);
        assert!(found.choosers[0].mean.over_random.words().contains("too few nets"));
        assert_eq!(worth(&nets[..2], &[], &judged, 1), None);
    }

    #[test]
    fn accuracies_alone_are_resampled_over_nets() {
        let (nets, mut judged) = setting(0.0);
        judged.values_mut().for_each(|j| {
            j.correct.clear();
            j.naswot = None;
        });
        let found = worth(&nets, &[], &judged, 1).unwrap();
        assert_eq!((found.test_images, found.reliability, found.choosers.len()), (0, None, 3));
        assert!(found.choosers[0].mean.over_random.ci95.is_some());
    }
}
