//! Comparisons in the reference's budget: F4, T7, T8 and T9.

use super::test::Test;
use super::{LINEAR, LINEAR5, TOP1};
use crate::config::{Method, Task};
use crate::error::Result;
use crate::space::Arch;
use crate::study::cells::Made;
use crate::study::dense::Target;
use crate::study::lab::{Lab, Pretrained};
use crate::study::paper::{self, Number};
use crate::study::table::{Row, Table};

/// Why a net by itself is trained at two rates.
const RATE: &str = "Weights of a supernet that all students share get about three times a single net's \
                    gradient: hence the row at three times the learning rate.";

/// What the numbers of classification are.
fn top1(few: Option<f64>) -> String {
    let of =
        |few| format!("Top-1 is of nets fine-tuned on {} of the labels. ", Lab::in_percent(few));
    few.map_or(String::new(), of)
}

/// F4: transfer to other images.
pub(super) fn transfer(lab: &Lab) -> Result<Table> {
    let mut table = Table::new(
        "f4",
        "Fine-tuned on other images",
        &["Top-1 with all labels of the other images; the baseline is the reference net."],
    );
    let runs = lab.each_seed(|seed| lab.moco(seed))?;
    let alone = lab.alone_of_each_seed(Method::Moco, 1.0)?;
    let winners = lab.winners_like_reference(&runs, Task::Cls, lab.train)?;
    for (train, test) in lab.transfers {
        let tune = |run: Option<&Made>, arch: &Arch, seed: u64| {
            lab.finetune(run, arch, (train, test), 1.0, seed)
        };
        let tuned = |pairs: &[(Made, Arch)]| -> Result<Vec<Made>> {
            pairs.iter().map(|(run, arch)| tune(Some(run), arch, lab.seed())).collect()
        };
        let baseline = tuned(&alone)?;
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
    let few = lab.few();
    let dense: Vec<Target> =
        lab.targets().into_iter().filter(|target| target.task != Task::DetFpn).collect();
    let of_dense = match dense.is_empty() {
        true => "The paper's row of DenseCL is detection, which needs --boxes NAME=TRAIN,TEST.",
        false => {
            "DenseCL also by dense tasks, where winners are searched on their images; the paper's row \
                  is detection on Pascal VOC."
        }
    };
    let mut table = Table::new(
        "t7",
        "Other methods",
        &[
            &format!(
                "{}The baseline is the reference net alone at the method's learning rate.",
                top1(few)
            ),
            RATE,
            of_dense,
        ],
    );
    for method in [Method::Byol, Method::Ressl, Method::Densecl] {
        let mut tests: Vec<Test> = few.map(Test::Labels).into_iter().collect();
        if method == Method::Densecl {
            tests.extend(dense.iter().copied().map(Test::Dense));
        }
        if tests.is_empty() {
            continue;
        }
        let alone = lab.alone_of_each_seed(method, 1.0)?;
        let runs = lab.each_seed(|seed| lab.pretrain(&Pretrained::supernet(method, seed)))?;
        let thrice = lab.alone_of_each_seed(method, 3.0)?;
        for test in tests {
            let winners = lab.winners_like_reference(&runs, test.task(), test.images(lab))?;
            let [baseline, winners, thrice] =
                [&alone, &winners, &thrice].map(|n| test.cells(lab, n));
            let (baseline, winners, thrice) = (baseline?, winners?, thrice?);
            let (of, is_papers) = match &test {
                // The paper has DenseCL by detection alone, which stands here where nothing else does.
                Test::Labels(_) => (String::new(), method != Method::Densecl || dense.is_empty()),
                Test::Dense(target) => {
                    (format!(", {}", target.title()), target.task == Task::DetC4)
                }
            };
            let [of_alone, of_supernet] = match is_papers {
                true => paper::method(method),
                false => [Vec::new(), Vec::new()],
            };
            let row = |what: &str, cells: &[Made], baseline: Option<&[Made]>| {
                test.row(lab, Row::new(format!("{method}{of}: {what}")), cells, baseline)
            };
            table.rows.push(row("reference, alone", &baseline, None).papers(&of_alone));
            for (what, cells, numbers) in [
                ("reference, alone, 3 times the rate", &thrice, Vec::new()),
                ("supernet, winner in the reference's budget", &winners, of_supernet),
            ] {
                table.rows.push(row(what, cells, Some(&baseline)).papers(&numbers));
            }
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
    let few = lab.few();
    let dense = lab.targets();
    let of_dense = match dense.is_empty() {
        true => {
            "The paper's table is of three tasks; this one measures classification, for which z should \
                 win: detection needs --boxes NAME=TRAIN,TEST, segmentation --pixels NAME=TRAIN,TEST."
        }
        false => {
            "For each dense task winners are searched on its images, and the features of the task \
                  should win."
        }
    };
    let mut table = Table::new(
        "t9",
        "Winners by the features of a task",
        &[
            &format!(
                "{}Winners in the reference's budget; the baseline is the winner by z.",
                top1(few)
            ),
            of_dense,
        ],
    );
    let runs = lab.each_seed(|seed| lab.moco(seed))?;
    let mut features = vec![
        (Task::Cls, "z (classification)"),
        (Task::DetC4, "C5 (detection on C4)"),
        (Task::DetFpn, "C2 to C5 (detection with FPN)"),
    ];
    if !lab.targets_of(Task::Seg).is_empty() {
        features.push((Task::Seg, "C4 and C5 (segmentation)"));
    }
    let tests = few.map(Test::Labels).into_iter().chain(dense.iter().copied().map(Test::Dense));
    for test in tests {
        let mut baseline: Option<Vec<Made>> = None;
        let papers = paper::features(test.task()).into_iter().chain([None]);
        for (&(task, what), paper) in features.iter().zip(papers) {
            let winners = lab.winners_like_reference(&runs, task, test.images(lab))?;
            let cells = test.cells(lab, &winners)?;
            let of = match &test {
                Test::Labels(_) => String::new(),
                Test::Dense(target) => format!("{}, ", target.title()),
            };
            let name = match &winners[..] {
                [(run, arch)] if run.result.is_ok() => format!("{of}{what}: {arch}"),
                _ => format!("{of}{what}"),
            };
            let row = test.row(lab, Row::new(name), &cells, baseline.as_deref());
            table.rows.push(row.papers(paper.as_slice()));
            baseline.get_or_insert(cells);
        }
    }
    Ok(table)
}
