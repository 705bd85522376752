//! Winners of several budgets: F3 and T4.

use super::{LINEAR, LINEAR5, TOP1, TOP5};
use crate::config::{Method, Task};
use crate::error::Result;
use crate::space::Arch;
use crate::study::cells::{Made, Source};
use crate::study::lab::{Column, Lab};
use crate::study::paper;
use crate::study::table::{Row, Table};

/// Winners of all budgets, of the runs of all seeds.
pub(super) struct Winners {
    pub(super) runs: Vec<Made>,
    pub(super) budgets: Vec<Budget>,
    /// Searches that found none.
    failed: Vec<Made>,
}

/// A budget's winner of each seed, with the run that it is of.
pub(super) struct Budget {
    pub(super) name: String,
    pub(super) nets: Vec<(Made, Arch)>,
}

pub(super) fn winners_by_budget(lab: &Lab, task: Task, images: &Source) -> Result<Winners> {
    let runs = lab.each_seed(|seed| lab.moco(seed))?;
    let mut budgets: Vec<Budget> = Vec::new();
    let mut failed = Vec::new();
    for run in &runs {
        let found = lab.winners(run, task, images)?;
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

impl Winners {
    /// A row that says why there are no winners, where there are none.
    pub(super) fn failure(&self, column: &str) -> Option<Row> {
        let row = || Row::new("winners").ours(column, None, None).cells(&self.failed);
        (!self.failed.is_empty()).then(row)
    }
}

impl Budget {
    /// What its row is called; `on` names images that are not the study's own.
    pub(super) fn title(&self, lab: &Lab, on: &str) -> String {
        match &self.nets[..] {
            [(_, first), rest @ ..] if rest.iter().all(|(_, arch)| arch == first) => {
                lab.named(&format!("winner of {}{on}:", self.name), first)
            }
            _ => format!("winners of {}{on}", self.name),
        }
    }

    /// The compute of its winners, the mean over seeds.
    pub(super) fn macs(&self, lab: &Lab) -> f64 {
        let macs = self.nets.iter().map(|(_, arch)| lab.macs(arch) as f64);
        macs.sum::<f64>() / self.nets.len() as f64
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
    let measure = |nets: &[(Made, Arch)]| -> Result<Vec<Made>> {
        nets.iter().map(|(run, arch)| lab.linear(run, arch)).collect()
    };
    let row = |name: String, macs: f64, cells: &[Made]| {
        Row::new(name).ours("macs", Some(macs), None).measured(cells, &[LINEAR, LINEAR5])
    };
    let reference = measure(&lab.alone_of_each_seed(Method::Moco, 1.0)?)?;
    let name = lab.named("reference, alone:", &lab.reference);
    table.rows.push(row(name, lab.macs(&lab.reference) as f64, &reference));
    let winners = winners_by_budget(lab, Task::Cls, lab.train)?;
    for budget in &winners.budgets {
        let cells = measure(&budget.nets)?;
        let row = row(budget.title(lab, ""), budget.macs(lab), &cells);
        table.rows.push(row.against(&cells, &reference, lab.seed()));
    }
    table.rows.extend(winners.failure("top1"));
    for (what, arch) in [("smallest:", lab.space.min()), ("largest:", lab.space.max())] {
        let nets: Vec<_> = winners.runs.iter().map(|run| (run.clone(), arch)).collect();
        let cells = measure(&nets)?;
        let row = row(lab.named(what, &arch), lab.macs(&arch) as f64, &cells);
        table.rows.push(row.against(&cells, &reference, lab.seed()));
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
    let measure = |nets: &[(Made, Arch)]| -> Result<[Vec<Made>; 2]> {
        let all = |labels: f64, seeds: u64| -> Result<Vec<Made>> {
            let cells = nets.iter().map(|(run, arch)| lab.tuned(run, arch, labels, seeds));
            Ok(cells.collect::<Result<Vec<_>>>()?.concat())
        };
        Ok([all(shares[0], lab.sizes.tune_seeds)?, all(shares[1], 1)?])
    };
    let row = |name: String, [few, more]: &[Vec<Made>; 2]| {
        let one: [Column; 2] = [("top1_1", TOP1.1), ("top5_1", TOP5.1)];
        let ten: [Column; 2] = [("top1_10", TOP1.1), ("top5_10", TOP5.1)];
        Row::new(name).measured(few, &one).measured(more, &ten)
    };
    let baseline = measure(&lab.alone_of_each_seed(Method::Moco, 1.0)?)?;
    let first = row(lab.named("reference, alone:", &lab.reference), &baseline);
    table.rows.push(first.papers(&paper::FEW_LABELS_R50));
    let winners = winners_by_budget(lab, Task::Cls, lab.train)?;
    for budget in &winners.budgets {
        let cells = measure(&budget.nets)?;
        let row = row(budget.title(lab, ""), &cells);
        let row = row.against(&cells[0], &baseline[0], lab.seed());
        table.rows.push(row.papers(&paper::few_labels(&budget.name)));
    }
    table.rows.extend(winners.failure("top1_1"));
    Ok(table)
}
