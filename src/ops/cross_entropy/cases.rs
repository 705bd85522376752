//! Situations in which cross-entropy is checked and timed.

use super::CrossEntropy;
use crate::ops::{Case, Fill, Input};
use crate::tensor::Shape;

pub(super) fn all() -> Vec<Case<CrossEntropy>> {
    let case = |name: &str, rows, classes: usize| {
        let labels = Fill::Integers { lo: 0, hi: classes as i32 - 1 };
        let logits = Shape::matrix(rows, classes);
        let inputs = vec![
            Input::normal(logits),
            Input::wide(Shape::matrix(rows, 1)).fill(labels).constant(),
        ];
        Case { name: name.into(), op: CrossEntropy, inputs }
    };
    vec![case("ten classes", 13, 10), case("a thousand classes", 40, 1000), case("one row", 1, 3)]
}
