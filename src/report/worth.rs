//! What a search is worth, as pages show it: ways to choose, beside each other.

use serde::Serialize;

use super::numbers;
use crate::search::Choosing;
use crate::search::agreement::Correlation;
use crate::search::consistency::Consistency;
use crate::search::gaps::{Gap, LEAST_FOR_GAPS};
use crate::search::worth::{Chooser, Chosen};

/// A way to choose.
#[derive(Serialize)]
pub(super) struct Way {
    by: &'static str,
    rho: String,
    bootstrap: String,
    kendall: String,
    given: String,
    within: String,
    regret: String,
    random: String,
    beats: String,
    largest: String,
}

/// What the search's score chooses in a budget.
#[derive(Serialize)]
struct InBudget {
    budget: String,
    nets: usize,
    arch: String,
    accuracy: String,
    regret: String,
    random: String,
    largest: String,
}

/// A table of them.
#[derive(Serialize)]
pub(super) struct Ways {
    title: String,
    note: String,
    ways: Vec<Way>,
    /// Of the search's score.
    budgets: Vec<InBudget>,
}

/// Of nets that were evaluated in this way.
pub(super) fn ways(how: &str, worth: &Choosing) -> Ways {
    let over = match worth.test_images {
        0 => "over nets".to_owned(),
        n => format!("over nets and {} test images", numbers::count(n as u64)),
    };
    let reliable = worth.reliability.map_or(String::new(), |share| {
        format!(
            " Of the variance of accuracies {} is not error of the test images.",
            numbers::percent(share)
        )
    });
    Ways {
        title: format!("What choosing is worth: {how}"),
        note: format!(
            "{} nets; 95 % intervals by bootstrap {over}, of the gaps from {LEAST_FOR_GAPS} nets on.{reliable} \
             In each budget the net is taken for which the column at the left is highest; gaps are in \
             points of accuracy, means over the budgets. Parameters, MACs and NASWOT cost no training. \
             The best net is known by labels alone, and looks better than it is, as the luckiest of many \
             does.",
            worth.nets
        ),
        ways: worth.choosers.iter().map(way).collect(),
        budgets: worth.choosers.iter().take(1).flat_map(|c| &c.budgets).map(in_budget).collect(),
    }
}

/// With a minus sign.
fn gap(gap: &Gap) -> String {
    gap.words().replace('-', "−")
}

fn in_budget(c: &Chosen) -> InBudget {
    InBudget {
        budget: c.budget.clone(),
        nets: c.nets,
        arch: c.arch.to_string(),
        accuracy: numbers::percent(c.accuracy),
        regret: gap(&c.gaps.regret),
        random: gap(&c.gaps.over_random),
        largest: gap(&c.gaps.over_largest),
    }
}

fn way(c: &Chooser) -> Way {
    let rho = |c: &Correlation| c.words().replace('-', "−");
    let beats = &c.mean.beats_random;
    Way {
        by: c.title(),
        rho: rho(&c.spearman),
        bootstrap: c.bootstrap95.map_or("–".into(), |[lo, hi]| {
            format!("{} to {}", numbers::fixed(lo, 2), numbers::fixed(hi, 2))
        }),
        kendall: c.kendall.map_or("undefined".into(), |tau| numbers::fixed(tau, 2)),
        within: c.within_budgets.map_or("–".into(), |rho| numbers::fixed(rho, 2)),
        given: c.given_macs.as_ref().map_or("–".into(), rho),
        regret: gap(&c.mean.regret),
        random: gap(&c.mean.over_random),
        beats: format!(
            "{}{}",
            numbers::percent(beats.value),
            if beats.resolved { "" } else { ", not resolved" }
        ),
        largest: gap(&c.mean.over_largest),
    }
}

/// `Over halves of the search images (200 pairs): the same winner in 85.0 %, …`.
pub(super) fn consistency(over: &str, c: &Consistency) -> String {
    let rho = c.spearman.map_or("undefined".into(), |rho| numbers::fixed(rho, 2));
    let middle = c.middle95.map_or(String::new(), |[lo, hi]| {
        format!(" ({} to {})", numbers::fixed(lo, 2), numbers::fixed(hi, 2))
    });
    let pairs = if c.pairs == 1 { "pair" } else { "pairs" };
    format!(
        "Over {over} ({} {pairs}): the same winner in {}, rank correlation of the scores {rho}{middle}.",
        c.pairs,
        numbers::percent(c.same_winner)
    )
}
