//! Situations in which cross-entropy is checked and timed.

use super::CrossEntropy;
use crate::ops::{Case, Fill, Input};
use crate::tensor::Shape;

fn case(name: &str, rows: usize, classes: usize) -> Case<CrossEntropy> {
    let labels = Fill::Integers { lo: 0, hi: classes as i32 - 1 };
    let inputs = vec![
        Input::normal(Shape::matrix(rows, classes)),
        Input::wide(Shape::matrix(rows, 1)).fill(labels).constant(),
    ];
    Case { name: name.into(), op: CrossEntropy, inputs }
}

pub(super) fn all() -> Vec<Case<CrossEntropy>> {
    vec![case("ten classes", 13, 10), case("a thousand classes", 40, 1000), case("one row", 1, 3)]
}

/// The linear probe's loss on ImageNet's classes.
pub(super) fn benches() -> Vec<Case<CrossEntropy>> {
    vec![case("a thousand classes", 256, 1000)]
}
