//! Comparisons in the reference's budget: F4, T7, T8 and T9.

use super::{CLS, LINEAR, LINEAR5, TOP1};
use crate::config::Method;
use crate::error::Result;
use crate::space::Arch;
use crate::study::cells::Made;
use crate::study::lab::{Lab, Pretrained};
use crate::study::paper::{self, Number};
use crate::study::table::{Row, Table};

/// Why a net by itself is trained at two rates.
const RATE: &str = "Weights of a supernet that all students share get about three times a single net's \
                    gradient: hence the row at three times the learning rate.";

/// The winner in the reference's budget, of each seed's run.
fn winners_like_reference(lab: &Lab, runs: &[Made], features: &str) -> Result<Vec<(Made, Arch)>> {
    let mut all = Vec::new();
    for run in runs {
        let found = lab.search(run, &lab.query(features, lab.train, lab.budget()))?;
        match found.winners().first() {
            Some((_, arch)) => all.push((run.clone(), *arch)),
            // Its failure is the cell's.
            None => all.push((found.made, lab.reference)),
        }
    }
    Ok(all)
}

/// F4: transfer to other images.
pub(super) fn transfer(lab: &Lab) -> Result<Table> {
    let mut table = Table::new(
        "f4",
        "Fine-tuned on other images",
        &["Top-1 with all labels of the other images; the baseline is the reference net."],
    );
    let runs = lab.each_seed(|seed| lab.moco(seed))?;
    let alone = lab.each_seed(|seed| lab.alone(Method::Moco, seed, 1.0))?;
    let winners = winners_like_reference(lab, &runs, CLS)?;
    for (train, test) in lab.transfers {
        let tune = |run: Option<&Made>, arch: &Arch, seed: u64| {
            lab.finetune(run, arch, (train, test), 1.0, seed)
        };
        let tuned = |pairs: &[(Made, Arch)]| -> Result<Vec<Made>> {
            pairs.iter().map(|(run, arch)| tune(Some(run), arch, lab.seed())).collect()
        };
        let pairs: Vec<_> = alone.iter().map(|run| (run.clone(), lab.reference)).collect();
        let baseline = tuned(&pairs)?;
        let row = |what: &str, cells: &[Made]| {
            Row::new(format!("{}: {what}", train.name)).measured(cells, &[TOP1])
        };
        table.rows.push(row("reference, pre-trained alone", &baseline));
        let cells = tuned(&winners)?;
        let found = row("winner in the reference's budget", &cells);
        table.rows.push(found.against(&cells, &baseline, lab.seed()));
        let cells = lab.each_seed(|seed| tune(None, &lab.reference, seed))?;
        let found = row("reference, from random weights", &cells);
        table.rows.push(found.against(&cells, &baseline, lab.seed()));
    }
    Ok(table)
}

/// T7: other methods.
pub(super) fn methods(lab: &Lab) -> Result<Table> {
    let [few, _] = lab.shares()?;
    let share = Lab::in_percent(few);
    let mut table = Table::new(
        "t7",
        "Other methods",
        &[
            &format!(
                "Top-1, fine-tuned on {share} of the labels; the baseline is the reference net alone \
                      at the method's learning rate."
            ),
            RATE,
            "The paper's row of DenseCL is detection.",
        ],
    );
    for method in [Method::Byol, Method::Ressl, Method::Densecl] {
        let tuned = |pairs: &[(Made, Arch)]| -> Result<Vec<Made>> {
            let each = pairs.iter().map(|(run, arch)| {
                lab.tuned(std::slice::from_ref(run), arch, few, lab.sizes.tune_seeds)
            });
            Ok(each.collect::<Result<Vec<_>>>()?.concat())
        };
        let alone = |factor: f64| -> Result<Vec<Made>> {
            let runs = lab.each_seed(|seed| lab.alone(method, seed, factor))?;
            tuned(&runs.into_iter().map(|run| (run, lab.reference)).collect::<Vec<_>>())
        };
        let baseline = alone(1.0)?;
        let runs = lab.each_seed(|seed| lab.pretrain(&Pretrained::supernet(method, seed)))?;
        let winners = tuned(&winners_like_reference(lab, &runs, CLS)?)?;
        let thrice = alone(3.0)?;
        let row = |what: &str, cells: &[Made]| {
            Row::new(format!("{method}: {what}")).measured(cells, &[TOP1])
        };
        let [of_alone, of_supernet] = paper::method(method);
        table.rows.push(row("reference, alone", &baseline).papers(&of_alone));
        for (what, cells, numbers) in [
            ("reference, alone, 3 times the rate", &thrice, Vec::new()),
            ("supernet, winner in the reference's budget", &winners, of_supernet),
        ] {
            let row = row(what, cells).against(cells, &baseline, lab.seed());
            table.rows.push(row.papers(&numbers));
        }
    }
    Ok(table)
}

/// T8: the teacher's architecture.
pub(super) fn teachers(lab: &Lab) -> Result<Table> {
    let mut table = Table::new(
        "t8",
        "The teacher's architecture",
        &["A linear classifier on the reference net's features.", RATE],
    );
    let same = |seed| Pretrained { teacher_same: true, ..Pretrained::supernet(Method::Moco, seed) };
    let [alone, of_same, of_max] = paper::TEACHERS.map(|numbers| numbers.to_vec());
    let rows: [(&str, Vec<Number>, Vec<Made>); 4] = [
        ("alone", alone, lab.each_seed(|seed| lab.alone(Method::Moco, seed, 1.0))?),
        ("alone, 3 times the rate", Vec::new(), {
            lab.each_seed(|seed| lab.alone(Method::Moco, seed, 3.0))?
        }),
        ("in a supernet, teacher of the student's architecture", of_same, {
            lab.each_seed(|seed| lab.pretrain(&same(seed)))?
        }),
        ("in a supernet, teacher of the largest", of_max, lab.each_seed(|seed| lab.moco(seed))?),
    ];
    let mut baseline = Vec::new();
    for (i, (what, numbers, runs)) in rows.into_iter().enumerate() {
        let cells = runs.iter().map(|run| lab.linear(run, &lab.reference));
        let cells = cells.collect::<Result<Vec<_>>>()?;
        let row = Row::new(what).measured(&cells, &[LINEAR, LINEAR5]).papers(&numbers);
        match i {
            0 => {
                table.rows.push(row);
                baseline = cells;
            }
            _ => table.rows.push(row.against(&cells, &baseline, lab.seed())),
        }
    }
    Ok(table)
}

/// T9: winners by other features.
pub(super) fn features(lab: &Lab) -> Result<Table> {
    let [few, _] = lab.shares()?;
    let share = Lab::in_percent(few);
    let mut table = Table::new(
        "t9",
        "Winners by the features of a task",
        &[&format!(
            "Winners in the reference's budget, each fine-tuned on {share} of the labels. The paper's table \
             is of three tasks; a study measures classification, for which z should win."
        )],
    );
    let runs = lab.each_seed(|seed| lab.moco(seed))?;
    let mut baseline = Vec::new();
    for (i, (what, flags)) in [
        ("z (classification)", CLS),
        ("C5 (detection on C4)", "--task det-c4"),
        ("C2 to C5 (detection with FPN)", "--task det-fpn"),
    ]
    .into_iter()
    .enumerate()
    {
        let winners = winners_like_reference(lab, &runs, flags)?;
        let cells = winners.iter().map(|(run, arch)| {
            lab.tuned(std::slice::from_ref(run), arch, few, lab.sizes.tune_seeds)
        });
        let cells = cells.collect::<Result<Vec<_>>>()?.concat();
        let name = match &winners[..] {
            [(run, arch)] if run.result.is_ok() => format!("{what}: {arch}"),
            _ => what.to_owned(),
        };
        let row = Row::new(name).measured(&cells, &[TOP1]).papers(&paper::FEATURES[i..=i]);
        match i {
            0 => {
                table.rows.push(row);
                baseline = cells;
            }
            _ => table.rows.push(row.against(&cells, &baseline, lab.seed())),
        }
    }
    Ok(table)
}
