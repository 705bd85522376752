//! Cases on which InfoNCE is checked and timed.

use super::InfoNCE;
use crate::ops::{Case, Fill, Input, Measured};
use crate::tensor::{Meta, Shape};

fn case(name: &str, [n, d, k]: [usize; 3], op: InfoNCE) -> Case<InfoNCE> {
    let q = Input::normal(Shape::matrix(n, d)).fill(Fill::UnitRows);
    let queue = Input { shape: Shape::matrix(k, d), ..q };
    let second = Input { accumulation: !op.own, ..q };
    Case { name: name.into(), op, inputs: vec![q, second.constant(), queue.constant()] }
}

pub(super) fn all() -> Vec<Case<InfoNCE>> {
    let own = |name, sizes, tau, weight| case(name, sizes, InfoNCE { tau, weight, own: true });
    let target = |name, sizes, tau, weight| case(name, sizes, InfoNCE { tau, weight, own: false });
    vec![
        own("short queue", [5, 16, 33], 0.2, 1.0),
        own("one negative, one image", [1, 7, 1], 0.2, 1.0),
        own("several tiles, weight 0.5", [9, 12, 300], 0.2, 0.5),
        own("several strips and blocks", [131, 8, 4500], 0.07, 1.0),
        own("sharp", [6, 32, 70], 0.01, 1.0),
        target("a target", [5, 16, 33], 0.2, 1.0),
        target("a target, one negative, one image", [1, 7, 1], 0.2, 1.0),
        target("a target, several tiles, weight 0.5", [9, 12, 300], 0.1, 0.5),
        target("a target, several strips and blocks", [131, 8, 4500], 0.1, 1.0),
        target("a target, sharp", [6, 32, 70], 0.01, 1.0),
    ]
}

impl Measured for InfoNCE {
    /// ReSSL's loss.
    fn benches() -> Vec<Case<Self>> {
        vec![case("a target", [8, 128, 1024], InfoNCE { tau: 0.1, weight: 1.0, own: false })]
    }

    fn fills(&self, inputs: &[Meta]) -> Vec<Fill> {
        vec![Fill::UnitRows; inputs.len()]
    }

    fn label(&self, inputs: &[Meta]) -> String {
        let (q, queue) = (inputs[0].shape, inputs[2].shape);
        let target = if self.own { "" } else { ", a target" };
        format!("{}x{} against {}{target}", q.n(), q.c(), queue.n())
    }

    /// Logits, and the direction of the gradient, which is a second product.
    fn flops(&self, inputs: &[Meta]) -> u64 {
        let logits = inputs[2].shape.n() + usize::from(self.own);
        4 * (inputs[0].shape.elems() * logits) as u64
    }
}
