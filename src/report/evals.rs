//! The part of the page about evaluations: what the features of nets are worth to a
//! classifier, and whether searches rank nets as labels do.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::commands::Commands;
use super::run::{files_with, folder_name, json};
use super::scatter::{Point, Scatter};
use super::svg::Size;
use super::training::Panel;
use super::{dense, numbers};
use crate::error::{Error, Result};
use crate::eval::record::Split;

/// One evaluated net, as `eval/*.json` describes it.
#[derive(Debug, Deserialize)]
pub(super) struct Evaluation {
    pub(super) arch: String,
    pub(super) macs: f64,
    pub(super) step: u64,
    pub(super) weights: String,
    protocol: String,
    features: String,
    pub(super) train: Split,
    pub(super) test: Split,
    chance: f64,
    pub(super) accuracy: BTreeMap<String, f64>,
    /// Which test images were named right; evaluations of earlier versions lack it, and the next
    /// three.
    #[serde(default)]
    pub(super) correct: String,
    #[serde(default)]
    stderr: BTreeMap<String, f64>,
    #[serde(default)]
    baselines: Baselines,
    #[serde(default)]
    remarks: Vec<String>,
}

/// What stands beside an accuracy.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Baselines {
    untrained: Baseline,
    pixels: Baseline,
    histogram: Baseline,
}

/// The accuracies of a baseline; none where it is absent.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Baseline {
    accuracy: BTreeMap<String, f64>,
}

/// A net of a comparison between score and accuracy.
#[derive(Debug, Deserialize)]
struct Subnet {
    arch: String,
    macs: f64,
    score: f64,
    accuracy: f64,
}

/// A comparison between a search's scores and accuracies.
#[derive(Debug, Deserialize)]
struct Ranking {
    protocol: String,
    candidates: String,
    correlation: BTreeMap<String, Option<f64>>,
    subnets: Vec<Subnet>,
    #[serde(default)]
    baselines: Baselines,
}

/// One result: a row of the table.
#[derive(Serialize)]
struct Row {
    images: String,
    protocol: String,
    arch: String,
    macs: String,
    accuracy: String,
    untrained: String,
    pixels: String,
    histogram: String,
    chance: String,
    weights: String,
    counts: String,
}

/// The evaluations as the page shows them.
#[derive(Serialize)]
pub(super) struct Section {
    panels: Vec<Panel>,
    commands: Option<Commands>,
    rows: Vec<Row>,
    remarks: Vec<String>,
}

impl Section {
    /// Whether there is any result.
    pub(super) fn has_rows(&self) -> bool {
        !self.rows.is_empty()
    }
}

/// Reads `RUN/eval/*.json`: a net's evaluations stand together, from its first step to its last. A
/// file that is neither an evaluation nor a ranking is an error.
fn read(run: &Path) -> Result<(Vec<Evaluation>, Vec<Ranking>)> {
    let (mut evaluations, mut rankings) = (Vec::new(), Vec::new());
    for path in files_with(&run.join("eval"), "json")? {
        let value: Value = json(&path)?;
        // Those of annotated images have a section of their own.
        if dense::is_result(&value) {
            continue;
        }
        let wrong = |e: serde_json::Error| {
            Error::data(format!("{} is not what engine eval writes: {e}", path.display()))
        };
        match value.get("subnets").is_some() {
            true => rankings.push(serde_json::from_value::<Ranking>(value).map_err(wrong)?),
            false => evaluations.push(serde_json::from_value::<Evaluation>(value).map_err(wrong)?),
        }
    }
    evaluations.sort_by(|a, b| {
        let question = |e: &Evaluation| (images(e), e.protocol.clone(), e.features.clone());
        let net = |e: &Evaluation| (e.arch.clone(), e.step, e.weights.clone());
        let by_size = a.macs.total_cmp(&b.macs);
        question(a).cmp(&question(b)).then(by_size).then_with(|| net(a).cmp(&net(b)))
    });
    Ok((evaluations, rankings))
}

/// The evaluations of a run's nets, trained ones only.
pub(super) fn trained(run: &Path) -> Result<Vec<Evaluation>> {
    let (mut evaluations, _) = read(run)?;
    evaluations.retain(|e| e.step > 0);
    Ok(evaluations)
}

/// The evaluations of a run as its page shows them.
pub(super) fn section(run: &Path) -> Result<Section> {
    let (evaluations, rankings) = read(run)?;
    let panels =
        accuracy_panel(&evaluations).into_iter().chain(rankings.iter().filter_map(ranking));
    let panels = panels.collect();
    // An untrained net that stands beside its trained self needs no row.
    let shown = |e: &&Evaluation| e.step > 0 || !evaluations.iter().any(|other| trains(e, other));
    let remark = |e: &Evaluation| {
        let name = format!("{} on {} ({})", e.arch, images(e), e.protocol);
        e.remarks.iter().map(move |r| format!("{name}: {r}")).collect::<Vec<_>>()
    };
    let commands = |e: &Evaluation| Commands::new(run, e.arch.clone(), &e.train.data);
    Ok(Section {
        commands: evaluations.last().map(commands).transpose()?,
        panels,
        rows: evaluations.iter().filter(shown).flat_map(|e| rows(e, &evaluations)).collect(),
        remarks: evaluations.iter().flat_map(remark).collect(),
    })
}

/// Whether two evaluations asked the same of the same net, the first before training and the
/// second after it.
fn trains(before: &Evaluation, after: &Evaluation) -> bool {
    let key = |e: &Evaluation| {
        let (train, test) = ((e.train.data.clone(), e.train.images), e.test.data.clone());
        (e.arch.clone(), e.protocol.clone(), e.features.clone(), train, test)
    };
    before.step == 0 && after.step > 0 && key(before) == key(after)
}

/// Accuracy of the same net before training: beside it, or from an evaluation of its own.
fn untrained(e: &Evaluation, key: &str, all: &[Evaluation]) -> Option<f64> {
    let own = e.baselines.untrained.accuracy.get(key).copied();
    own.or_else(|| all.iter().find(|b| trains(b, e))?.accuracy.get(key).copied())
}

/// What test images are called: the last part of their path that says more than that they are for
/// testing.
pub(super) fn short_name(data: &[String]) -> String {
    let name = |path: &String| {
        let mut parts = path.rsplit(['/', '#']).filter(|p| !["", "test", "val"].contains(p));
        parts.next().unwrap_or(path).to_owned()
    };
    data.iter().map(name).collect::<Vec<_>>().join(" ")
}

/// What an evaluation's test images are called.
pub(super) fn images(e: &Evaluation) -> String {
    short_name(&e.test.data)
}

/// Which weights a net had.
fn weights(e: &Evaluation) -> String {
    match (e.step, e.weights.as_str()) {
        (0, _) => "untrained".into(),
        (step, "student") => format!("step {}", numbers::count(step)),
        (step, other) => format!("{other}, step {}", numbers::count(step)),
    }
}

/// `kNN, k = 20`, `linear`.
pub(super) fn protocol(e: &Evaluation, key: &str) -> String {
    let features = if e.features == "pool" { String::new() } else { format!(" on {}", e.features) };
    match key.strip_prefix('k').filter(|k| k.parse::<usize>().is_ok()) {
        Some(k) => format!("kNN, k = {k}{features}"),
        None if key.starts_with("top") => format!("{}, {key}", e.protocol),
        None => format!("{}{features}", e.protocol),
    }
}

fn rows<'a>(e: &'a Evaluation, all: &'a [Evaluation]) -> impl Iterator<Item = Row> + 'a {
    let percent = |share: Option<f64>| share.map_or_else(|| "–".into(), numbers::percent);
    let error = |key: &String| e.stderr.get(key).map(|s| format!(" ±{:.1}", s * 100.0));
    e.accuracy.iter().map(move |(key, share)| Row {
        images: images(e),
        protocol: protocol(e, key),
        arch: e.arch.clone(),
        macs: format!("{}MACs", numbers::scaled(e.macs)),
        accuracy: numbers::percent(*share) + &error(key).unwrap_or_default(),
        untrained: percent(untrained(e, key, all)),
        pixels: percent(e.baselines.pixels.accuracy.get(key).copied()),
        histogram: percent(e.baselines.histogram.accuracy.get(key).copied()),
        chance: numbers::percent(e.chance),
        weights: weights(e),
        counts: format!(
            "{} to learn, {} to test",
            numbers::count(e.train.images as u64),
            numbers::count(e.test.images as u64)
        ),
    })
}

/// Accuracy against compute, where there are several nets: a colour for each set of images,
/// untrained nets grey.
fn accuracy_panel(all: &[Evaluation]) -> Option<Panel> {
    const CLASSES: [&str; 4] = ["c1", "c2", "c3", "c4"];
    let mut sets: Vec<String> = all.iter().map(images).collect();
    sets.dedup();
    let (unit, prefix) = numbers::scale_of(all.iter().map(|e| e.macs).fold(0.0, f64::max));
    let class = |e: &Evaluation| {
        let set = images(e);
        sets.iter().position(|s| *s == set).map(|i| CLASSES[i % CLASSES.len()])
    };
    let point = |e: &Evaluation, key: &str, share: f64, step: u64| -> Option<Point> {
        let set = images(e);
        let name = if step == 0 { "untrained".into() } else { weights(e) };
        let method = protocol(e, key);
        let error = e.stderr.get(key).map(|s| 2.0 * s).filter(|_| step > 0);
        Some(Point {
            x: e.macs / unit,
            y: share * 100.0,
            ci95: error.map(|s| ((share - s) * 100.0, (share + s) * 100.0)),
            title: format!("{}\n{set}, {name}\n{method}: {}", e.arch, numbers::percent(share)),
            class: if step == 0 { "c0" } else { class(e)? },
            mark: Some(match (step, sets.len()) {
                (0, _) => name,
                (_, 1) => method,
                _ => set,
            }),
        })
    };
    let points_of = |e: &Evaluation| -> Vec<Point> {
        let Some((key, share)) = e.accuracy.iter().next() else { return Vec::new() };
        let before = e.baselines.untrained.accuracy.get(key);
        let before = before.and_then(|share| point(e, key, *share, 0));
        point(e, key, *share, e.step).into_iter().chain(before).collect()
    };
    let points: Vec<Point> = all.iter().flat_map(points_of).collect();
    if points.len() < 3 {
        return None;
    }
    let svg = Scatter {
        label: "accuracy against compute",
        size: Size::WIDE,
        x_label: &format!("compute of an image ({prefix}MACs)"),
        points: &points,
        bands: &[],
        frontier: false,
        references: &references(all, &sets),
    }
    .draw()?;
    let note = "Share of test images (%) whose class is named right from frozen features. Grey \
                dots are nets before training; dashed lines are what needs no net: raw pixels, \
                colour histograms and guessing. A net below them has learnt little that these \
                classes need."
        .into();
    Some(Panel { title: "Accuracy against compute".into(), note, svg, wide: true })
}

/// Raw pixels and colour histograms on each set of images, and guessing.
fn references(all: &[Evaluation], sets: &[String]) -> Vec<(f64, String)> {
    let mut lines: Vec<(f64, String)> = Vec::new();
    for set in sets {
        // Evaluations of one set may differ in what they learnt from; the first stands for all.
        let of_set = || all.iter().filter(|e| images(e) == *set);
        let name = if sets.len() > 1 { format!(" ({set})") } else { String::new() };
        type Of = fn(&Baselines) -> &Baseline;
        let kinds: [(&str, Of); 2] =
            [("raw pixels", |b| &b.pixels), ("histogram", |b| &b.histogram)];
        for (kind, of) in kinds {
            let share = of_set().find_map(|e| of(&e.baselines).accuracy.values().next().copied());
            lines.extend(share.map(|share| (share * 100.0, format!("{kind}{name}"))));
        }
    }
    let chance = all.iter().map(|e| e.chance).fold(f64::INFINITY, f64::min) * 100.0;
    lines.push((chance, "guessing".into()));
    lines
}

/// Score of a search against accuracy.
fn ranking(r: &Ranking) -> Option<Panel> {
    let point = |s: &Subnet| Point {
        x: s.score,
        y: s.accuracy * 100.0,
        ci95: None,
        title: format!(
            "{}\n{}MACs\nscore {}, {}",
            s.arch,
            numbers::scaled(s.macs),
            numbers::short(s.score),
            numbers::percent(s.accuracy)
        ),
        class: "c1",
        mark: None,
    };
    let points: Vec<Point> = r.subnets.iter().map(point).collect();
    let pixels = r.baselines.pixels.accuracy.values().next();
    let pixels = pixels.map(|share| (share * 100.0, "raw pixels".to_owned()));
    let search = Path::new(&r.candidates).parent().map(folder_name).unwrap_or_default();
    let svg = Scatter {
        label: "accuracy against score",
        size: Size::WIDE,
        x_label: &format!("score of the search {search}, without labels"),
        points: &points,
        bands: &[],
        frontier: false,
        references: pixels.as_slice(),
    }
    .draw()?;
    let number = |key: &str| {
        let value = r.correlation.get(key).copied().flatten();
        value.map_or("undefined".into(), |v| numbers::fixed(v, 2))
    };
    Some(Panel {
        title: format!("Does the score rank nets? Spearman’s ρ = {}", number("spearman")),
        note: format!(
            "Accuracy ({}, %) of {} nets against their score. Dots along a rising line mean that \
             the search finds, without labels, what labels would choose. Kendall’s τ = {}; compute \
             alone would give ρ = {}.",
            r.protocol,
            r.subnets.len(),
            number("kendall"),
            number("spearman_macs")
        ),
        svg,
        wide: true,
    })
}
