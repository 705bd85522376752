//! Cases on which the loss of segmentation is checked and timed.

use super::{IGNORED, SegLoss};
use crate::ops::{Case, Fill, Input, Measured};
use crate::tensor::{Meta, Shape};

/// Classes and pixels without one.
fn labels(classes: usize) -> Fill {
    Fill::Integers { lo: IGNORED, hi: classes as i32 - 1 }
}

fn case(name: &str, align_corners: bool, logits: [usize; 4], size: [usize; 2]) -> Case<SegLoss> {
    let [n, _, _, classes] = logits;
    let shape = Shape::nhwc(n, size[0], size[1], 1);
    let inputs =
        vec![Input::normal(Shape(logits)), Input::index(shape, classes).fill(labels(classes))];
    Case { name: name.into(), op: SegLoss { align_corners, weight: 1.0 }, inputs }
}

pub(super) fn all() -> Vec<Case<SegLoss>> {
    let mut mean = case("a mean", false, [2, 3, 5, 4], [6, 10]);
    mean.op.weight = 1.0 / 120.0;
    let mut none = case("all ignored", false, [1, 2, 3, 4], [5, 4]);
    none.inputs[1].fill = Fill::Integers { lo: IGNORED, hi: IGNORED };
    vec![
        case("larger, odd size", false, [2, 5, 4, 7], [13, 11]),
        case("larger, odd size, corners aligned", true, [2, 5, 4, 7], [13, 11]),
        case("the same size", false, [1, 6, 5, 3], [6, 5]),
        case("the same size, corners aligned", true, [2, 3, 4, 2], [3, 4]),
        case("smaller", false, [2, 9, 8, 5], [4, 3]),
        case("smaller, corners aligned", true, [2, 9, 8, 5], [4, 3]),
        case("higher, narrower", true, [1, 2, 9, 8], [7, 4]),
        case("of one pixel", false, [3, 1, 1, 4], [5, 6]),
        case("to one pixel", true, [2, 4, 3, 5], [1, 1]),
        case("several blocks", false, [2, 9, 9, 19], [40, 37]),
        case("several blocks, corners aligned", true, [1, 5, 7, 19], [65, 70]),
        case("many classes", false, [1, 3, 3, 70], [9, 10]),
        case("more classes than a block", true, [1, 2, 3, 300], [4, 7]),
        mean,
        none,
    ]
}

impl Measured for SegLoss {
    /// A head of Cityscapes' classes, an eighth of the labels' size.
    fn benches() -> Vec<Case<Self>> {
        vec![case("an eighth of the size", true, [2, 13, 13, 19], [97, 97])]
    }
    fn label(&self, inputs: &[Meta]) -> String {
        let labels = inputs[1].shape;
        format!("{} to {}x{}", inputs[0].shape, labels.h(), labels.w())
    }
    fn fills(&self, inputs: &[Meta]) -> Vec<Fill> {
        vec![Fill::Normal, labels(inputs[0].shape.c())]
    }
}
