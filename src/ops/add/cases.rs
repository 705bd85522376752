//! Cases on which addition is checked, and timed.

use super::Add;
use crate::ops::{Case, Fill, Input, Measured};
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
        case("a chunk and three elements", [1, 1, 1, 2051], Fill::Normal),
        case("several chunks", [7, 20, 20, 24], Fill::Normal),
        case("integers", [2, 3, 3, 5], Fill::Integers { lo: -4, hi: 4 }),
        one,
    ]
}

impl Measured for Add {
    /// Nets add their residuals in a batch norm; this is the first stage of ResNet-50 without.
    fn benches() -> Vec<Case<Self>> {
        let inputs = vec![Input::normal(Shape::nhwc(2, 56, 56, 256)); 2];
        vec![Case { name: "stage 1".into(), op: Add, inputs }]
    }
}
