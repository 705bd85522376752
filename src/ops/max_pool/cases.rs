//! Cases on which max-pooling is checked.

use super::MaxPool;
use crate::ops::{Case, Fill, Input, Measured};
use crate::tensor::Shape;

pub(super) fn all() -> Vec<Case<MaxPool>> {
    let case = |name: &str, shape, fill| {
        let inputs = vec![Input::normal(Shape(shape)).fill(fill)];
        Case { name: name.into(), op: MaxPool, inputs }
    };
    vec![
        case("even size", [2, 6, 8, 5], Fill::Distinct),
        case("odd size", [2, 7, 5, 3], Fill::Distinct),
        case("one pixel", [3, 1, 1, 4], Fill::Distinct),
        case("one row", [2, 1, 9, 4], Fill::Distinct),
        case("one image, odd size, vectors", [1, 5, 7, 16], Fill::Distinct),
        case("two by two", [2, 2, 2, 4], Fill::Distinct),
        case("large", [3, 33, 34, 24], Fill::Distinct),
    ]
}

impl Measured for MaxPool {}
