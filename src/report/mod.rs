//! The page that tells a run's story: one HTML file with curves, example images, searches,
//! evaluations and settings. It asks the network for nothing and reads without scripts; a small
//! script of its own sorts, zooms and says values.

mod agreement;
mod axis;
mod bars;
mod chart;
mod commands;
mod compare;
mod compared;
mod confusion;
mod dense;
mod dense_training;
mod details;
mod evals;
mod examples;
mod gallery;
mod health;
mod labels;
mod nets;
mod numbers;
mod probes;
mod run;
#[cfg(test)]
mod sample_run;
mod scatter;
mod searches;
mod series;
mod study;
mod svg;
#[cfg(test)]
mod tests;
mod training;
mod worth;

use std::path::{Path, PathBuf};

use minijinja::{Environment, Value as Any, context};

use crate::error::{Error, Result};
use crate::files;
use crate::outside;
use crate::space::Space;
pub use compare::compare;
use run::Run;
pub use study::study;
use training::Figure;

const FILE: &str = "report.html";
/// Figures of a result that stand at the top of a page.
const TOP_FIGURES: usize = 3;

/// Writes `report.html` into a run's folder from what the folder holds now; the run may
/// still be going. Returns the page's path.
///
/// # Errors
/// Exit 3 where `dir` is not a run's folder or holds broken files, exit 5 where the page
/// cannot be written.
pub fn run(dir: &Path) -> Result<PathBuf> {
    let run = Run::open(dir)?;
    let space = run.space();
    let mut searches = run::folders(&dir.join("search"))?
        .iter()
        .map(|d| searches::section(d, space.as_ref()))
        .collect::<Result<Vec<_>>>()?;
    searches.sort_by_key(|search| !search.finished);
    let mut panels = training::panels(&run);
    for panel in [probes::panel(&run)?, dense_training::tests(&run)?].into_iter().flatten() {
        panels.insert(panels.len().min(1), panel);
    }
    let state = run.status["state"].as_str().unwrap_or("unknown");
    let examples = examples::read(dir)?;
    let details = details::cards(dir)?;
    let (is_dense, results) = (run.dense_task().is_some(), dense::cards(dir)?);
    let evals = evals::section(dir)?;
    let mut places = vec![part("training", "Training")];
    places.extend((!examples.is_empty()).then(|| part("views", "What the nets see")));
    places.extend(searches.iter().map(searches::Section::place));
    places.extend(results.iter().map(dense::Card::place));
    places.extend((is_dense && results.is_empty()).then(|| part("result", "Result")));
    places.extend((!is_dense || evals.has_rows()).then(|| part("evaluations", "Evaluations")));
    places.extend(details.iter().map(details::Card::place));
    places.push(part("settings", "Settings"));
    let page = context! {
        parts_of_page => places,
        title => run.name(),
        state => state,
        summary => summary(&run),
        verdict => health::verdict(&run),
        figures => figures(&run, &results),
        panels => panels,
        bad_lines => run.bad_lines,
        tuned => run.tuned.is_some(),
        is_dense => is_dense,
        results => results,
        examples => examples,
        sheet => examples::sheet(dir)?,
        searches => searches,
        details => details,
        evals => evals,
        shell_path => outside::in_shell([commands::in_words(dir)]),
        command => run.command,
        config => run.config_text,
        env => searches::flat(&run.env),
    };
    write(&dir.join(FILE), "report.html", page)
}

/// Writes `report.html` into a search's folder. Returns the page's path.
///
/// # Errors
/// As [`run`].
pub fn search(dir: &Path) -> Result<PathBuf> {
    let section = searches::section(dir, space_of_search(dir).as_ref())?;
    let page = context! { title => run::folder_name(dir), searches => [section] };
    write(&dir.join(FILE), "search.html", page)
}

/// The space that a search looked through, from the run that its folder lies in.
fn space_of_search(dir: &Path) -> Option<Space> {
    let settings = run::json(&dir.join("search.json")).ok()?;
    if let Ok(space) = serde_json::from_value(settings["preset"].clone()) {
        return Some(space);
    }
    let dir = dir.canonicalize().ok()?;
    Run::open(dir.parent()?.parent()?).ok()?.space()
}

/// A heading of a page: its place and its text.
fn part(id: &str, name: &str) -> (String, String) {
    (id.to_owned(), name.to_owned())
}

/// The figures at the top: what the net is worth, where that is known, and how it was trained.
fn figures(run: &Run, results: &[dense::Card]) -> Vec<Figure> {
    let first = results.first().map_or(&[][..], |card| &card.figures);
    first.iter().take(TOP_FIGURES).cloned().chain(training::figures(run)).collect()
}

/// What was trained and how, in a few words each.
fn summary(run: &Run) -> Vec<String> {
    let setting = |key: &str| Some(run.setting(key)?.to_string().replace('"', ""));
    let part = |name: &str, key: &str| Some(format!("{name} {}", setting(key)?));
    let parts = [
        run.space_name().map(|name| format!("preset {name}")),
        match &run.tuned {
            Some(tuned) if run.dense_task().is_some() => {
                Some(format!("fine-tuned for {}: {}", tuned.task, tuned.arch))
            }
            Some(tuned) => Some(format!("fine-tuned {}", tuned.arch)),
            None => part("method", "method"),
        },
        run.tuned.as_ref().and_then(|_| part("recipe", "finetune.recipe")),
        part("batch", "train.batch"),
        part("seed", "seed"),
    ];
    parts.into_iter().flatten().collect()
}

fn write(path: &Path, template: &str, page: Any) -> Result<PathBuf> {
    let html = render(template, page)
        .map_err(|e| Error::write(path, format!("the page's template failed: {e:#}")))?;
    files::write_text(path, &html)?;
    Ok(path.to_path_buf())
}

fn render(template: &str, page: Any) -> Result<String, minijinja::Error> {
    let mut env = Environment::new();
    env.add_template("style.css", include_str!("templates/style.css"))?;
    env.add_template("zoom.js", include_str!("templates/zoom.js"))?;
    env.add_template("page.js", include_str!("templates/page.js"))?;
    env.add_template("page.html", include_str!("templates/page.html"))?;
    env.add_template("parts.html", include_str!("templates/parts.html"))?;
    env.add_template("details.html", include_str!("templates/details.html"))?;
    env.add_template("dense.html", include_str!("templates/dense.html"))?;
    env.add_template("report.html", include_str!("templates/report.html"))?;
    env.add_template("compare.html", include_str!("templates/compare.html"))?;
    env.add_template("search.html", include_str!("templates/search.html"))?;
    env.add_template("study.html", include_str!("templates/study.html"))?;
    env.get_template(template)?.render(page)
}
