//! Cases on which the normalisation of rows is checked.

use super::L2Normalise;
use crate::ops::{Case, Input, Measured};
use crate::tensor::Shape;

pub(super) fn all() -> Vec<Case<L2Normalise>> {
    let case = |name: &str, shape| {
        let inputs = vec![Input::normal(Shape(shape))];
        Case { name: name.into(), op: L2Normalise, inputs }
    };
    vec![
        case("embeddings", [7, 1, 1, 128]),
        case("odd length", [5, 1, 1, 37]),
        case("feature map", [2, 3, 5, 20]),
        case("one row", [1, 1, 1, 8]),
        case("long rows", [3, 1, 1, 520]),
        case("many rows", [4, 20, 20, 24]),
    ]
}

impl Measured for L2Normalise {}
