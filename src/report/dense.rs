//! The part of the page about tests on annotated images: how well a net tells classes of pixels or
//! finds objects, class by class, and where it errs.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::chart::{Line, LineChart};
use super::confusion::{self, Confusion, Pair};
use super::gallery::{self, Gallery};
use super::numbers;
use super::run::{files_with, json};
use super::series::Bin;
use super::svg::Size;
use super::training::{Figure, Panel};
use crate::config::Task;
use crate::error::{Error, Result};
use crate::eval::record::{self, Split};
use crate::files::read_json;
use crate::finetune::details::{Class, Details};

/// Sets of images on the page: more would make it heavy.
const MOST_SETS: usize = 3;
/// Curves in a chart: more could not be told apart.
const MOST_CURVES: usize = 5;
/// Colours of curves.
const CLASSES: [&str; MOST_CURVES] = ["c1", "c2", "c3", "c4", "c5"];

/// A result, as `eval/*.json` has it.
#[derive(Debug, Deserialize)]
pub(super) struct Outcome {
    pub(super) task: Task,
    pub(super) arch: String,
    step: u64,
    recipe: String,
    train: Split,
    test: Split,
    /// How boxes were scored.
    metric: Option<String>,
    /// By class: IoU, or AP.
    per_class: Map<String, Value>,
    /// The same numbers of masks.
    mask: Option<Map<String, Value>>,
    #[serde(flatten)]
    numbers: Map<String, Value>,
}

/// A net's test on one set of images.
#[derive(Serialize)]
pub(super) struct Card {
    id: String,
    title: String,
    facts: Vec<String>,
    pub(super) figures: Vec<Figure>,
    about_classes: &'static str,
    columns: Vec<&'static str>,
    rows: Vec<Row>,
    panels: Vec<Panel>,
    confusion: Option<Confusion>,
    pairs: Vec<Pair>,
    gallery: Option<Gallery>,
}

/// A class of the table.
#[derive(Serialize)]
struct Row {
    swatch: String,
    name: String,
    cells: Vec<String>,
}

impl Card {
    /// Its heading's place and text, for the page's contents.
    pub(super) fn place(&self) -> (String, String) {
        (self.id.clone(), self.title.clone())
    }
}

/// Whether a file of `eval/` is such a result.
pub(super) fn is_result(value: &Value) -> bool {
    let task = value["task"].as_str().and_then(|task| task.parse::<Task>().ok());
    task.is_some_and(|task| task != Task::Cls)
}

/// All results of a run with their files' names, the newest of a net on a set of images last.
fn read(run: &Path) -> Result<Vec<(String, Outcome)>> {
    let mut all = Vec::new();
    for path in files_with(&run.join("eval"), "json")? {
        let value = json(&path)?;
        if !is_result(&value) {
            continue;
        }
        let outcome: Outcome = serde_json::from_value(value).map_err(|e| {
            Error::data(format!("{} is not what engine finetune writes: {e}", path.display()))
        })?;
        all.push((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), outcome));
    }
    all.sort_by(|(_, a), (_, b)| (&a.test.data, a.step).cmp(&(&b.test.data, b.step)));
    Ok(all)
}

/// All results of a run, the newest of a net on a set of images last.
pub(super) fn results(run: &Path) -> Result<Vec<Outcome>> {
    Ok(read(run)?.into_iter().map(|(_, outcome)| outcome).collect())
}

/// A number of several tests: its name, and steps with per cents.
pub(super) type Course = (&'static str, Vec<(f64, f64)>);

/// The numbers of tests during training and at its end, of the images that were tested last.
pub(super) fn over_steps(run: &Path) -> Result<Vec<Course>> {
    let mut all = results(run)?;
    let newest = all.iter().max_by_key(|o| o.step).map(|o| (o.test.data.clone(), o.arch.clone()));
    all.retain(|o| {
        newest.as_ref().is_some_and(|(data, arch)| o.test.data == *data && o.arch == *arch)
    });
    all.dedup_by_key(|o| o.step);
    let mut lines: Vec<Course> = Vec::new();
    for outcome in &all {
        for (name, number) in outcome.main_numbers() {
            let point = (outcome.step as f64, number.map_or(f64::NAN, |share| 100.0 * share));
            match lines.iter_mut().find(|(known, _)| *known == name) {
                Some((_, points)) => points.push(point),
                None => lines.push((name, vec![point])),
            }
        }
    }
    lines.retain(|(_, points)| points.len() > 1);
    Ok(lines)
}

/// A share that may not be defined.
fn share(value: f64) -> String {
    if value < 0.0 { "–".into() } else { numbers::percent(value) }
}

impl Outcome {
    /// What its images are called.
    pub(super) fn images(&self) -> String {
        record::domain(&self.test.data)
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.numbers.get(key)?.as_f64().filter(|value| *value >= 0.0)
    }

    fn of_masks(&self, key: &str) -> Option<f64> {
        self.mask.as_ref()?.get(key)?.as_f64().filter(|value| *value >= 0.0)
    }

    /// The mean intersection over union, or AP; what details must have, too.
    fn score(&self) -> Option<f64> {
        self.numbers.get(if self.task == Task::Seg { "miou" } else { "AP" })?.as_f64()
    }

    /// The numbers that nets are compared by.
    pub(super) fn main_numbers(&self) -> Vec<(&'static str, Option<f64>)> {
        if self.task == Task::Seg {
            return vec![("mIoU", self.number("miou"))];
        }
        let mut all = vec![("AP", self.number("AP")), ("AP50", self.number("AP50"))];
        if self.mask.is_some() {
            all.push(("AP of masks", self.of_masks("AP")));
        }
        all
    }

    fn figures(&self) -> Vec<Figure> {
        let metric = self.metric.as_deref().unwrap_or("coco");
        let boxes = format!("boxes, by metric {metric}");
        let all: Vec<(&str, Option<f64>, &str)> = match self.task {
            Task::Seg => vec![
                ("mIoU", self.number("miou"), "intersection over union, mean over classes"),
                ("mean accuracy", self.number("macc"), "mean over classes"),
                ("pixels right", self.number("aacc"), "of all pixels"),
            ],
            _ => vec![
                ("AP", self.number("AP"), &boxes),
                ("AP50", self.number("AP50"), "boxes, at IoU .5"),
                ("AP75", self.number("AP75"), "boxes, at IoU .75"),
                ("AP of masks", self.of_masks("AP"), "by metric coco"),
                ("AP50 of masks", self.of_masks("AP50"), "at IoU .5"),
                ("APs", self.number("APs"), "objects up to 32² pixels"),
                ("APm", self.number("APm"), "up to 96² pixels"),
                ("APl", self.number("APl"), "from 96² pixels"),
                ("AR100", self.number("AR100"), "recall of 100 boxes an image"),
            ],
        };
        let figure = |(name, value, note): (&str, Option<f64>, &str)| {
            Some(Figure {
                name: name.to_owned(),
                value: numbers::percent(value?),
                note: note.to_owned(),
            })
        };
        all.into_iter().filter_map(figure).collect()
    }

    /// The classes where there are no details: as much as the result itself says.
    fn classes(&self) -> Vec<Class> {
        let class = |(name, value): (&String, &Value)| Class {
            name: name.clone(),
            numbers: vec![value.as_f64().unwrap_or(-1.0)],
            ..Class::default()
        };
        self.per_class.iter().map(class).collect()
    }
}

/// The newest result on each set of images.
pub(super) fn cards(run: &Path) -> Result<Vec<Card>> {
    let mut newest: BTreeMap<(Vec<String>, String), (String, Outcome)> = BTreeMap::new();
    for (name, outcome) in read(run)? {
        newest.insert((outcome.test.data.clone(), outcome.arch.clone()), (name, outcome));
    }
    let card = |(i, (name, outcome)): (usize, (String, Outcome))| {
        let path = run.join("eval/details").join(name);
        let details = path.is_file().then(|| read_json::<Details>(&path)).transpose()?;
        // What belongs to an earlier result of that name shows nothing of this one.
        let details = details.filter(|details| Some(details.score) == outcome.score());
        Ok(card(i, &outcome, details))
    };
    newest.into_values().take(MOST_SETS).enumerate().map(card).collect()
}

fn card(i: usize, outcome: &Outcome, details: Option<Details>) -> Card {
    let (id, is_seg) = (format!("result-{i}"), outcome.task == Task::Seg);
    let what = if is_seg { "Segmentation of" } else { "Objects in" };
    let mut facts = vec![
        outcome.arch.clone(),
        format!("step {}", numbers::count(outcome.step)),
        format!("recipe {}", outcome.recipe),
        format!("{} images to learn from", numbers::count(outcome.train.images as u64)),
        format!("{} to test on", numbers::count(outcome.test.images as u64)),
    ];
    facts.extend(outcome.metric.as_ref().map(|metric| format!("metric {metric}")));
    let classes = details.as_ref().map_or_else(|| outcome.classes(), |d| d.classes.clone());
    let names: Vec<String> = classes.iter().map(|class| class.name.clone()).collect();
    let counts = details.as_ref().map_or(&[][..], |d| &d.confusion);
    let (columns, rows) = table(is_seg, details.is_some(), &classes);
    Card {
        title: format!("{what} {}", outcome.images()),
        facts,
        figures: outcome.figures(),
        about_classes: match is_seg {
            true => {
                "IoU is what is right of all pixels that are of the class or are said to be; accuracy \
                 what is right of those that are."
            }
            false => {
                "AP is the mean precision over recall and, unless at one, over the overlaps .5 to .95 \
                 at which a box finds an object."
            }
        },
        columns,
        rows,
        panels: [curves(&classes, 0), curves(&classes, 1)].into_iter().flatten().collect(),
        confusion: confusion::table(&names, counts),
        pairs: confusion::pairs(&names, counts),
        gallery: details.map(|details| gallery::of(&id, &details)),
        id,
    }
}

/// Columns and rows of the table of classes.
fn table(is_seg: bool, is_whole: bool, classes: &[Class]) -> (Vec<&'static str>, Vec<Row>) {
    let has_masks = classes.iter().any(|class| class.masks.is_some());
    let columns: &[&str] = match (is_seg, is_whole) {
        (true, true) => &["pixels", "share of pixels", "IoU", "accuracy"],
        (true, false) => &["IoU"],
        (false, true) => &["objects", "AP", "AP50", "AP75"],
        (false, false) => &["AP"],
    };
    let masks: &[&str] = &["AP of masks", "AP50 of masks", "AP75 of masks"];
    let all: u64 = classes.iter().map(|class| class.count).sum();
    let row = |(i, class): (usize, &Class)| {
        let mut cells = Vec::new();
        if is_whole {
            cells.push(numbers::count(class.count));
        }
        if is_whole && is_seg {
            cells.push(numbers::percent(class.count as f64 / all.max(1) as f64));
        }
        cells.extend(class.numbers.iter().map(|value| share(*value)));
        if has_masks {
            cells.extend(class.masks.unwrap_or([-1.0; 3]).map(share));
        }
        Row { swatch: gallery::swatch(i), name: class.name.clone(), cells }
    };
    let columns = columns.iter().chain(if has_masks { masks } else { &[] }).copied().collect();
    (columns, classes.iter().enumerate().map(row).collect())
}

/// Precision against recall at the overlap .5 or .75: of each class, or of many the mean with the two
/// best and the two worst.
fn curves(classes: &[Class], which: usize) -> Option<Panel> {
    let mean = |curve: &[f64]| curve.iter().sum::<f64>() / curve.len().max(1) as f64;
    let mut all: Vec<(&str, &[f64])> = classes
        .iter()
        .filter_map(|class| Some((class.name.as_str(), &class.curves.as_ref()?[which][..])))
        .collect();
    let average: Vec<f64> = (0..all.first()?.1.len())
        .map(|i| mean(&all.iter().filter_map(|(_, c)| c.get(i)).copied().collect::<Vec<_>>()))
        .collect();
    let some = if all.len() > MOST_CURVES {
        all.sort_by(|a, b| mean(b.1).total_cmp(&mean(a.1)));
        let worst = all.split_off(all.len() - 2);
        all.truncate(2);
        all = [vec![("all classes", &average[..])], all, worst].concat();
        " Of the classes the two best and the two worst are drawn."
    } else {
        ""
    };
    let line = |((name, curve), class): (&(&str, &[f64]), &'static str)| Line {
        name: (*name).to_owned(),
        class,
        // Every second step: a chart has no room for more.
        bins: curve
            .iter()
            .enumerate()
            .step_by(2)
            .map(|(i, p)| {
                let (x, mean) = (100.0 * i as f64 / (curve.len() - 1).max(1) as f64, 100.0 * p);
                Bin { x, mean, min: mean, max: mean }
            })
            .collect(),
    };
    let overlap = ["0.5", "0.75"][which];
    let title = format!("Precision against recall at IoU {overlap}");
    let svg = LineChart {
        label: &title,
        size: Size::HALF,
        x_label: "recall (%)",
        lines: all.iter().zip(CLASSES).map(line).collect(),
        references: Vec::new(),
        from_zero: true,
    }
    .draw()?;
    let note = format!(
        "By falling score: how many of the boxes are right (%), when so many of the objects are \
         found.{some}"
    );
    Some(Panel { title, note, svg, wide: false })
}
