//! Winners of several budgets: F3 and T4.

use super::{LINEAR, LINEAR5, TOP1, TOP5};
use crate::config::Method;
use crate::error::{Error, Result};
use crate::space::Arch;
use crate::study::cells::Made;
use crate::study::lab::Lab;
use crate::study::paper;
use crate::study::table::{Row, Table};

/// Winners of all budgets, of the runs of all seeds.
struct Winners {
    runs: Vec<Made>,
    budgets: Vec<Budget>,
    /// Searches that found none.
    failed: Vec<Made>,
}

/// A budget's winner of each seed, with the run that it is of.
struct Budget {
    name: String,
    nets: Vec<(Made, Arch)>,
}

fn winners_by_budget(lab: &Lab) -> Result<Winners> {
    let runs = lab.each_seed(|seed| lab.moco(seed))?;
    let mut budgets: Vec<Budget> = Vec::new();
    let mut failed = Vec::new();
    for run in &runs {
        let found = lab.winners(run)?;
        for (name, arch) in found.winners() {
            match budgets.iter_mut().find(|budget| budget.name == name) {
                Some(budget) => budget.nets.push((run.clone(), arch)),
                None => budgets.push(Budget { name, nets: vec![(run.clone(), arch)] }),
            }
        }
        if found.made.result.is_err() {
            failed.push(found.made);
        }
    }
    Ok(Winners { runs, budgets, failed })
}

/// A row that says why there are no winners.
fn no_winners(failed: &[Made]) -> Option<Row> {
    (!failed.is_empty()).then(|| Row::new("winners").ours("top1", None, None).cells(failed))
}

fn title_of(lab: &Lab, Budget { name, nets }: &Budget) -> String {
    match &nets[..] {
        [(_, first), rest @ ..] if rest.iter().all(|(_, arch)| arch == first) => {
            lab.named(&format!("winner of {name}:"), first)
        }
        _ => format!("winners of {name}"),
    }
}

/// F3: linear evaluation by compute.
pub(super) fn linear(lab: &Lab) -> Result<Table> {
    let mut table = Table::new(
        "f3",
        "Linear evaluation by compute",
        &["A linear classifier on frozen features. The reference was trained by itself with \
           as many steps; all others are subnets of one supernet."],
    );
    let alone = lab.each_seed(|seed| lab.alone(Method::Moco, seed, 1.0))?;
    let reference = alone.iter().map(|run| lab.linear(run, &lab.reference));
    let reference = reference.collect::<Result<Vec<_>>>()?;
    let row = |name: String, archs: &[Arch], cells: &[Made]| {
        let macs = archs.iter().map(|arch| lab.macs(arch) as f64).sum::<f64>() / archs.len() as f64;
        let row = Row::new(name).ours("macs", Some(macs), None).measured(cells, &[LINEAR, LINEAR5]);
        row.against(cells, &reference, lab.seed())
    };
    let name = lab.named("reference, alone:", &lab.reference);
    let mut first = row(name, &[lab.reference], &reference);
    first.against_baseline = None;
    table.rows.push(first);
    let Winners { runs, budgets, failed } = winners_by_budget(lab)?;
    for budget in &budgets {
        let cells = budget.nets.iter().map(|(run, arch)| lab.linear(run, arch));
        let cells = cells.collect::<Result<Vec<_>>>()?;
        let archs: Vec<Arch> = budget.nets.iter().map(|(_, arch)| *arch).collect();
        table.rows.push(row(title_of(lab, budget), &archs, &cells));
    }
    table.rows.extend(no_winners(&failed));
    for (what, arch) in [("smallest:", lab.space.min()), ("largest:", lab.space.max())] {
        let cells = runs.iter().map(|run| lab.linear(run, &arch)).collect::<Result<Vec<_>>>()?;
        table.rows.push(row(lab.named(what, &arch), &[arch], &cells));
    }
    Ok(table)
}

/// T4: a share of the labels.
pub(super) fn few_labels(lab: &Lab) -> Result<Table> {
    let shares = lab.shares()?;
    let [few, more] = shares.map(Lab::in_percent);
    let mut table = Table::new(
        "t4",
        "Fine-tuned on a share of the labels",
        &[&format!("Columns _1 are of {few} of the labels, columns _10 of {more}.")],
    );
    let measure = |pairs: &[(Made, Arch)]| -> Result<[Vec<Made>; 2]> {
        let all = |labels: f64, seeds: u64| {
            let cells = pairs
                .iter()
                .map(|(run, arch)| lab.tuned(std::slice::from_ref(run), arch, labels, seeds));
            Ok::<_, Error>(cells.collect::<Result<Vec<_>>>()?.concat())
        };
        Ok([all(shares[0], lab.sizes.tune_seeds)?, all(shares[1], 1)?])
    };
    let row = |name: String, [few, more]: &[Vec<Made>; 2]| {
        let one: [(&str, &[&str]); 2] = [("top1_1", TOP1.1), ("top5_1", TOP5.1)];
        let ten: [(&str, &[&str]); 2] = [("top1_10", TOP1.1), ("top5_10", TOP5.1)];
        Row::new(name).measured(few, &one).measured(more, &ten)
    };
    let alone = lab.each_seed(|seed| lab.alone(Method::Moco, seed, 1.0))?;
    let pairs: Vec<(Made, Arch)> = alone.into_iter().map(|run| (run, lab.reference)).collect();
    let baseline = measure(&pairs)?;
    let first = row(lab.named("reference, alone:", &lab.reference), &baseline);
    table.rows.push(first.papers(&paper::FEW_LABELS_R50));
    let Winners { budgets, failed, .. } = winners_by_budget(lab)?;
    for budget in &budgets {
        let cells = measure(&budget.nets)?;
        let row = row(title_of(lab, budget), &cells);
        let row = row.against(&cells[0], &baseline[0], lab.seed());
        table.rows.push(row.papers(&paper::few_labels(&budget.name)));
    }
    table.rows.extend(no_winners(&failed));
    Ok(table)
}
