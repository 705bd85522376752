//! Cases on which batch normalisation is checked.

use super::{BatchNorm, POSITIVE, Stats};
use crate::ops::{Case, Fill, Input, Measured};
use crate::tensor::{Meta, Shape};

/// One case; parameters are stored for `max` channels.
fn case(name: &str, op: BatchNorm, x: [usize; 4], max: usize) -> Case<BatchNorm> {
    let (x, parameter) = (Shape(x), Shape::vector(max));
    let mut inputs = vec![
        Input::normal(x),
        Input::accumulation(parameter).fill(POSITIVE),
        Input::accumulation(parameter),
    ];
    if op.add {
        inputs.push(Input::normal(x));
    }
    if op.stats == Stats::Given {
        inputs.push(Input::accumulation(Shape::matrix(2, x.c())).fill(POSITIVE).constant());
    }
    let tail = if op.relu { ", relu" } else { "" };
    let name = format!("{name}{}{tail}", if op.add { ", add" } else { "" });
    Case { name, op, inputs }
}

pub(super) fn all() -> Vec<Case<BatchNorm>> {
    let mut cases = Vec::new();
    for (add, relu) in [(false, false), (false, true), (true, false), (true, true)] {
        let op = |stats| BatchNorm { stats, add, relu };
        let batch = |group| op(Stats::Batch { group });
        cases.extend([
            case("whole batch", batch(0), [4, 3, 3, 5], 5),
            case("groups of 2, a smaller one", batch(2), [5, 3, 2, 8], 8),
            case("active < max", batch(0), [3, 2, 4, 24], 40),
            case("one image a group", batch(1), [3, 5, 5, 3], 3),
            case("more channels than a wide row", batch(2), [4, 2, 3, 129], 130),
            case("several tiles, active < max", batch(2), [3, 2, 3, 264], 272),
            case("one image, active < max", batch(0), [1, 3, 7, 16], 24),
            case("several parts, a smaller group", batch(2), [5, 36, 32, 32], 32),
            case("given statistics", op(Stats::Given), [3, 3, 2, 12], 20),
        ]);
    }
    let mut far = case("mean far from 0", BatchNorm::batch(0), [4, 8, 8, 8], 8);
    far.inputs[0].fill = Fill::Uniform { lo: 99.0, hi: 101.0 };
    cases.push(far);
    // More than the 32 that a thread of the sums' sum takes one of.
    let whole = BatchNorm { stats: Stats::Batch { group: 0 }, add: true, relu: true };
    cases.push(case("many parts", whole, [1, 61, 67, 33], 33));
    cases
}

impl Measured for BatchNorm {
    /// γ and the variance are above 0.
    fn fills(&self, inputs: &[Meta]) -> Vec<Fill> {
        let mut fills = vec![Fill::Normal; inputs.len()];
        fills[1] = POSITIVE;
        if self.stats == Stats::Given {
            fills[inputs.len() - 1] = POSITIVE;
        }
        fills
    }

    /// `8x56x56x48 of 80, groups of 4, add, relu`: parameters are stored for 80 channels.
    fn label(&self, inputs: &[Meta]) -> String {
        let mut label = format!("{} of {}", inputs[0].shape, inputs[1].shape.c());
        match self.stats {
            Stats::Given => label += ", given statistics",
            Stats::Batch { .. } if self.group(inputs[0].shape.n()) == inputs[0].shape.n() => {}
            Stats::Batch { group } => label += &format!(", groups of {group}"),
        }
        label + if self.add { ", add" } else { "" } + if self.relu { ", relu" } else { "" }
    }

    fn used(&self, inputs: &[Meta]) -> Vec<usize> {
        let x = inputs[0].shape;
        inputs.iter().map(|m| m.shape.elems().min(m.shape.rows() * x.c())).collect()
    }
}
