//! Cases on which the ReLU is checked.

use super::Relu;
use crate::ops::{Case, Fill, Input, Measured};
use crate::tensor::Shape;

pub(super) fn all() -> Vec<Case<Relu>> {
    let case = |name: &str, shape, fill| {
        let inputs = vec![Input::normal(Shape(shape)).fill(fill)];
        Case { name: name.into(), op: Relu, inputs }
    };
    vec![
        case("odd shape", [3, 5, 7, 9], Fill::Distinct),
        case("three elements", [1, 1, 1, 3], Fill::Distinct),
        case("a chunk and three elements", [1, 1, 1, 2051], Fill::Distinct),
        case("several chunks", [7, 20, 20, 24], Fill::Distinct),
    ]
}

impl Measured for Relu {}
