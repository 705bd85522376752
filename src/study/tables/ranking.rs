//! Rankings of nets against what labels say: T2.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{BOXES, PIXELS, TOP1};
use crate::config::Task;
use crate::error::Result;
use crate::eval::evaluate::wilson95;
use crate::search::worth::Chooser;
use crate::search::{Choosing, Judged, consistency, journal, worth};
use crate::space::Arch;
use crate::study::cells::Made;
use crate::study::dense::{Target, compared};
use crate::study::lab::{Column, Found, Lab, run_dir};
use crate::study::measure::{correct, defined, test_images};
use crate::study::paper::{self, Number};
use crate::study::table::{Point, Row, Table};

/// T2: whether scores rank nets as labels do, and what that is worth.
pub(super) fn ranking(lab: &Lab) -> Result<Table> {
    let mut table = Table::new(
        "t2",
        "Ranking of nets: scores without labels against accuracy",
        &[
            "Spearman's ρ over nets. The paper: 50 nets, each fine-tuned on the task. For a dense task \
             nets are searched on its images; AP and mIoU have no interval over test images, so those of \
             ρ are over nets alone.",
        ],
    );
    let mut searches = Vec::new();
    for (i, &seed) in lab.seeds.iter().enumerate() {
        let run = lab.moco(seed)?;
        // The first seed has the chart; all have rows.
        let name = if i == 0 { String::new() } else { format!(", seed {seed}") };
        if let Some(few) = lab.few() {
            searches.push(add_classification(lab, &mut table, &run, few, &name)?);
        }
        for target in lab.targets() {
            let found = lab.search(&run, &lab.ranked(target.task, &target.set.images))?;
            let tested = lab.tested(&run, &found, &target)?;
            add_dense(lab, &mut table, &found, &tested, (&target, &name));
        }
    }
    let good = searches.iter().filter(|found| !found.budgets.is_empty());
    table.consistency.extend(agree(good, "seeds of pre-training"));
    for (task, name, needs) in [
        (Task::DetC4, "C5, detection on VOC", BOXES),
        (Task::DetFpn, "C2 to C5, detection on COCO", BOXES),
        (Task::Seg, "C4 and C5, segmentation of Cityscapes", PIXELS),
    ] {
        if lab.targets_of(task).is_empty() {
            let row = Row::new(name).paper("spearman", paper::ranking(task));
            table.rows.push(row.note(format!("needs {needs}")));
        }
    }
    Ok(table)
}

/// Rows of one seed by classification; its search.
fn add_classification(
    lab: &Lab,
    table: &mut Table,
    run: &Made,
    few: f64,
    seed: &str,
) -> Result<Found> {
    let found = lab.search(run, &lab.ranked(Task::Cls, lab.train))?;
    let neighbours = lab.score(run, &found)?;
    let own = lab.own()?;
    let tuned = found.candidates.iter();
    let tuned: Vec<(Arch, Made)> = tuned
        .map(|c| Ok((c.arch, lab.finetune(Some(run), &c.arch, own, few, lab.seed())?)))
        .collect::<Result<_>>()?;
    let name = format!("fine-tuned on {} of the labels{seed}", Lab::in_percent(few));
    add_ranking(lab, table, &found, &neighbours, &tuned, (name, seed));
    if seed.is_empty() && !lab.maker.is_plan() && found.made.result.is_ok() {
        let scored = journal::read_scored(&run_dir(&found.made))?;
        let scores: Vec<&[f64]> = scored.iter().map(|s| s.scores.as_slice()).collect();
        let sizes: Vec<usize> = found.budgets.iter().map(|b| b.candidates).collect();
        let halves = consistency::over_images(&scores, &sizes, lab.seed());
        table.consistency.extend(halves.map(|c| ("halves of the search images".into(), c)));
    }
    Ok(found)
}

impl Lab<'_> {
    /// The candidates of a search, each fine-tuned for a dense task.
    pub(super) fn tested(
        &self,
        run: &Made,
        found: &Found,
        target: &Target,
    ) -> Result<Vec<(Arch, Made)>> {
        let each = found.candidates.iter();
        each.map(|c| Ok((c.arch, self.dense(Some(run), &c.arch, target, self.seed())?))).collect()
    }
}

/// A number of each net that was tested.
pub(super) fn values(tested: &[(Arch, Made)], (_, keys): Column) -> Vec<(Arch, f64)> {
    let one =
        |(arch, made): &(Arch, Made)| Some((*arch, defined(made.result.as_ref().ok()?, keys)?));
    tested.iter().filter_map(one).collect()
}

/// How searches of the same candidates agree.
pub(super) fn agree<'a>(
    searches: impl Iterator<Item = &'a Found>,
    over: &str,
) -> Option<(String, consistency::Consistency)> {
    let searches: Vec<&Found> = searches.collect();
    let sizes: Vec<usize> = searches.first()?.budgets.iter().map(|b| b.candidates).collect();
    let scores = |f: &&Found| f.candidates.iter().map(|c| c.score).collect::<Vec<f64>>();
    let all: Vec<Vec<f64>> = searches.iter().map(scores).collect();
    Some((over.to_owned(), consistency::between(&all, &sizes)?))
}

/// What nets were ranked by.
struct How<'a> {
    /// In words.
    name: String,
    /// The task whose features the search compares.
    task: Task,
    /// Cells of the search and the tests.
    cells: Vec<&'a Made>,
    /// Whether the paper has this ranking.
    paper: bool,
}

/// Rows of one seed: by fine-tuning and by nearest neighbours.
fn add_ranking(
    lab: &Lab,
    table: &mut Table,
    found: &Found,
    neighbours: &Made,
    tuned: &[(Arch, Made)],
    (name, seed): (String, &str),
) {
    let naswot = naswot(neighbours);
    let judged: BTreeMap<Arch, Judged> = tuned
        .iter()
        .filter_map(|(arch, made)| {
            let result = made.result.as_ref().ok()?;
            let accuracy = defined(result, TOP1.1)?;
            let naswot = naswot.get(arch).copied();
            Some((*arch, Judged { accuracy, correct: correct(result), naswot }))
        })
        .collect();
    let how = How {
        name,
        task: Task::Cls,
        cells: std::iter::once(&found.made).chain(tuned.iter().map(|t| &t.1)).collect(),
        paper: seed.is_empty(),
    };
    let by_tuning = worth(&found.candidates, &found.budgets, &judged, lab.seed());
    rank_rows(table, by_tuning, &how);
    if seed.is_empty() {
        table.points.push((how.name, points(found, tuned.iter().filter_map(tuned_accuracy))));
    }
    let by_neighbours = neighbours.result.as_ref().ok();
    let by_neighbours: Option<Choosing> =
        by_neighbours.and_then(|r| serde_json::from_value(r.get("worth")?.clone()).ok());
    let name = format!("nearest neighbours{seed}");
    let cells = vec![&found.made, neighbours];
    let how = How { name, task: Task::Cls, cells, paper: false };
    rank_rows(table, by_neighbours, &how);
    if seed.is_empty() {
        table.points.push((how.name, points(found, near_accuracies(neighbours))));
    }
}

/// Rows of one seed by a dense task.
pub(super) fn add_dense(
    lab: &Lab,
    table: &mut Table,
    found: &Found,
    tested: &[(Arch, Made)],
    (target, seed): (&Target, &str),
) {
    let (column, called) = target.ranked_by();
    let values = values(tested, column);
    let judged = values.iter().map(|&(arch, accuracy)| {
        // No share of test images: nets alone are resampled.
        (arch, Judged { accuracy, correct: Vec::new(), naswot: None })
    });
    let how = How {
        name: format!("{called} of {}{seed}", target.title()),
        task: target.task,
        cells: std::iter::once(&found.made).chain(tested.iter().map(|t| &t.1)).collect(),
        paper: seed.is_empty(),
    };
    let worth = worth(&found.candidates, &found.budgets, &judged.collect(), lab.seed());
    rank_rows(table, worth, &how);
    if seed.is_empty() {
        let values = values.into_iter().map(|(arch, value)| (arch, value, None));
        table.points.push((how.name, points(found, values)));
    }
}

/// A fine-tuned net, its accuracy and the number of test images.
fn tuned_accuracy((arch, made): &(Arch, Made)) -> Option<(Arch, f64, Option<u64>)> {
    let result = made.result.as_ref().ok()?;
    Some((*arch, defined(result, TOP1.1)?, test_images(result)))
}

/// The same of the nets whose neighbours were looked for.
fn near_accuracies(neighbours: &Made) -> impl Iterator<Item = (Arch, f64, Option<u64>)> + '_ {
    let result = neighbours.result.as_ref().ok();
    let tests = result.and_then(test_images);
    subnets(neighbours).filter_map(move |net| {
        Some((net["arch"].as_str()?.parse().ok()?, net["accuracy"].as_f64()?, tests))
    })
}

/// The nets of an evaluation of candidates.
fn subnets(neighbours: &Made) -> impl Iterator<Item = &Value> + '_ {
    let nets = neighbours.result.as_ref().ok().and_then(|r| r.get("subnets")?.as_array());
    nets.into_iter().flatten()
}

/// NASWOT's score of each net, from the evaluation of candidates.
fn naswot(neighbours: &Made) -> BTreeMap<Arch, f64> {
    let one = |net: &Value| Some((net["arch"].as_str()?.parse().ok()?, net["naswot"].as_f64()?));
    subnets(neighbours).filter_map(one).collect()
}

fn rank_rows(table: &mut Table, found: Option<Choosing>, how: &How) {
    let Some(worth) = found else {
        let row = Row::new(format!("score of {}, {}", compared(how.task), how.name));
        let row = row.ours("spearman", None, None).papers(&papers(how));
        table.rows.push(row.cells(how.cells.iter().copied()));
        return;
    };
    for chooser in &worth.choosers {
        table.rows.push(rank_row(chooser, worth.nets, how));
    }
    table.worth.push((how.name.clone(), worth));
}

/// The paper's numbers of the row of the score.
fn papers(how: &How) -> Vec<Number> {
    match how.paper {
        true => vec![("spearman", paper::ranking(how.task)), ("nets", 50.0)],
        false => Vec::new(),
    }
}

fn rank_row(by: &Chooser, nets: usize, how: &How) -> Row {
    let is_score = by.by == "score";
    let title = match is_score {
        true => format!("score of {}", compared(how.task)),
        false => by.title().to_owned(),
    };
    let mut row = Row::new(format!("{title}, {}", how.name));
    if is_score {
        row = row.papers(&papers(how));
    }
    let given = by.given_macs;
    row.seeds = 1;
    row.ours("spearman", by.spearman.rho, by.bootstrap95)
        .ours("spearman_fisher", by.spearman.rho, by.spearman.ci95)
        .ours("kendall", by.kendall, None)
        .ours("spearman_given_macs", given.and_then(|g| g.rho), given.and_then(|g| g.ci95))
        .ours("spearman_within_budgets", by.within_budgets, None)
        .ours("regret", Some(by.mean.regret.value), by.mean.regret.ci95)
        .ours("over_random", Some(by.mean.over_random.value), by.mean.over_random.ci95)
        .ours("over_largest", Some(by.mean.over_largest.value), by.mean.over_largest.ci95)
        .ours("nets", Some(nets as f64), None)
        .cells(how.cells.iter().copied())
}

/// Dots of nets with accuracies, over so many test images where they are shares of these.
fn points(found: &Found, judged: impl Iterator<Item = (Arch, f64, Option<u64>)>) -> Vec<Point> {
    let point = |(arch, accuracy, tests): (Arch, f64, Option<u64>)| {
        let candidate = found.candidates.iter().find(|c| c.arch == arch)?;
        Some(Point {
            arch: arch.to_string(),
            macs: candidate.macs,
            score: candidate.score,
            score_ci95: candidate.ci95,
            accuracy,
            ci95: tests.map(|tests| wilson95(accuracy, tests)),
        })
    };
    judged.filter_map(point).collect()
}
