//! Cases on which InfoNCE is checked and timed.

use super::InfoNCE;
use crate::ops::{Case, Fill, Input, Measured};
use crate::tensor::{Meta, Shape};

pub(super) fn all() -> Vec<Case<InfoNCE>> {
    let case = |name: &str, n, d, k, tau, weight| {
        let q = Input::normal(Shape::matrix(n, d)).fill(Fill::UnitRows);
        let queue = Input { shape: Shape::matrix(k, d), ..q };
        let inputs = vec![q, q.constant(), queue.constant()];
        Case { name: name.into(), op: InfoNCE { tau, weight }, inputs }
    };
    vec![
        case("short queue", 5, 16, 33, 0.2, 1.0),
        case("one negative, one image", 1, 7, 1, 0.2, 1.0),
        case("several tiles, weight 0.5", 9, 12, 300, 0.2, 0.5),
        case("several strips and blocks", 131, 8, 4500, 0.07, 1.0),
        case("sharp", 6, 32, 70, 0.01, 1.0),
    ]
}

impl Measured for InfoNCE {
    fn fills(&self, inputs: &[Meta]) -> Vec<Fill> {
        vec![Fill::UnitRows; inputs.len()]
    }

    fn label(&self, inputs: &[Meta]) -> String {
        let (q, queue) = (inputs[0].shape, inputs[2].shape);
        format!("{}x{} against {}", q.n(), q.c(), queue.n())
    }

    /// Logits, and the direction of the gradient, which is a second product.
    fn flops(&self, inputs: &[Meta]) -> u64 {
        4 * inputs[0].shape.elems() as u64 * (inputs[2].shape.n() + 1) as u64
    }
}
