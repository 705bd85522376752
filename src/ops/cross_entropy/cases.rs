//! Cases on which cross-entropy is checked and timed.

use super::CrossEntropy;
use crate::ops::{Case, Input, Measured};
use crate::tensor::Shape;

fn case(name: &str, weight: f64, rows: usize, classes: usize) -> Case<CrossEntropy> {
    let inputs = vec![
        Input::normal(Shape::matrix(rows, classes)),
        Input::index(Shape::matrix(rows, 1), classes),
    ];
    Case { name: name.into(), op: CrossEntropy { weight }, inputs }
}

pub(super) fn all() -> Vec<Case<CrossEntropy>> {
    vec![
        case("ten classes", 1.0, 13, 10),
        case("a thousand classes", 1.0, 40, 1000),
        case("one row, a share", 0.375, 1, 3),
    ]
}

impl Measured for CrossEntropy {
    /// The linear probe's loss on ImageNet's classes.
    fn benches() -> Vec<Case<Self>> {
        vec![case("a thousand classes", 1.0, 256, 1000)]
    }
}
