//! Two runs on one page: what was set differently, and what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use minijinja::context;
use serde::Serialize;

use super::chart::{Line, LineChart};
use super::compared::evaluations;
use super::run::{Run, Step, folder_name, folders};
use super::series::{MAX_BINS, bins, ends};
use super::svg::Size;
use super::training::{self, Panel, series};
use super::{health, numbers, probes, write};
use crate::error::{Error, Result};
use crate::search::winners;
use crate::space::budget::macs;

/// What the runs are called on the page.
const LETTERS: [&str; 2] = ["A", "B"];
const CLASSES: [&str; 2] = ["c1", "c2"];

/// Writes a page that compares two runs, `out`, and returns its path.
///
/// # Errors
/// Exit 2 for one run twice, or runs that cannot be compared; exit 3 where a folder is not a run's
/// or holds broken files; exit 5 where the page cannot be written.
pub fn compare(dirs: [&Path; 2], out: &Path) -> Result<PathBuf> {
    let runs = [Run::open(dirs[0])?, Run::open(dirs[1])?];
    check(&runs)?;
    let [a, b] = &runs;
    let title = format!("{} and {}", a.name(), b.name());
    let settings = settings(&runs);
    let panels = panels(&runs)?;
    let searches = searches(dirs)?;
    let evaluations = evaluations(dirs)?;
    let mut places = vec![("settings", "Settings"), ("training", "Training")];
    places.extend((!searches.is_empty()).then_some(("searches", "Searches")));
    places.extend((!evaluations.is_empty()).then_some(("evaluations", "Evaluations")));
    let page = context! {
        title => title,
        parts_of_page => places,
        runs => runs.iter().zip(LETTERS).map(|(run, letter)| context! {
            letter => letter,
            name => run.name(),
            path => run.dir.display().to_string(),
            state => run.status["state"].as_str().unwrap_or("unknown"),
            command => run.command,
            verdict => health::verdict(run),
        }).collect::<Vec<_>>(),
        figures => figures(&runs),
        equal => settings.equal,
        settings => settings.different,
        one_loss => has_one_loss(&runs),
        is_dense => runs.iter().any(|run| run.dense_task().is_some()),
        panels => panels,
        searches => searches,
        evaluations => evaluations,
    };
    write(out, "compare.html", page)
}

/// Exit 2 where a comparison would say nothing.
fn check([a, b]: &[Run; 2]) -> Result<()> {
    let real = |run: &Run| run.dir.canonicalize().unwrap_or_else(|_| run.dir.clone());
    if real(a) == real(b) {
        return Err(Error::usage(format!(
            "{} and {} are the same folder: expected two runs to compare",
            a.dir.display(),
            b.dir.display()
        )));
    }
    let kind = |run: &Run| match run.tuned {
        Some(_) => "was fine-tuned with labels",
        None => "learnt without labels",
    };
    if a.tuned.is_some() != b.tuned.is_some() {
        return Err(Error::usage(format!(
            "these runs cannot be compared: {} {}, {} {}; expected two of one kind (engine report \
             with one of them shows it by itself)",
            a.dir.display(),
            kind(a),
            b.dir.display(),
            kind(b)
        )));
    }
    Ok(())
}

/// A name with what each of the runs has.
#[derive(Serialize)]
struct Pair {
    name: String,
    values: [String; 2],
}

/// The figures of both, as each page has them at its top.
fn figures(runs: &[Run; 2]) -> Vec<Pair> {
    let mut all: Vec<Pair> = Vec::new();
    for (i, run) in runs.iter().enumerate() {
        for figure in training::figures(run) {
            let place = all.iter().position(|pair| pair.name == figure.name);
            let place = place.unwrap_or_else(|| {
                let values = ["–".to_owned(), "–".to_owned()];
                all.push(Pair { name: figure.name.clone(), values });
                all.len() - 1
            });
            let note = match figure.note.as_str() {
                "" => String::new(),
                note => format!(" ({note})"),
            };
            all[place].values[i] = figure.value + &note;
        }
    }
    all
}

struct Settings {
    different: Vec<Pair>,
    /// How many settings are the same.
    equal: usize,
}

fn settings(runs: &[Run; 2]) -> Settings {
    let all = runs.each_ref().map(Run::settings);
    let keys: BTreeSet<&String> = all.iter().flat_map(BTreeMap::keys).collect();
    let of = |key: &String| {
        all.each_ref().map(|one| one.get(key).cloned().unwrap_or_else(|| "–".to_owned()))
    };
    let pairs = keys.iter().map(|key| Pair { name: (*key).clone(), values: of(key) });
    let different: Vec<Pair> = pairs.filter(|pair| pair.values[0] != pair.values[1]).collect();
    Settings { equal: keys.len() - different.len(), different }
}

/// Whether losses of both are the same thing.
fn has_one_loss([a, b]: &[Run; 2]) -> bool {
    let kind = |run: &Run| match &run.tuned {
        Some(tuned) => format!("{} {} classes", tuned.task, tuned.classes.len()),
        None => format!("{} {:?}", run.section(), run.queue()),
    };
    kind(a) == kind(b)
}

/// A chart with a line for each of the runs that has values.
fn panel(title: &str, note: &str, size: Size, points: [Vec<(f64, f64)>; 2]) -> Option<Panel> {
    let line = |(i, points): (usize, Vec<(f64, f64)>)| {
        ends(&points)?;
        let (name, class) = (LETTERS[i].to_owned(), CLASSES[i]);
        Some(Line { name, class, bins: bins(&points, MAX_BINS) })
    };
    let lines = points.into_iter().enumerate().filter_map(line).collect();
    let references = Vec::new();
    let chart =
        LineChart { label: title, size, x_label: "step", lines, references, from_zero: true };
    let svg = chart.draw()?;
    Some(Panel { title: title.into(), note: note.into(), svg, wide: size.is_wide() })
}

fn panels(runs: &[Run; 2]) -> Result<Vec<Panel>> {
    let of = |title: &str, note: &str, size: Size, value: &dyn Fn(&Run, &Step) -> Option<f64>| {
        panel(title, note, size, runs.each_ref().map(|run| series(run, |s| value(run, s))))
    };
    let loss = has_one_loss(runs).then(|| {
        let note = match runs[0].dense_task() {
            Some(_) => "The sum of the losses of a batch.",
            None => "Loss of a student net, mean over those of a step.",
        };
        of("Loss", note, Size::WIDE, &|run, s| run.loss(s))
    });
    let [a, b] = [probes::largest(&runs[0])?, probes::largest(&runs[1])?];
    let probe = if a.images.is_some() && a.images == b.images {
        let note = "Share of the same labelled images (%) whose class is named right by their nearest \
                    neighbours, with the largest net.";
        panel("Nearest neighbours during training", note, Size::WIDE, [a.points, b.points])
    } else {
        None
    };
    let spread = "How far embeddings lie apart; near 0 is a collapse.";
    let rank = "How many directions embeddings use.";
    let rest = [
        of("Spread of the embeddings", spread, Size::HALF, &|r, s| health::spread_of(r, s)),
        of("Rank of the embeddings", rank, Size::HALF, &|_, s| s.rank),
        of("Learning rate", "The schedule.", Size::HALF, &|_, s| s.lr),
        of("Throughput", "Images a second.", Size::HALF, &|_, s| s.images_per_s),
    ];
    Ok(loss.flatten().into_iter().chain(probe).chain(rest.into_iter().flatten()).collect())
}

/// What won a budget of a search.
#[derive(Clone, Serialize)]
struct Won {
    arch: String,
    macs: String,
    score: String,
}

#[derive(Serialize)]
struct Search {
    tag: String,
    budget: String,
    won: [Option<Won>; 2],
}

/// The winner of every budget of every search, those of one name and budget in one row.
fn searches(dirs: [&Path; 2]) -> Result<Vec<Search>> {
    let mut all: BTreeMap<(String, String), [Option<Won>; 2]> = BTreeMap::new();
    for (i, dir) in dirs.into_iter().enumerate() {
        for folder in folders(&dir.join("search"))? {
            for found in winners::read(&folder)?.unwrap_or_default() {
                let Some(best) = found.winners.first().map(|w| &w.candidate) else { continue };
                let [lo, hi] = best.ci95.map(|v| numbers::fixed(v, 4));
                let won = Won {
                    arch: best.arch.to_string(),
                    macs: macs(best.macs),
                    score: format!("{} ({lo} to {hi})", numbers::fixed(best.score, 4)),
                };
                let budget = format!("{} {}", found.group.budget, found.group.metric);
                all.entry((folder_name(&folder), budget)).or_default()[i] = Some(won);
            }
        }
    }
    let row = |((tag, budget), won)| Search { tag, budget, won };
    Ok(all.into_iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::report::sample_run;
    use crate::space::Space;

    /// The page of two runs in `dir`.
    fn page(dir: &Path) -> Result<String> {
        let [a, b, out] = ["a", "b", "out.html"].map(|name| dir.join(name));
        Ok(fs::read_to_string(compare([&a, &b], &out)?).unwrap())
    }

    #[test]
    fn what_differs_stands_side_by_side() {
        let dir = tempfile::tempdir().unwrap();
        let space = Space::preset("tiny").unwrap();
        sample_run::write(&dir.path().join("a"), "tiny", 300, 60);
        sample_run::write(&dir.path().join("b"), "tiny", 200, 60);
        let config = dir.path().join("b/config.toml");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace("batch = 128", "batch = 64")).unwrap();
        let eval = dir.path().join("b/eval");
        sample_run::evaluation(&eval, (&space, space.max(), 300), "hands", 2000, 0.5);
        let page = page(dir.path()).unwrap();
        for part in [
            "<th scope=\"row\">train.batch</th><td>128</td><td>64</td>",
            "aria-label=\"Loss\"",
            "Nearest neighbours during training",
            "det-fpn-images",
            "<td>hands</td>",
            // The interval of statsmodels' proportion_confint(380, 500, method="wilson").
            "76.0 % (72.1 to 79.5)",
        ] {
            assert!(page.contains(part), "no {part:?}");
        }
        assert_eq!(page.matches("<td>hands</td>").count(), 1);
        // Lines of both runs, in two colours.
        let loss = page.split("aria-label=\"Loss\"").nth(1).unwrap();
        let loss = loss.split("</svg>").next().unwrap();
        assert!(loss.contains("\"line c1\"") && loss.contains("\"line c2\""));
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("a");
        sample_run::begin(&run, "tiny", &[]);
        let out = dir.path().join("out.html");
        let same = compare([&run, &run.join("../a")], &out).unwrap_err();
        assert!(same.kind() == crate::Kind::Usage && same.to_string().contains("same folder"));
        assert_eq!(page(dir.path()).unwrap_err().kind(), crate::Kind::Data);
        // Other methods have other losses.
        sample_run::begin(&dir.path().join("b"), "tiny", &["method=byol"]);
        assert!(
            page(dir.path()).unwrap().contains("The losses of these runs are different things")
        );
        let checkpoint = dir.path().join("b/checkpoints/last");
        fs::create_dir_all(&checkpoint).unwrap();
        let net = Space::preset("tiny").unwrap().max();
        let tuned = serde_json::json!({
            "tuned": { "task": "cls", "arch": net, "classes": ["a", "b"], "labels": "all" },
        });
        fs::write(checkpoint.join("state.json"), tuned.to_string()).unwrap();
        let other = page(dir.path()).unwrap_err();
        assert_eq!(other.kind(), crate::Kind::Usage);
        assert!(other.to_string().contains("b was fine-tuned with labels"), "{other}");
    }
}
