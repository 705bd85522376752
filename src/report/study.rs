//! A study's page: every table with its chart, the paper's numbers beside ours, and the cells.

use std::path::{Path, PathBuf};

use minijinja::context;
use serde::Serialize;
use serde_json::Value;

use super::bars::{Bar, Bars};
use super::numbers;
use super::scatter::{Point, Scatter};
use super::svg::{Layouts, Size};
use super::training::Panel;
use super::worth::{Ways, consistency, ways};
use super::{FILE, run::folder_name, write};
use crate::error::Result;
use crate::progress::human_duration;
use crate::search::Choosing;
use crate::study::{self, Row, Study, Table};

/// A number of ours with its interval, and the paper's.
#[derive(Serialize)]
struct Number {
    ours: String,
    ci95: String,
    paper: String,
}

#[derive(Serialize)]
struct Line {
    name: String,
    numbers: Vec<Number>,
    against: String,
    seeds: usize,
    note: Option<String>,
}

#[derive(Serialize)]
struct Section {
    id: String,
    title: String,
    notes: Vec<String>,
    panels: Vec<Panel>,
    columns: Vec<&'static str>,
    compares: bool,
    lines: Vec<Line>,
    worth: Vec<Ways>,
    consistency: Vec<String>,
}

/// Writes `report.html` into a study's folder. Returns the page's path.
///
/// # Errors
/// Exit 5 where the page cannot be written.
pub fn study(dir: &Path, study: &Study) -> Result<PathBuf> {
    let seconds: f64 = study.cells.iter().map(|cell| cell.seconds).sum();
    let images = study.images.iter();
    let images = images.map(|(name, n)| format!("{name}: {} images", numbers::count(*n as u64)));
    let cells = study.cells.iter().map(|cell| {
        let reason =
            cell.reason.as_ref().map(|reason| format!("exit {}: {reason}", cell.exit_code));
        context! {
            name => cell.name,
            command => cell.command,
            folder => format!("cells/{}", cell.name),
            time => human_duration(cell.seconds),
            seconds => cell.seconds,
            reason => reason,
        }
    });
    let mut facts = vec![
        format!("scale {}", study.scale),
        format!("preset {}", study.sizes.preset),
        format!("reference {}", study.reference),
        format!("{} cells, {}", study.cells.len(), human_duration(seconds)),
    ];
    facts.extend(images);
    let mut places: Vec<(String, String)> =
        study.tables.iter().map(|t| (t.table.clone(), name(&t.table))).collect();
    places.push(("cells".to_owned(), "Cells".to_owned()));
    let page = context! {
        parts_of_page => places,
        title => folder_name(dir),
        facts => facts,
        is_smoke => study.scale == crate::study::Scale::Smoke,
        left_out => study.left_out,
        failed => study.failed().len(),
        tables => study.tables.iter().map(section).collect::<Vec<_>>(),
        cells => cells.collect::<Vec<_>>(),
    };
    write(&dir.join(FILE), "study.html", page)
}

/// What a column is called, and how its numbers are written.
fn column(key: &str) -> (&'static str, fn(f64) -> String) {
    let percent: fn(f64) -> String = numbers::percent;
    let points: fn(f64) -> String = |v| numbers::fixed(100.0 * v, 1);
    let two: fn(f64) -> String = |v| numbers::fixed(v, 2);
    match key {
        "top1" => ("top-1", percent),
        "top5" => ("top-5", percent),
        "top1_1" => ("top-1, few labels", percent),
        "top5_1" => ("top-5, few labels", percent),
        "top1_10" => ("top-1, more labels", percent),
        "top5_10" => ("top-5, more labels", percent),
        "ap" => ("AP", percent),
        "ap50" => ("AP50", percent),
        "ap75" => ("AP75", percent),
        "mask_ap" => ("AP of masks", percent),
        "mask_ap50" => ("AP50 of masks", percent),
        "mask_ap75" => ("AP75 of masks", percent),
        "miou" => ("mIoU", percent),
        "macs" => ("MACs", numbers::scaled),
        "nets" => ("nets", |v| numbers::count(v as u64)),
        "spearman" => ("ρ, bootstrap interval", two),
        "spearman_fisher" => ("ρ, Fisher’s interval", two),
        "spearman_given_macs" => ("ρ given MACs", two),
        "spearman_within_budgets" => ("ρ within budgets", two),
        "kendall" => ("Kendall’s τ", two),
        "regret" => ("below the best", points),
        "over_random" => ("above a random net", points),
        "over_largest" => ("above the largest", points),
        _ => ("same winner", percent),
    }
}

fn section(table: &Table) -> Section {
    let mut keys: Vec<&String> = Vec::new();
    for key in table.rows.iter().flat_map(|row| row.ours.keys().chain(row.paper.keys())) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    Section {
        id: table.table.clone(),
        title: format!("{}. {}", name(&table.table), table.title),
        notes: table.notes.clone(),
        panels: panels(table),
        columns: keys.iter().map(|key| column(key).0).collect(),
        compares: table.rows.iter().any(|row| row.against_baseline.is_some()),
        lines: table.rows.iter().map(|row| line(row, &keys)).collect(),
        worth: table.worth.iter().map(|(how, worth)| ways(how, worth)).collect(),
        consistency: table.consistency.iter().map(|(over, c)| consistency(over, c)).collect(),
    }
}

/// `Table 2`, `Figure 3`.
fn name(table: &str) -> String {
    let (kind, number) = table.split_at(1);
    format!("{} {number}", if kind == "f" { "Figure" } else { "Table" })
}

fn line(row: &Row, keys: &[&String]) -> Line {
    let number = |key: &&String| {
        let write = column(key).1;
        let ends = row.ci95.get(*key).and_then(|ci| Some([ci[0].as_f64()?, ci[1].as_f64()?]));
        let holds_zero = ends.is_some_and(|[lo, hi]| lo <= 0.0 && hi >= 0.0);
        let so = if holds_zero { ", not resolved" } else { "" };
        let paper = row.paper.get(*key).and_then(Value::as_f64);
        Number {
            ours: row.ours.get(*key).and_then(Value::as_f64).map_or("–".into(), write),
            ci95: ends
                .map_or(String::new(), |[lo, hi]| format!("{} to {}{so}", write(lo), write(hi))),
            paper: paper.map_or(String::new(), |v| format!("paper {}", write(v))),
        }
    };
    let against = row.against_baseline.as_ref().map_or(String::new(), |d| {
        let so = if d.resolved { "" } else { ", not resolved" };
        let interval = d.ci95.map_or("no interval".to_owned(), |ends| {
            let [lo, hi] = ends.map(|end| numbers::fixed(100.0 * end, 1));
            format!("{lo} to {hi}{so}")
        });
        format!("{} ({interval})", numbers::fixed(100.0 * d.value, 1))
    });
    Line {
        name: row.name.clone(),
        numbers: keys.iter().map(number).collect(),
        against,
        seeds: row.seeds,
        note: row.note.clone(),
    }
}

fn panels(table: &Table) -> Vec<Panel> {
    match table.table.as_str() {
        "t2" => scatters(table),
        "f3" => curve(table, "top1").into_iter().collect(),
        "t3" => curve(table, "ap").into_iter().collect(),
        "t4" => bars(table, "top1_1").into_iter().collect(),
        "t10" => Vec::new(),
        _ => ["top1", "ap", "miou"].into_iter().filter_map(|key| bars(table, key)).collect(),
    }
}

fn panel(title: String, note: &str, svg: Layouts) -> Panel {
    Panel { title, note: note.into(), svg, wide: true }
}

/// Accuracy against score, by each way to evaluate nets.
fn scatters(table: &Table) -> Vec<Panel> {
    let one = |(how, points): &(String, Vec<study::Point>)| {
        let (_, worth) = table.worth.iter().find(|(of, _)| of == how)?;
        scatter(how, points, worth)
    };
    table.points.iter().filter_map(one).collect()
}

/// Accuracy against score.
fn scatter(how: &str, points: &[study::Point], worth: &Choosing) -> Option<Panel> {
    let points: Vec<Point> = points
        .iter()
        .map(|p| Point {
            x: p.score,
            y: 100.0 * p.accuracy,
            ci95: p.ci95.map(|[lo, hi]| (100.0 * lo, 100.0 * hi)),
            title: format!(
                "{}\n{}MACs\nscore {} ({} to {})\n{}",
                p.arch,
                numbers::scaled(p.macs as f64),
                numbers::short(p.score),
                numbers::short(p.score_ci95[0]),
                numbers::short(p.score_ci95[1]),
                numbers::percent(p.accuracy)
            ),
            class: "c1",
            mark: None,
        })
        .collect();
    let svg = Scatter {
        label: "accuracy against score",
        size: Size::TALL,
        x_label: "score of the search, without labels",
        points: &points,
        bands: &[],
        frontier: false,
        references: &[],
    };
    let rho =
        worth.choosers.first().map_or("undefined".into(), |c| c.spearman.words().replace('-', "−"));
    let whiskers = match points.iter().any(|point| point.ci95.is_some()) {
        true => "; whiskers are 95 % intervals over test images",
        false => "",
    };
    let note = format!(
        "Accuracy (%) of nets against their score{whiskers}. Dots along a rising line mean that the search \
         finds, without labels, what labels would."
    );
    Some(panel(format!("Score and {how}: Spearman’s ρ = {rho}"), &note, svg.draw()?))
}

/// A column against compute.
fn curve(table: &Table, key: &str) -> Option<Panel> {
    let number = |row: &Row, key: &str| row.ours.get(key).and_then(Value::as_f64);
    let most = table.rows.iter().filter_map(|row| number(row, "macs")).fold(0.0, f64::max);
    let (unit, prefix) = numbers::scale_of(most);
    let point = |row: &Row| {
        let (macs, value) = (number(row, "macs")?, number(row, key)?);
        let ends = row.ci95.get(key).and_then(|ci| Some((ci[0].as_f64()?, ci[1].as_f64()?)));
        let short = row.name.split(':').next().unwrap_or(&row.name).to_owned();
        Some(Point {
            x: macs / unit,
            y: 100.0 * value,
            ci95: ends.map(|(lo, hi)| (100.0 * lo, 100.0 * hi)),
            title: format!("{}\n{}", row.name, numbers::percent(value)),
            class: if row.name.starts_with("reference") { "c2" } else { "c1" },
            mark: Some(short),
        })
    };
    let points: Vec<Point> = table.rows.iter().filter_map(point).collect();
    let svg = Scatter {
        label: "accuracy against compute",
        size: Size::TALL,
        x_label: &format!("compute of an image ({prefix}MACs)"),
        points: &points,
        bands: &[],
        frontier: true,
        references: &[],
    };
    let called = column(key).0;
    let note = format!("{called} (%) by compute; the line joins nets that no cheaper one beats.");
    Some(panel(format!("{called} by compute"), &note, svg.draw()?))
}

/// A bar a row, against the first row.
fn bars(table: &Table, key: &str) -> Option<Panel> {
    let number = |row: &Row| row.ours.get(key).and_then(Value::as_f64).map(|v| 100.0 * v);
    let bar = |row: &Row| {
        let ends = row.ci95.get(key).and_then(|ci| Some((ci[0].as_f64()?, ci[1].as_f64()?)));
        Some(Bar {
            name: row.name.clone(),
            value: number(row)?,
            ci95: ends.map(|(lo, hi)| (100.0 * lo, 100.0 * hi)),
            class: if row.against_baseline.is_some() { "c1" } else { "c0" },
        })
    };
    let bars: Vec<Bar> = table.rows.iter().filter_map(bar).collect();
    // Several baselines have no line in common.
    let mut baselines = bars.iter().filter(|bar| bar.class == "c0").map(|bar| bar.value);
    let baseline = baselines.next().filter(|_| baselines.next().is_none());
    let svg = Bars { label: "accuracy", bars: &bars, baseline }.draw()?;
    let note = match key.starts_with("top") {
        true => {
            "Grey bars are baselines; lines are 95 % intervals: over test images for one seed, over seeds \
             for three or more."
        }
        false => "Grey bars are baselines; lines are 95 % intervals over three or more seeds.",
    };
    Some(panel(column(key).0.to_owned(), note, svg))
}
