//! The part of the page about the health of training: the verdict with what to change, and the curves
//! that it comes from.

use super::chart::{Line, LineChart};
use super::numbers;
use super::run::{Run, Step};
use super::series::{MAX_BINS, bins, ends};
use super::svg::Size;
use super::training::{Panel, series};
use crate::train::health::{
    COLLAPSED_SPREAD, Health, MEMORY_STEPS, RANK_STEPS, expected_rank, rank_share,
};

/// Where a run stands: the verdict, and means over its newest steps.
pub(super) struct Found {
    pub(super) health: Health,
    spread: f64,
    /// Lines from before ranks were written have none.
    rank: Option<f64>,
    expected_rank: Option<f64>,
}

impl Found {
    /// Spread and rank.
    pub(super) fn in_short(&self) -> String {
        let rank =
            self.rank.map_or(String::new(), |rank| format!(", rank {}", numbers::short(rank)));
        format!("spread {}{rank}", numbers::short(self.spread))
    }
}

/// Spread of a step; older lines hold it as a standard deviation.
pub(super) fn spread_of(run: &Run, step: &Step) -> Option<f64> {
    step.spread.or_else(|| Some(step.feature_std? * run.dim()?.sqrt()))
}

fn expected(run: &Run) -> Option<f64> {
    let (batch, dim) = (run.number("train.batch")?, run.dim()?);
    let symmetric = run.setting("moco.symmetric").and_then(toml::Value::as_bool) == Some(true)
        && run.section() == "moco";
    Some(expected_rank(batch as usize * if symmetric { 2 } else { 1 }, dim as usize))
}

/// Where the run stands; none before the first step.
pub(super) fn found(run: &Run) -> Option<Found> {
    let newest = |value: &dyn Fn(&Step) -> Option<f64>| {
        let values = series(run, value);
        let first = values.len().saturating_sub(MEMORY_STEPS as usize);
        let values: Vec<f64> =
            values[first..].iter().map(|v| v.1).filter(|v| v.is_finite()).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let spread = newest(&|s| spread_of(run, s))?;
    let (rank, expected_rank) = (newest(&|s| s.rank), expected(run));
    let share = rank.zip(expected_rank).and_then(|(rank, expected)| rank_share(rank, expected));
    let share = share.filter(|_| run.steps_done() >= RANK_STEPS);
    let written = run.steps.last().and_then(|s| s.health);
    let health = written.unwrap_or_else(|| Health::of(spread, share));
    Some(Found { health, spread, rank, expected_rank })
}

/// How training went, and what to change where it went badly.
pub(super) fn verdict(run: &Run) -> Option<String> {
    let found = found(run)?;
    let spread = format!(
        "the embeddings have a spread of {} (1: images lie apart, 0: one point)",
        numbers::short(found.spread)
    );
    let rank = found.rank.zip(found.expected_rank).map_or(String::new(), |(rank, expected)| {
        format!(
            " and a rank of {} (as many random directions: {})",
            numbers::short(rank),
            numbers::short(expected)
        )
    });
    if run.steps_done() < MEMORY_STEPS {
        return Some(format!("After so few steps it is too early to tell; {spread}{rank}."));
    }
    let steps = run.status["steps"].as_u64().unwrap_or_else(|| run.steps_done());
    let advice = crate::train::advice(&run.settings(), steps);
    let change = match found.health == Health::Healthy || advice.is_empty() {
        true => String::new(),
        false => format!(" What may help a new run: {}.", advice.join("; ")),
    };
    Some(format!("Training is {}: {spread}{rank}.{change}", found.health))
}

/// A number of a step.
type Number<'a> = &'a dyn Fn(&Step) -> Option<f64>;

/// Student's and teacher's line of a number.
fn both(
    run: &Run,
    title: &str,
    note: &str,
    values: [Number; 2],
    references: Vec<(f64, String)>,
) -> Option<Panel> {
    let line = |name: &str, class, value| {
        let points = series(run, value);
        ends(&points)?;
        Some(Line { name: name.into(), class, bins: bins(&points, MAX_BINS) })
    };
    let [student, teacher] = values;
    let lines = [line("student", "c1", student), line("teacher", "c2", teacher)];
    let chart = LineChart {
        label: title,
        size: Size::HALF,
        x_label: "step",
        lines: lines.into_iter().flatten().collect(),
        references,
        from_zero: true,
    };
    let svg = chart.draw()?;
    Some(Panel { title: title.into(), note: note.into(), svg, wide: false })
}

/// The curve of the spread.
pub(super) fn spread(run: &Run) -> Option<Panel> {
    let note = "How far embeddings lie apart: deviation of their components over a batch, times √D. \
                A line that stays near 0 is a collapse: all images get one embedding.";
    let references = vec![
        (1.0, "1: evenly on the sphere".to_owned()),
        (COLLAPSED_SPREAD, format!("{COLLAPSED_SPREAD}: collapsed below")),
    ];
    let values: [Number; 2] = [&|s| spread_of(run, s), &|s| s.teacher_spread];
    both(run, "Spread of the embeddings", note, values, references)
}

/// The curve of the rank.
pub(super) fn rank(run: &Run) -> Option<Panel> {
    let note = "How many directions embeddings use: the participation ratio of their covariance over \
                a batch. Few directions tell few kinds of images apart.";
    let references = expected(run)
        .map(|rank| (rank, format!("random directions: {}", numbers::short(rank))))
        .into_iter()
        .collect();
    let values: [Number; 2] = [&|s| s.rank, &|s| s.teacher_rank];
    both(run, "Rank of the embeddings", note, values, references)
}
