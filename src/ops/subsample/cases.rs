//! Cases on which subsampling is checked.

use super::Subsample;
use crate::ops::{Case, Fill, Input, Measured};
use crate::tensor::{Meta, Shape};

fn case(name: &str, shape: [usize; 4]) -> Case<Subsample> {
    let inputs = vec![Input::normal(Shape(shape)).fill(Fill::Integers { lo: -99, hi: 99 })];
    Case { name: name.into(), op: Subsample, inputs }
}

pub(super) fn all() -> Vec<Case<Subsample>> {
    vec![
        case("even size", [2, 6, 4, 5]),
        case("odd size, vectors", [2, 7, 5, 16]),
        case("one position", [3, 1, 1, 4]),
        case("one row", [1, 1, 6, 3]),
        case("large", [2, 41, 34, 24]),
    ]
}

impl Measured for Subsample {
    /// The coarsest level of an FPN.
    fn benches() -> Vec<Case<Self>> {
        vec![case("coarsest level", [8, 24, 32, 64])]
    }

    /// What is kept.
    fn used(&self, inputs: &[Meta]) -> Vec<usize> {
        vec![super::halved(inputs[0].shape).elems()]
    }
}
