//! Rankings of nets: T2 against accuracy, T10 over domains.

use std::collections::BTreeMap;

use serde_json::Value;

use super::CLS;
use crate::error::Result;
use crate::eval::evaluate::wilson95;
use crate::search::correlation::rank_interval95;
use crate::search::worth::Chooser;
use crate::search::{Choosing, Judged, consistency, journal, worth};
use crate::space::Arch;
use crate::study::cells::{Made, Source};
use crate::study::lab::{Found, Lab, Query, number, run_dir};
use crate::study::measure::{correct, test_images};
use crate::study::table::{Point, Row, Table};

/// T2: whether scores rank nets as accuracies do, and what that is worth.
pub(super) fn ranking(lab: &Lab) -> Result<Table> {
    let [few, _] = lab.shares()?;
    let mut table = Table::new(
        "t2",
        "Ranking of nets: scores without labels against accuracy",
        &[
            "Spearman's ρ over nets. The paper: 50 nets, each fine-tuned on the task. Its other three \
           rows are of detection and segmentation, which a study does not measure.",
        ],
    );
    let groups = lab.sizes.ranked_groups(lab.space);
    let samples = lab.sizes.ranked / lab.sizes.rank_groups;
    let query = Query { features: CLS, images: lab.train, groups, samples };
    let mut searches = Vec::new();
    for (i, &seed) in lab.seeds.iter().enumerate() {
        let run = lab.moco(seed)?;
        let found = lab.search(&run, &query)?;
        let neighbours = lab.score(&run, &found)?;
        let tuned = found.candidates.iter();
        let tuned: Vec<(Arch, Made)> = tuned
            .map(|c| Ok((c.arch, lab.finetune(Some(&run), &c.arch, lab.own(), few, lab.seed())?)))
            .collect::<Result<_>>()?;
        // The first seed has the chart; all have rows.
        let name = if i == 0 { String::new() } else { format!(", seed {seed}") };
        add_ranking(lab, &mut table, &found, &neighbours, &tuned, &name);
        if i == 0 && !lab.maker.is_plan() && found.made.result.is_ok() {
            let scored = journal::read_scored(&run_dir(&found.made))?;
            let scores: Vec<&[f64]> = scored.iter().map(|s| s.scores.as_slice()).collect();
            let sizes: Vec<usize> = found.budgets.iter().map(|b| b.candidates).collect();
            let halves = consistency::over_images(&scores, &sizes, lab.seed());
            table.consistency.extend(halves.map(|c| ("halves of the search images".into(), c)));
        }
        searches.push(found);
    }
    let good = searches.iter().filter(|found| !found.budgets.is_empty());
    table.consistency.extend(agree(good, "seeds of pre-training"));
    for (name, rho) in [
        ("C5, detection on VOC", 0.84),
        ("C2 to C5, detection on COCO", 0.86),
        ("C4 and C5, segmentation of Cityscapes", 0.63),
    ] {
        table.rows.push(Row::new(name).paper("spearman", rho).note("not measured by a study"));
    }
    Ok(table)
}

/// How searches of the same candidates agree.
fn agree<'a>(
    searches: impl Iterator<Item = &'a Found>,
    over: &str,
) -> Option<(String, consistency::Consistency)> {
    let searches: Vec<&Found> = searches.collect();
    let sizes: Vec<usize> = searches.first()?.budgets.iter().map(|b| b.candidates).collect();
    let scores = |f: &&Found| f.candidates.iter().map(|c| c.score).collect::<Vec<f64>>();
    let all: Vec<Vec<f64>> = searches.iter().map(scores).collect();
    Some((over.to_owned(), consistency::between(&all, &sizes)?))
}

/// Rows of one seed: by fine-tuning and by nearest neighbours.
fn add_ranking(
    lab: &Lab,
    table: &mut Table,
    found: &Found,
    neighbours: &Made,
    tuned: &[(Arch, Made)],
    seed: &str,
) {
    let [few, _] = lab.shares().unwrap_or([1.0; 2]);
    let naswot = naswot(neighbours);
    let judged: BTreeMap<Arch, Judged> = tuned
        .iter()
        .filter_map(|(arch, made)| {
            let result = made.result.as_ref().ok()?;
            let accuracy = number(result, &["top1"])?;
            let naswot = naswot.get(arch).copied();
            Some((*arch, Judged { accuracy, correct: correct(result), naswot }))
        })
        .collect();
    let cells: Vec<&Made> =
        std::iter::once(&found.made).chain(tuned.iter().map(|t| &t.1)).collect();
    let how = format!("fine-tuned on {} of the labels{seed}", Lab::in_percent(few));
    let by_tuning = worth(&found.candidates, &found.budgets, &judged, lab.seed());
    rank_rows(table, by_tuning, &how, &cells, seed.is_empty());
    if seed.is_empty() {
        table.points.push((how, points(found, tuned.iter().filter_map(tuned_accuracy))));
    }
    let by_neighbours = neighbours.result.as_ref().ok();
    let by_neighbours: Option<Choosing> =
        by_neighbours.and_then(|r| serde_json::from_value(r.get("worth")?.clone()).ok());
    let how = format!("nearest neighbours{seed}");
    rank_rows(table, by_neighbours, &how, &[&found.made, neighbours], false);
    if seed.is_empty() {
        table.points.push((how, points(found, near_accuracies(neighbours))));
    }
}

/// A fine-tuned net, its accuracy and the number of test images.
fn tuned_accuracy((arch, made): &(Arch, Made)) -> Option<(Arch, f64, u64)> {
    let result = made.result.as_ref().ok()?;
    Some((*arch, number(result, &["top1"])?, test_images(result)?))
}

/// The same of the nets whose neighbours were looked for.
fn near_accuracies(neighbours: &Made) -> impl Iterator<Item = (Arch, f64, u64)> + '_ {
    let result = neighbours.result.as_ref().ok();
    let tests = result.and_then(test_images);
    subnets(neighbours).filter_map(move |net| {
        Some((net["arch"].as_str()?.parse().ok()?, net["accuracy"].as_f64()?, tests?))
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

fn rank_rows(table: &mut Table, found: Option<Choosing>, how: &str, cells: &[&Made], paper: bool) {
    let Some(worth) = found else {
        let row = Row::new(format!("score of z, {how}")).ours("spearman", None, None);
        table.rows.push(row.cells(cells.iter().copied()));
        return;
    };
    for chooser in &worth.choosers {
        table.rows.push(rank_row(chooser, worth.nets, how, cells, paper));
    }
    table.worth.push((how.to_owned(), worth));
}

fn rank_row(by: &Chooser, nets: usize, how: &str, cells: &[&Made], paper: bool) -> Row {
    let title = if by.by == "score" { "score of z" } else { by.title() };
    let mut row = Row::new(format!("{title}, {how}"));
    if paper && by.by == "score" {
        row = row.paper("spearman", 0.90).paper("nets", 50.0);
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
        .cells(cells.iter().copied())
}

/// Dots of nets with accuracies over so many test images.
fn points(found: &Found, judged: impl Iterator<Item = (Arch, f64, u64)>) -> Vec<Point> {
    let point = |(arch, accuracy, tests): (Arch, f64, u64)| {
        let candidate = found.candidates.iter().find(|c| c.arch == arch)?;
        Some(Point {
            arch: arch.to_string(),
            macs: candidate.macs,
            score: candidate.score,
            score_ci95: candidate.ci95,
            accuracy,
            ci95: wilson95(accuracy, tests),
        })
    };
    judged.filter_map(point).collect()
}

/// T10: the same nets, ranked on the images of several domains.
pub(super) fn domains(lab: &Lab) -> Result<Table> {
    let mut table = Table::new(
        "t10",
        "Domains that are searched on",
        &[
            "The same nets, scored on the images of each domain: Spearman's ρ of the scores, and whether \
           the winner is the same.",
        ],
    );
    let run = lab.moco(lab.seed())?;
    let domains: Vec<&Source> = std::iter::once(lab.train).chain(lab.domains).collect();
    let end = lab.macs(&lab.space.max()) + 1;
    let groups = format!("1..{end}:{end}");
    let found = domains.iter().map(|images| {
        let (groups, samples) = (groups.clone(), lab.sizes.compared);
        lab.search(&run, &Query { features: CLS, images, groups, samples })
    });
    let found = found.collect::<Result<Vec<Found>>>()?;
    for (i, target) in domains.iter().enumerate() {
        for (j, source) in domains.iter().enumerate().filter(|(j, _)| *j < i) {
            let mut row = Row::new(format!("{} and {}", source.name, target.name));
            let pair = [&found[j], &found[i]];
            let both = pair.iter().all(|f| !f.budgets.is_empty());
            let compared = both.then(|| agree(pair.into_iter(), "")).flatten();
            let nets = pair[0].candidates.len();
            let rho = compared.as_ref().and_then(|(_, c)| c.spearman);
            let ci95 = rho.and_then(|rho| rank_interval95(rho, nets, 0));
            row.seeds = usize::from(both);
            row = row.ours("spearman", rho, ci95);
            row = row.ours("same_winner", compared.map(|(_, c)| c.same_winner), None);
            table.rows.push(row.cells(pair.map(|f| &f.made)));
        }
    }
    let good = found.iter().filter(|f| !f.budgets.is_empty());
    table.consistency.extend(agree(good, "domains"));
    Ok(table)
}
