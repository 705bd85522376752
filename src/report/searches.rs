//! The part of the page about a search: scores against compute, and the winners.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::agreement;
use super::commands::{Commands, run_of};
use super::nets;
use super::numbers;
use super::run::{folder_name, json};
use super::scatter::{Band, MAX_POINTS, Point, Scatter};
use super::svg::Size;
use super::training::Panel;
use super::worth;
use crate::error::{Error, Result};
use crate::files::json_lines;
use crate::search::{self, BudgetResult, Candidate, Teacher, consistency};
use crate::space::budget::{macs, si};
use crate::space::{Arch, Budget, Metric, Space};

/// A winner as the page shows it.
#[derive(Serialize)]
struct Winner {
    budget: String,
    /// Nets looked at, of how many there are.
    looked_at: String,
    rank: usize,
    arch: String,
    macs: String,
    params: String,
    score: String,
    ci95: String,
    /// In what share of redraws of the search images its score was the highest.
    best: String,
    tied: bool,
    /// Its blocks, for the first of a budget.
    svg: Option<String>,
    wide: bool,
}

/// A search as the page shows it.
#[derive(Serialize)]
pub(super) struct Section {
    /// Whether it has winners; where not, what it shows is no result yet.
    pub(super) finished: bool,
    tag: String,
    id: String,
    facts: Vec<String>,
    notes: Vec<String>,
    panels: Vec<Panel>,
    commands: Option<Commands>,
    winners: Vec<Winner>,
    agreement: Vec<agreement::Card>,
    /// How much of the ranking other images would keep.
    consistency: Option<String>,
    settings: Vec<(String, String)>,
}

/// Reads the search in `dir`. `space` is the space it searched, where that is known. Fails
/// with exit 3 where `dir` holds no search.
pub(super) fn section(dir: &Path, space: Option<&Space>) -> Result<Section> {
    let path = dir.join("candidates.jsonl");
    let settings = json(&dir.join("search.json"))?;
    if !path.exists() && settings.is_null() {
        return Err(Error::data(format!(
            "{} is not a search's folder: expected candidates.jsonl in it",
            dir.display()
        )));
    }
    let (candidates, bad_lines) = json_lines::<Candidate>(&path)?;
    let winners = search::winners::read(dir)?;
    let budgets = winners.as_deref().unwrap_or_default();
    let teacher = Teacher::read(dir)?;
    // What an unfinished search has found so far is not held against labels.
    let held = match winners.is_some() {
        true => agreement::update(dir, &candidates, budgets)?,
        false => Vec::new(),
    };
    let tag = folder_name(dir);
    Ok(Section {
        finished: winners.is_some(),
        id: format!("search-{}", tag.replace(|c: char| !c.is_ascii_alphanumeric(), "-")),
        facts: facts(&candidates, teacher.as_ref()),
        notes: notes(&candidates, teacher.as_ref(), winners.is_some(), bad_lines),
        panels: panels(&candidates, winners.as_deref()),
        commands: commands(dir, &settings, &candidates, budgets)?,
        winners: shown_winners(budgets, space),
        agreement: held.iter().map(agreement::Held::card).collect(),
        consistency: match winners.is_some() && candidates.len() <= MOST_CUT {
            true => over_halves(dir, budgets)?,
            false => None,
        },
        settings: flat(&settings),
        tag,
    })
}

impl Section {
    /// Its heading's place and text, for the page's contents.
    pub(super) fn place(&self) -> (String, String) {
        (self.id.clone(), format!("Search: {}", self.tag))
    }
}

/// Commands for the first winner, or the first candidate where there is none yet.
fn commands(
    dir: &Path,
    settings: &Value,
    candidates: &[Candidate],
    budgets: &[BudgetResult],
) -> Result<Option<Commands>> {
    let first = budgets.iter().find_map(|b| Some(b.winners.first()?.candidate.arch));
    let first = first.or_else(|| Some(candidates.first()?.arch));
    let data: Vec<String> = Vec::deserialize(&settings["data"]).unwrap_or_default();
    let run = run_of(dir).unwrap_or_else(|| "RUN".into());
    first.map(|arch| Commands::new(&run, arch.to_string(), &data)).transpose()
}

/// Past so many nets the images are not cut in halves: that would take too long.
const MOST_CUT: usize = 2000;

/// What halves of the search images say of each other.
fn over_halves(dir: &Path, budgets: &[BudgetResult]) -> Result<Option<String>> {
    let scored = search::journal::read_scored(dir)?;
    let scores: Vec<&[f64]> = scored.iter().map(|s| s.scores.as_slice()).collect();
    let sizes: Vec<usize> = budgets.iter().map(|b| b.candidates).collect();
    let found = consistency::over_images(&scores, &sizes, 0);
    Ok(found.map(|found| worth::consistency("halves of the search images", &found)))
}

fn facts(candidates: &[Candidate], teacher: Option<&Teacher>) -> Vec<String> {
    let Some(c) = candidates.first() else { return Vec::new() };
    let bn = match c.bn_images {
        0 => "batch norms use the batch".to_owned(),
        n => format!("batch norms from {} images", numbers::count(n as u64)),
    };
    let mut facts = vec![
        format!("{} nets", numbers::count(candidates.len() as u64)),
        format!("scored on {} images", numbers::count(c.images as u64)),
        bn,
        format!("teacher of step {}", numbers::count(c.teacher_step)),
    ];
    facts.extend(teacher.map(|t| {
        let (spread, rank) = (numbers::fixed(t.spread, 2), numbers::fixed(t.rank, 1));
        format!("teacher {}: spread {spread}, rank {rank}", t.state())
    }));
    facts
}

fn notes(
    candidates: &[Candidate],
    teacher: Option<&Teacher>,
    finished: bool,
    bad_lines: usize,
) -> Vec<String> {
    let mut notes: Vec<String> = teacher.and_then(Teacher::warning).into_iter().collect();
    if !finished {
        notes.push(
            "This search is not finished: other candidates may still do better, and there are no \
             winners yet. The same command with --resume goes on."
                .into(),
        );
    }
    if bad_lines > 0 {
        notes.push(format!("{bad_lines} lines of candidates.jsonl could not be read."));
    }
    if candidates.len() > MAX_POINTS {
        notes.push(format!(
            "The chart shows {} of the {} nets, taken evenly, and all winners; those of single levels \
             show fewer.",
            numbers::count(candidates.len().div_ceil(candidates.len().div_ceil(MAX_POINTS)) as u64),
            numbers::count(candidates.len() as u64)
        ));
    }
    notes
}

/// Rank of every architecture that is among the best of its budget.
fn ranks(budgets: &[BudgetResult]) -> BTreeMap<Arch, usize> {
    let all = budgets.iter().flat_map(|b| &b.winners);
    all.map(|w| (w.candidate.arch, w.rank)).collect()
}

/// Whether a search was limited by latency, which all its nets then have.
fn by_latency(candidates: &[Candidate]) -> bool {
    candidates.iter().all(|c| c.latency_ms.is_some())
}

fn panels(candidates: &[Candidate], winners: Option<&[BudgetResult]>) -> Vec<Panel> {
    let lines = match winners {
        Some(_) => {
            " The line joins nets that no cheaper one beats; diamonds are the best of their budgets, the large ones the winners."
        }
        None => "",
    };
    let score = chart(
        if by_latency(candidates) { "Score against latency" } else { "Score against compute" },
        &format!(
            "Each dot is a net; the bar is the interval that holds its score with 95 % confidence \
             (over images). Higher is more like the teacher.{lines}"
        ),
        candidates,
        winners,
        &|c| Some((c.score, Some((c.ci95[0], c.ci95[1])))),
        true,
    );
    let names: Vec<&String> = match candidates.first() {
        Some(c) if c.levels.len() > 1 => c.levels.keys().collect(),
        _ => Vec::new(),
    };
    let levels = names.into_iter().filter_map(|name| {
        chart(
            &format!("Level {name}"),
            &format!("The part of the score that comes from {}.", level_words(name)),
            candidates,
            winners,
            &|c| Some((*c.levels.get(name)?, None)),
            false,
        )
    });
    score.into_iter().chain(levels).collect()
}

fn level_words(name: &str) -> String {
    let stage = name.strip_prefix('c').and_then(|n| n.parse::<usize>().ok());
    match (name, stage) {
        ("z", _) => "the embedding".into(),
        (_, Some(n)) if n > 1 => format!("the maps of stage {}", n - 1),
        _ => name.to_owned(),
    }
}

/// A score and its 95 % interval.
type Score = (f64, Option<(f64, f64)>);

fn chart(
    title: &str,
    note: &str,
    candidates: &[Candidate],
    winners: Option<&[BudgetResult]>,
    score: &dyn Fn(&Candidate) -> Option<Score>,
    wide: bool,
) -> Option<Panel> {
    let budgets = winners.unwrap_or_default();
    let ranks = ranks(budgets);
    let largest = candidates.iter().map(|c| c.macs as f64).fold(0.0, f64::max);
    // A search by latency is shown by what it was limited by.
    let by_latency = by_latency(candidates);
    let (unit, x_label) = match numbers::scale_of(largest) {
        _ if by_latency => (1.0, "forward pass of one image (ms)".to_owned()),
        (unit, prefix) => (unit, format!("compute of an image ({prefix}MACs)")),
    };
    let point = |c: &Candidate| -> Option<Point> {
        let (y, ci95) = score(c)?;
        let id = c.arch.to_string();
        let rank = ranks.get(&c.arch);
        let cost = nets::cost(c);
        let place = rank.map_or(String::new(), |r| format!("\nno. {r} of its budget"));
        Some(Point {
            x: c.latency_ms.filter(|_| by_latency).unwrap_or(c.macs as f64 / unit),
            y,
            ci95,
            title: format!("{id}\n{cost}\nscore {}{place}", numbers::short(y)),
            class: if rank.is_some() { "c2" } else { "c1" },
            mark: match rank {
                Some(1) if wide => Some(id),
                Some(1) => Some(String::new()),
                _ => None,
            },
        })
    };
    let points: Vec<Point> = candidates.iter().filter_map(point).collect();
    let (shown, unit) = if by_latency { (Metric::Latency, 1e6) } else { (Metric::Macs, unit) };
    let band = |b: &BudgetResult| {
        // A list of architectures has a name but no edges.
        let Budget { lo, hi, .. } = Budget::parse(&b.group.budget, shown).ok()?;
        Some(Band { name: b.group.budget.clone(), lo: lo as f64 / unit, hi: hi as f64 / unit })
    };
    let of_axis = budgets.iter().filter(|b| b.group.metric == shown);
    let bands: Vec<Band> = of_axis.filter_map(band).collect();
    let svg = Scatter {
        label: title,
        size: if wide { Size::TALL } else { Size::HALF },
        x_label: &x_label,
        points: &points,
        bands: &bands,
        frontier: winners.is_some(),
        references: &[],
    }
    .draw()?;
    Some(Panel { title: title.into(), note: note.into(), svg, wide })
}

fn shown_winners(budgets: &[BudgetResult], space: Option<&Space>) -> Vec<Winner> {
    let one = |b: &BudgetResult, w: &search::Winner| {
        let c = &w.candidate;
        let [lo, hi] = c.ci95.map(|v| numbers::fixed(v, 4));
        let space = space.filter(|space| w.rank == 1 && space.contains(&c.arch));
        Winner {
            budget: format!("{} {}", b.group.budget, b.group.metric),
            looked_at: format!(
                "{} of {}{}",
                numbers::count(b.candidates as u64),
                numbers::count(b.group.population as u64),
                // Of others nobody knows the latency.
                if b.group.metric == Metric::Latency { " timed" } else { "" }
            ),
            rank: w.rank,
            arch: c.arch.to_string(),
            macs: match c.latency_ms {
                Some(ms) => format!("{}, {ms:.2} ms", macs(c.macs)),
                None => macs(c.macs),
            },
            params: si(c.params),
            score: numbers::fixed(c.score, 4),
            ci95: format!("{lo} to {hi}"),
            best: w.p_best.map_or("unknown".to_owned(), numbers::percent),
            tied: w.tied,
            svg: space.map(|space| nets::draw(&c.arch, space)),
            wide: space.is_some_and(nets::is_wide),
        }
    };
    budgets.iter().flat_map(|b| b.winners.iter().map(move |w| one(b, w))).collect()
}

/// The leaves of a JSON value by dotted key.
pub(super) fn flat(value: &Value) -> Vec<(String, String)> {
    let mut out = Vec::new();
    flatten("", value, &mut out);
    out
}

fn flatten(prefix: &str, value: &Value, out: &mut Vec<(String, String)>) {
    match value {
        Value::Null => {}
        Value::Object(map) => {
            for (key, value) in map {
                let dot = if prefix.is_empty() { "" } else { "." };
                flatten(&format!("{prefix}{dot}{key}"), value, out);
            }
        }
        Value::String(s) => out.push((prefix.to_owned(), s.clone())),
        other => out.push((prefix.to_owned(), other.to_string())),
    }
}
