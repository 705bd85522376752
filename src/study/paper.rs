//! The paper's numbers (DATA, CVPR 2022), which stand beside a study's: of ImageNet, and of ResNet-50 as
//! the reference.

use crate::config::Method;

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
    let row =
        FEW_LABELS.iter().enumerate().find(|(i, _)| budget == format!("{}G..{}G", i + 1, i + 2));
    let columns = FEW_LABELS_R50.map(|(column, _)| column);
    row.map_or(Vec::new(), |(_, numbers)| columns.into_iter().zip(*numbers).collect())
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

/// Table 9, classification: winners by z, C5, and C2 to C5.
pub const FEATURES: [Number; 3] = [("top1", 0.475), ("top1", 0.473), ("top1", 0.471)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_of_the_paper_have_their_rows() {
        assert_eq!(few_labels("3G..4G")[..2], [("top1_1", 0.475), ("top1_10", 0.634)]);
        assert!(few_labels("2M..5M").is_empty() && few_labels("8G..9G").is_empty());
    }
}
