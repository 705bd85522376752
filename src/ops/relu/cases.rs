//! Situations in which the ReLU is checked, and timed.

use super::Relu;
use crate::ops::work::{STAGE_1, STAGE_4, STEM};
use crate::ops::{Case, Fill, Input};
use crate::tensor::Shape;

pub(super) fn all() -> Vec<Case<Relu>> {
    let case = |name: &str, shape, fill| {
        let inputs = vec![Input::normal(Shape(shape)).fill(fill)];
        Case { name: name.into(), op: Relu, inputs }
    };
    vec![
        case("odd shape", [3, 5, 7, 9], Fill::Distinct),
        case("three elements", [1, 1, 1, 3], Fill::Distinct),
        case("several chunks", [7, 20, 20, 24], Fill::Distinct),
    ]
}

pub(super) fn benches() -> Vec<Case<Relu>> {
    let case = |(name, shape): (&str, _)| Case {
        name: name.to_owned(),
        op: Relu,
        inputs: vec![Input::normal(shape)],
    };
    [("stem", STEM), ("stage 1", STAGE_1), ("stage 4", STAGE_4)].map(case).into()
}
