//! Situations in which addition is checked, and timed.

use super::Add;
use crate::ops::work::{STAGE_1, STAGE_4};
use crate::ops::{Case, Fill, Input};
use crate::tensor::Shape;

pub(super) fn all() -> Vec<Case<Add>> {
    let case = |name: &str, shape, fill| {
        let input = Input::normal(Shape(shape)).fill(fill);
        Case { name: name.into(), op: Add, inputs: vec![input, input] }
    };
    let mut one = case("gradient of one side", [2, 3, 4, 5], Fill::Normal);
    one.inputs[0].grad = false;
    vec![
        case("odd shape", [3, 5, 7, 9], Fill::Normal),
        case("three elements", [1, 1, 1, 3], Fill::Normal),
        case("several chunks", [7, 20, 20, 24], Fill::Normal),
        case("integers", [2, 3, 3, 5], Fill::Integers { lo: -4, hi: 4 }),
        one,
    ]
}

pub(super) fn benches() -> Vec<Case<Add>> {
    let case = |(name, shape): (&str, _)| Case {
        name: name.to_owned(),
        op: Add,
        inputs: vec![Input::normal(shape); 2],
    };
    [("stage 1", STAGE_1), ("stage 4", STAGE_4)].map(case).into()
}
