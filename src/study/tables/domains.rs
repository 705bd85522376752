//! Domains that are searched on: T10.

use super::ranking::{agree, values};
use crate::config::Task;
use crate::error::Result;
use crate::search::correlation::{rank_interval95, spearman};
use crate::study::cells::{Made, Source};
use crate::study::dense::Target;
use crate::study::lab::{Found, Lab, Query};
use crate::study::paper;
use crate::study::table::{Row, Table};

/// T10: nets ranked on the images of several domains.
pub(super) fn domains(lab: &Lab) -> Result<Table> {
    let mut table = Table::new("t10", "Domains that are searched on", &[]);
    let run = lab.moco(lab.seed())?;
    if !lab.domains.is_empty() {
        table.notes.push(
            "The same nets, scored on the images of each domain: Spearman's ρ of the scores, and whether \
             the winner is the same."
                .into(),
        );
        add_pairs(lab, &mut table, &run)?;
    }
    for target in lab.targets() {
        add_target(lab, &mut table, &run, &target)?;
    }
    table.notes.push(match lab.annotated.is_empty() {
        true => "What a winner is worth in its domain needs --boxes or --pixels NAME=TRAIN,TEST.".into(),
        false => "Dense tasks: Spearman's ρ over nets, of the score on a domain's images with what the \
                  nets are worth for the task, and the number of the winner in the reference's budget, \
                  searched there. ρ has Fisher's interval; one winner's number has none."
            .into(),
    });
    Ok(table)
}

/// How scores on two domains agree, for all pairs.
fn add_pairs(lab: &Lab, table: &mut Table, run: &Made) -> Result<()> {
    let domains: Vec<&Source> = std::iter::once(lab.train).chain(lab.domains).collect();
    let end = lab.macs(&lab.space.max()) + 1;
    let groups = format!("1..{end}:{end}");
    let found = domains.iter().map(|images| {
        let (groups, samples) = (groups.clone(), lab.sizes.compared);
        lab.search(run, &Query { task: Task::Cls, images, groups, samples })
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
    Ok(())
}

/// What searches on several domains are worth for a dense task.
fn add_target(lab: &Lab, table: &mut Table, run: &Made, target: &Target) -> Result<()> {
    let own = &target.set.images;
    let [of_data, of_own] = paper::searched(target.task);
    let others = lab.domains.iter().map(|domain| (domain, Vec::new()));
    let sources = [(lab.train, of_data), (own, of_own)].into_iter().chain(others);
    let mut seen: Vec<&str> = Vec::new();
    for (images, paper) in sources {
        // Images that stand for two domains count once.
        if seen.contains(&images.digest.as_str()) {
            continue;
        }
        seen.push(&images.digest);
        let found = lab.search(run, &lab.ranked(target.task, images))?;
        let tested = lab.tested(run, &found, target)?;
        let pairs = values(&tested, target.ranked_by().0);
        let (scores, worths): (Vec<f64>, Vec<f64>) = pairs
            .iter()
            .filter_map(|(arch, value)| {
                let candidate = found.candidates.iter().find(|c| c.arch == *arch)?;
                Some((candidate.score, *value))
            })
            .unzip();
        let rho = spearman(&scores, &worths);
        let ci95 = rho.and_then(|rho| rank_interval95(rho, scores.len(), 0));
        let winner = lab.winners_like_reference(std::slice::from_ref(run), target.task, images)?;
        let winner = winner
            .iter()
            .map(|(run, arch)| lab.dense(Some(run), arch, target, lab.seed()))
            .collect::<Result<Vec<_>>>()?;
        let name = format!("{}, searched on {}", target.title(), described(images, own));
        let row = Row::new(name).ours("spearman", rho, ci95).papers(&paper);
        let row = row.scored(&winner, &target.columns()[..1]);
        let cells = std::iter::once(&found.made).chain(tested.iter().map(|t| &t.1));
        table.rows.push(row.cells(cells));
    }
    Ok(())
}

/// What images are called beside those of a task.
fn described<'a>(images: &'a Source, own: &Source) -> &'a str {
    if images.digest == own.digest { "its own images" } else { &images.name }
}
