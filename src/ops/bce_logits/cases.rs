//! Cases on which binary cross-entropy is checked.

use super::BceLogits;
use crate::ops::{Case, Fill, Input, Measured};
use crate::tensor::{Meta, Shape};

fn case(name: &str, weight: f64, x: [usize; 4], selects: bool) -> Case<BceLogits> {
    let [rows, h, w, channels] = x;
    let targets = Input::accumulation(Shape::nhwc(rows, h, w, 1));
    let targets = targets.fill(Fill::Uniform { lo: 0.0, hi: 1.0 }).constant();
    let select = selects.then(|| Input::index(Shape::matrix(rows, 1), channels));
    let inputs = [Input::normal(Shape(x)), targets].into_iter().chain(select).collect();
    Case { name: name.into(), op: BceLogits { weight }, inputs }
}

pub(super) fn all() -> Vec<Case<BceLogits>> {
    let mut large = case("logits of any size", 1.0, [9, 1, 1, 1], false);
    large.inputs[0].fill = Fill::Uniform { lo: -90.0, hi: 90.0 };
    vec![
        case("anchors", 0.125, [300, 1, 1, 1], false),
        case("masks, one channel of five", 1.0, [7, 5, 3, 5], true),
        case("masks, one channel of eight", 0.5, [3, 4, 4, 8], true),
        case("one channel, selected", 2.0, [2, 3, 3, 1], true),
        case("several chunks", 1e-4, [23, 28, 28, 3], true),
        large,
    ]
}

impl Measured for BceLogits {
    /// Masks of eight classes.
    fn benches() -> Vec<Case<Self>> {
        vec![case("masks", 1.0, [32, 28, 28, 8], true)]
    }

    /// One logit for each target.
    fn used(&self, inputs: &[Meta]) -> Vec<usize> {
        let targets = inputs[1].shape;
        let all = [targets.elems(), targets.elems(), targets.n()];
        all[..inputs.len()].to_vec()
    }
}
