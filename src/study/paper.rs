//! The paper's numbers (DATA, CVPR 2022), which stand beside a study's: of ImageNet, COCO, Pascal VOC
//! and Cityscapes, and of ResNet-50 as the reference.

use crate::config::{Method, Task};

/// A number of a column.
pub type Number = (&'static str, f64);

/// Table 4, ResNet-50 pre-trained by MoCo v2.
pub const FEW_LABELS_R50: [Number; 4] =
    [("top1_1", 0.398), ("top1_10", 0.618), ("top5_1", 0.683), ("top5_10", 0.851)];

/// Table 4, the winners of 1G..2G to 7G..8G: top-1 with 1 % and 10 % of the labels, top-5 likewise.
const FEW_LABELS: [[f64; 4]; 7] = [
    [0.458, 0.619, 0.737, 0.849],
    [0.465, 0.630, 0.747, 0.858],
    [0.475, 0.634, 0.751, 0.857],
    [0.478, 0.643, 0.753, 0.864],
    [0.490, 0.651, 0.762, 0.867],
    [0.493, 0.654, 0.763, 0.870],
    [0.495, 0.656, 0.765, 0.869],
];

/// Table 4's row of a budget, where it is one of the paper's.
pub fn few_labels(budget: &str) -> Vec<Number> {
    let columns = FEW_LABELS_R50.map(|(column, _)| column);
    let row = row_of(&FEW_LABELS, budget);
    row.map_or(Vec::new(), |numbers| columns.into_iter().zip(*numbers).collect())
}

/// The row of a budget of 1G..2G and on.
fn row_of<'a, T>(rows: &'a [T], budget: &str) -> Option<&'a T> {
    (1..).zip(rows).find(|(g, _)| budget == format!("{g}G..{}G", g + 1)).map(|(_, row)| row)
}

/// Table 3, Mask R-CNN on COCO from ResNet-50 pre-trained by MoCo v2.
pub const COCO_R50: [Number; 6] = coco([0.387, 0.592, 0.423, 0.355, 0.562, 0.379]);

/// Table 3, the winners of 1G..2G to 6G..7G.
const COCO: [[f64; 6]; 6] = [
    [0.362, 0.566, 0.395, 0.334, 0.539, 0.354],
    [0.383, 0.584, 0.418, 0.348, 0.552, 0.374],
    [0.399, 0.602, 0.435, 0.360, 0.571, 0.386],
    [0.404, 0.609, 0.443, 0.365, 0.580, 0.393],
    [0.412, 0.619, 0.452, 0.372, 0.585, 0.399],
    [0.415, 0.621, 0.451, 0.373, 0.589, 0.401],
];

/// Precision of boxes, over all overlaps, at .5 and at .75, and of masks.
const fn coco([ap, ap50, ap75, mask, mask50, mask75]: [f64; 6]) -> [Number; 6] {
    [
        ("ap", ap),
        ("ap50", ap50),
        ("ap75", ap75),
        ("mask_ap", mask),
        ("mask_ap50", mask50),
        ("mask_ap75", mask75),
    ]
}

/// Table 3's row of a budget, where it is one of the paper's.
pub fn on_coco(budget: &str) -> Vec<Number> {
    row_of(&COCO, budget).map_or(Vec::new(), |numbers| coco(*numbers).to_vec())
}

/// Tables 5 and 6: ResNet-50 pre-trained by MoCo v2, and the winner of 3G..4G.
pub fn alone_and_winner(task: Task) -> [Vec<Number>; 2] {
    let voc = |[ap, ap50, ap75]: [f64; 3]| vec![("ap", ap), ("ap50", ap50), ("ap75", ap75)];
    match task {
        Task::DetC4 => [voc([0.572, 0.824, 0.637]), voc([0.585, 0.830, 0.650])],
        Task::Seg => [vec![("miou", 0.764)], vec![("miou", 0.774)]],
        _ => [Vec::new(), Vec::new()],
    }
}

/// Table 2: ρ of a task's score with what nets are worth after fine-tuning for it.
pub fn ranking(task: Task) -> f64 {
    match task {
        Task::Cls => 0.90,
        Task::DetC4 => 0.84,
        Task::DetFpn => 0.86,
        Task::Seg => 0.63,
    }
}

/// Table 10: ρ and the winner's number where it was searched on the images that are learnt from
/// without labels, and where on those of the task.
pub fn searched(task: Task) -> [Vec<Number>; 2] {
    let pair = |column, [there, here]: [(f64, f64); 2]| {
        [there, here].map(|(rho, value)| vec![("spearman", rho), (column, value)])
    };
    match task {
        Task::DetFpn => pair("ap", [(0.82, 0.397), (0.86, 0.399)]),
        Task::Seg => pair("miou", [(0.23, 0.762), (0.63, 0.774)]),
        _ => [Vec::new(), Vec::new()],
    }
}

/// Table 7: a method by itself, and with the supernet. DenseCL's are the AP of detection on VOC.
pub fn method(method: Method) -> [Vec<Number>; 2] {
    let (column, alone, supernet) = match method {
        Method::Byol => ("top1", 0.237, 0.248),
        Method::Ressl => ("top1", 0.237, 0.267),
        Method::Densecl => ("ap", 0.491, 0.502),
        Method::Moco => return [Vec::new(), Vec::new()],
    };
    [alone, supernet].map(|value| vec![(column, value)])
}

/// Table 8: alone, with a teacher of the student's architecture, with the largest.
pub const TEACHERS: [[Number; 2]; 3] = [
    [("top1", 0.415), ("top5", 0.666)],
    [("top1", 0.390), ("top5", 0.642)],
    [("top1", 0.424), ("top5", 0.672)],
];

/// Table 9: winners by z, C5, and C2 to C5 after fine-tuning for a task.
pub fn features(task: Task) -> [Option<Number>; 3] {
    let column = |name, values: [f64; 3]| values.map(|value| Some((name, value)));
    match task {
        Task::Cls => column("top1", [0.475, 0.473, 0.471]),
        Task::DetC4 => column("ap", [0.578, 0.585, 0.581]),
        Task::DetFpn => column("ap", [0.392, 0.393, 0.399]),
        Task::Seg => [None; 3],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_of_the_paper_have_their_rows() {
        assert_eq!(few_labels("3G..4G")[..2], [("top1_1", 0.475), ("top1_10", 0.634)]);
        assert_eq!(on_coco("6G..7G")[..2], [("ap", 0.415), ("ap50", 0.621)]);
        assert!(on_coco("7G..8G").is_empty() && on_coco("1G..8G").is_empty());
        assert!(few_labels("2M..5M").is_empty() && few_labels("8G..9G").is_empty());
    }
}
