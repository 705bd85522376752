//! Cases on which feature maps are taken for rows.

use super::Flatten;
use crate::ops::{Case, Fill, Input, Measured};
use crate::tensor::{Meta, Shape};

pub(super) fn all() -> Vec<Case<Flatten>> {
    let case = |name: &str, shape, fill| {
        let inputs = vec![Input::normal(Shape(shape)).fill(fill)];
        Case { name: name.into(), op: Flatten, inputs }
    };
    vec![
        case("odd shape", [3, 5, 7, 9], Fill::Integers { lo: -9, hi: 9 }),
        case("one position", [4, 1, 1, 8], Fill::Normal),
    ]
}

impl Measured for Flatten {
    /// It reads nothing.
    fn used(&self, inputs: &[Meta]) -> Vec<usize> {
        vec![0; inputs.len()]
    }
}
