//! Tests of fine-tuned nets on annotated images: what they are worth, and what that looks like.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::det::{self, DetModel, DetSet};
use super::details::Details;
use super::seg::{self, SegModel, SegSet};
use crate::config::Task;
use crate::cx::Cx;
use crate::error::Result;
use crate::eval::dense::miou::Counts;
use crate::eval::dense::score::{Metric, Scores};
use crate::eval::record::{self, Net, Split};
use crate::files;
use crate::train::Annotated;
use crate::train::interim::Found;

/// What a fine-tuned net is worth.
pub struct Tested {
    /// All of it, as it is written.
    pub result: Map<String, Value>,
    /// The numbers.
    pub scored: Scored,
    /// Where it was written; none where the net lies in no run.
    pub path: Option<PathBuf>,
}

/// The numbers of a test.
pub enum Scored {
    /// Classes of pixels, with their names.
    Seg {
        /// Names of the classes.
        names: Vec<String>,
        /// Pixels by class and answer.
        counts: Counts,
        /// Images that were tested.
        images: usize,
    },
    /// Objects.
    Det(Box<DetScores>),
}

/// Numbers of objects.
pub struct DetScores {
    /// How boxes were scored.
    pub metric: Metric,
    /// Numbers of boxes.
    pub boxes: Scores,
    /// Numbers of masks, where there are some.
    pub masks: Option<Scores>,
    /// Images that were tested.
    pub images: usize,
}

impl Tested {
    /// What metrics and log say of a test after so many steps.
    pub(super) fn found(&self, step: u64) -> Found {
        let names: &[&str] = match self.scored {
            Scored::Seg { .. } => &["miou", "macc", "aacc"],
            Scored::Det(_) => &["AP", "AP50", "AP75"],
        };
        let mut all: Vec<(&str, Value)> =
            names.iter().map(|name| (*name, self.result[*name].clone())).collect();
        all.extend(self.result.get("mask").map(|masks| ("mask_AP", masks["AP"].clone())));
        let shown = |(name, value): &(&str, Value)| match value.as_f64() {
            Some(share) if share >= 0.0 => format!("{name} {:.2} %", 100.0 * share),
            _ => format!("{name} undefined"),
        };
        let line = all.iter().map(shown).collect::<Vec<_>>().join(", ");
        let numbers = all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Found { numbers, line: format!("test at step {step}: {line}") }
    }
}

/// Folders that a test writes into.
#[derive(Clone, Copy, Default)]
pub struct Places<'a> {
    /// The run that gets the result, and what it looks like.
    pub run: Option<&'a Path>,
    /// What gets all answers: label images, or COCO's results.
    pub answers: Option<&'a Path>,
}

/// Tests segmentation on the images of `data`.
///
/// # Errors
/// Those of [`seg::test`]; a folder that cannot be written.
pub fn segmentation(
    cx: &Cx,
    model: SegModel,
    (set, data): (&SegSet, &str),
    places: Places,
) -> Result<Tested> {
    let found = seg::test(cx, &model, set, places.answers)?;
    let (net, images) = (model.describe(), set.images());
    let test = Split { data: vec![data.to_owned()], images };
    let result = record::of_segmentation(&net, &model.learnt, &test, &model.classes, &found.counts);
    let write = |run| {
        let details = seg::details(cx, &model, (set, &test.data), &found)?;
        write(run, &file_name(Task::Seg, &net, &test), &result, &details)
    };
    let path = places.run.map(write).transpose()?;
    let scored = Scored::Seg { names: model.classes, counts: found.counts, images };
    Ok(Tested { result, scored, path })
}

/// Tests detection on the images of `data`.
///
/// # Errors
/// Those of [`det::test`]; a folder that cannot be written.
pub fn detection(
    cx: &Cx,
    model: &DetModel,
    (set, data): (&DetSet, &str),
    metric: Metric,
    places: Places,
) -> Result<Tested> {
    let answers = places.answers.map(|dir| dir.join(det::RESULTS));
    let found = det::test(cx, model, set, metric, answers.as_deref())?;
    let (net, images, task) = (model.describe(), set.len(), model.task);
    let test = Split { data: vec![data.to_owned()], images };
    let scores = (metric, &found.boxes, found.masks.as_ref());
    let result = record::of_detection(task, &net, &model.learnt, &test, scores);
    let write = |run| {
        let details = det::details(model, (set, &test.data), metric, &found)?;
        write(run, &file_name(task, &net, &test), &result, &details)
    };
    let path = places.run.map(write).transpose()?;
    let scores = DetScores { metric, boxes: found.boxes, masks: found.masks, images };
    Ok(Tested { result, scored: Scored::Det(Box::new(scores)), path })
}

/// Writes a result into the `eval` folder of a run.
fn write(
    run: &Path,
    name: &str,
    result: &Map<String, Value>,
    details: &Details,
) -> Result<PathBuf> {
    let dir = run.join("eval");
    files::create_dir(&dir)?;
    let path = dir.join(name);
    files::write_json(&path, result)?;
    details.write(run, name)?;
    Ok(path)
}

/// `seg-<images>-<arch>-step-00000100.json`.
fn file_name(task: Task, net: &Net, test: &Split) -> String {
    format!("{task}-{}-{}-step-{:08}.json", record::domain(&test.data), net.arch, net.step)
}
