//! Cases on which concatenation is checked, and timed.

use super::Concat;
use crate::ops::{Case, Fill, Input, Measured};
use crate::tensor::{Meta, Shape};

fn case(name: &str, [n, h, w]: [usize; 3], channels: [usize; 2], fill: Fill) -> Case<Concat> {
    let input = |c| Input::normal(Shape::nhwc(n, h, w, c)).fill(fill);
    Case { name: name.into(), op: Concat, inputs: channels.map(input).to_vec() }
}

pub(super) fn all() -> Vec<Case<Concat>> {
    let whole = Fill::Integers { lo: -9, hi: 9 };
    let mut first = case("gradient of a alone", [2, 3, 2], [3, 5], whole);
    first.inputs[1].grad = false;
    let mut second = case("gradient of b alone", [2, 3, 2], [8, 16], whole);
    second.inputs[0].grad = false;
    vec![
        case("odd shape", [3, 5, 7], [3, 4], whole),
        case("whole vectors", [2, 5, 3], [16, 8], whole),
        case("one of whole vectors", [2, 2, 3], [8, 5], Fill::Normal),
        case("one channel each", [1, 1, 1], [1, 1], whole),
        case("several chunks", [3, 20, 20], [24, 8], whole),
        case("several chunks, odd shape", [3, 20, 21], [19, 14], whole),
        first,
        second,
    ]
}

impl Measured for Concat {
    fn label(&self, inputs: &[Meta]) -> String {
        format!("{} and {}", inputs[0].shape, inputs[1].shape.c())
    }
    /// Features and what convolutions made of them, as in a segmentation head.
    fn benches() -> Vec<Case<Self>> {
        vec![case("features and their head", [2, 16, 16], [256, 64], Fill::Normal)]
    }
}
