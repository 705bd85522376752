//! Cases on which average pooling is checked.

use super::GlobalAvgPool;
use crate::ops::{Case, Fill, Input, Measured};
use crate::tensor::Shape;

pub(super) fn all() -> Vec<Case<GlobalAvgPool>> {
    let case = |name: &str, shape, fill| {
        let inputs = vec![Input::normal(Shape(shape)).fill(fill)];
        Case { name: name.into(), op: GlobalAvgPool, inputs }
    };
    vec![
        case("odd size", [3, 7, 5, 9], Fill::Normal),
        case("one position", [4, 1, 1, 6], Fill::Normal),
        case("one image, many channels", [1, 3, 3, 520], Fill::Normal),
        case("many positions", [5, 24, 20, 24], Fill::Normal),
        case("integers, a power of two", [3, 4, 8, 5], Fill::Integers { lo: -8, hi: 8 }),
    ]
}

impl Measured for GlobalAvgPool {}
