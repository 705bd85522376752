//! Cases on which the distance of rows is checked and timed.

use super::Cosine;
use crate::ops::{Case, Fill, Input, Measured};
use crate::tensor::{Meta, Shape};

fn case(name: &str, [n, d]: [usize; 2], weight: f64, fill: Fill) -> Case<Cosine> {
    let p = Input::normal(Shape::matrix(n, d)).fill(fill);
    Case { name: name.into(), op: Cosine { weight }, inputs: vec![p, p.constant()] }
}

pub(super) fn all() -> Vec<Case<Cosine>> {
    vec![
        case("unit rows", [7, 128], 1.0, Fill::UnitRows),
        case("odd length, weight 0.5", [5, 37], 0.5, Fill::UnitRows),
        case("one row, one element", [1, 1], 1.0, Fill::Normal),
        // A power of two rows, so that the mean is exact.
        case("integers", [16, 24], 1.0, Fill::Integers { lo: -3, hi: 3 }),
        case("more rows than threads", [300, 8], 1.0, Fill::UnitRows),
        case("several chunks", [140, 264], 2.0, Fill::UnitRows),
    ]
}

impl Measured for Cosine {
    /// BYOL's loss.
    fn benches() -> Vec<Case<Self>> {
        vec![case("embeddings", [256, 256], 1.0, Fill::UnitRows)]
    }

    fn fills(&self, inputs: &[Meta]) -> Vec<Fill> {
        vec![Fill::UnitRows; inputs.len()]
    }
}
