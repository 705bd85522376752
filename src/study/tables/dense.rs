//! Dense tasks: T3, T5 and T6.

use super::budgets::winners_by_budget;
use super::test::Test;
use crate::config::{Method, Task};
use crate::error::Result;
use crate::space::Arch;
use crate::study::cells::Made;
use crate::study::lab::Lab;
use crate::study::paper;
use crate::study::table::{Row, Table};

/// What is said of intervals below each of these tables.
const INTERVALS: &str = "AP and mIoU of one test have no interval; three or more seeds of pre-training \
                         (--seeds) give one over seeds.";

/// T3: Mask R-CNN by budget.
pub(super) fn by_budget(lab: &Lab) -> Result<Table> {
    let mut table = Table::new(
        "t3",
        "Boxes and masks by budget: Mask R-CNN with a feature pyramid",
        &[
            "Winners for det-fpn, searched on the images of --boxes; the baseline is the reference net, \
             pre-trained alone. The paper's numbers are of COCO. Masks have numbers where annotations \
             have masks.",
            INTERVALS,
        ],
    );
    let alone = lab.alone_of_each_seed(Method::Moco, 1.0)?;
    for target in lab.targets_of(Task::DetFpn) {
        let on = format!(" on {}", target.set.train.name);
        let images = &target.set.images;
        let test = Test::Dense(target);
        let row = |name: String, macs: f64, cells: &[Made], baseline: Option<&[Made]>| {
            let row = Row::new(name).ours("macs", Some(macs), None);
            test.row(lab, row, cells, baseline)
        };
        let baseline = test.cells(lab, &alone)?;
        let macs = |arch: &Arch| lab.macs(arch) as f64;
        let name = lab.named(&format!("reference, alone{on}:"), &lab.reference);
        let first = row(name, macs(&lab.reference), &baseline, None);
        table.rows.push(first.papers(&paper::COCO_R50));
        let winners = winners_by_budget(lab, Task::DetFpn, images)?;
        for budget in &winners.budgets {
            let cells = test.cells(lab, &budget.nets)?;
            let row = row(budget.title(lab, &on), budget.macs(lab), &cells, Some(&baseline));
            table.rows.push(row.papers(&paper::on_coco(&budget.name)));
        }
        table.rows.extend(winners.failure("ap"));
        for (what, arch) in [("smallest", lab.space.min()), ("largest", lab.space.max())] {
            let nets: Vec<_> = winners.runs.iter().map(|run| (run.clone(), arch)).collect();
            let cells = test.cells(lab, &nets)?;
            let name = lab.named(&format!("{what}{on}:"), &arch);
            table.rows.push(row(name, macs(&arch), &cells, Some(&baseline)));
        }
    }
    Ok(table)
}

/// T5: Faster R-CNN on C4.
pub(super) fn boxes(lab: &Lab) -> Result<Table> {
    let title = "Boxes: Faster R-CNN on C4";
    let note = "Winners for det-c4, searched on the images of --boxes. The paper's numbers are of Pascal \
                VOC, by the metric voc07, which scale full has too; other scales have COCO's.";
    in_the_budget(lab, Task::DetC4, Table::new("t5", title, &[note, INTERVALS]))
}

/// T6: FCN.
pub(super) fn pixels(lab: &Lab) -> Result<Table> {
    let title = "Classes of pixels: FCN";
    let note = "Winners for seg, searched on the images of --pixels. The paper's numbers are of \
                Cityscapes.";
    in_the_budget(lab, Task::Seg, Table::new("t6", title, &[note, INTERVALS]))
}

/// The winner in the reference's budget beside the reference.
fn in_the_budget(lab: &Lab, task: Task, mut table: Table) -> Result<Table> {
    let alone = lab.alone_of_each_seed(Method::Moco, 1.0)?;
    let runs = lab.each_seed(|seed| lab.moco(seed))?;
    let [of_alone, of_winner] = paper::alone_and_winner(task);
    for target in lab.targets_of(task) {
        let on = format!(" on {}", target.set.train.name);
        let winners = lab.winners_like_reference(&runs, task, &target.set.images)?;
        let fresh = lab.each_seed(|seed| lab.dense(None, &lab.reference, &target, seed))?;
        let test = Test::Dense(target);
        let baseline = test.cells(lab, &alone)?;
        let name = lab.named(&format!("reference, alone{on}:"), &lab.reference);
        table.rows.push(test.row(lab, Row::new(name), &baseline, None).papers(&of_alone));
        let cells = test.cells(lab, &winners)?;
        let name = match &winners[..] {
            [(run, arch)] if run.result.is_ok() => {
                lab.named(&format!("winner in the reference's budget{on}:"), arch)
            }
            _ => format!("winner in the reference's budget{on}"),
        };
        table.rows.push(test.row(lab, Row::new(name), &cells, Some(&baseline)).papers(&of_winner));
        let name = format!("reference, from random weights{on}");
        table.rows.push(test.row(lab, Row::new(name), &fresh, Some(&baseline)));
    }
    Ok(table)
}
