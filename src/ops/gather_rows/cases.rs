//! Cases on which rows are gathered from maps.

use super::{GatherRows, starts};
use crate::ops::{Case, Fill, Input, Measured};
use crate::tensor::{Meta, Shape};

fn case(
    name: &str,
    width: usize,
    maps: &[[usize; 4]],
    taken: usize,
    fill: Fill,
) -> Case<GatherRows> {
    let rows = starts(maps.iter().map(|m| Shape(*m)), width)[maps.len()];
    let map = |m: &[usize; 4]| Input::normal(Shape(*m)).fill(fill);
    let index = Input::permutation(taken, rows);
    let inputs = maps.iter().map(map).chain([index]).collect();
    Case { name: name.into(), op: GatherRows { width }, inputs }
}

pub(super) fn all() -> Vec<Case<GatherRows>> {
    let integers = Fill::Integers { lo: -99, hi: 99 };
    let levels = [[2, 9, 7, 12], [2, 5, 4, 12], [2, 1, 1, 12]];
    vec![
        case("one map, one value", 1, &[[2, 3, 5, 3]], 20, integers),
        case("all rows of one map", 5, &[[1, 2, 3, 10]], 12, integers),
        case("three maps", 4, &levels, 100, Fill::Normal),
        case("three maps, rows of all channels", 12, &levels, 7, integers),
        case(
            "more rows than a block has threads",
            1,
            &[[2, 16, 20, 3], [2, 8, 10, 3]],
            700,
            integers,
        ),
    ]
}

impl Measured for GatherRows {
    /// The deltas of sampled anchors.
    fn benches() -> Vec<Case<Self>> {
        let levels = [[2, 24, 32, 12], [2, 12, 16, 12]];
        vec![case("two levels", 4, &levels, 512, Fill::Normal)]
    }

    /// `256 rows of 4, 2x50x84x12 2x25x42x12`.
    fn label(&self, inputs: &[Meta]) -> String {
        let shapes: Vec<String> = inputs.iter().map(|m| m.shape.to_string()).collect();
        let (taken, maps) = (inputs[inputs.len() - 1].shape.n(), &shapes[..inputs.len() - 1]);
        format!("{taken} rows of {}, {}", self.width, maps.join(" "))
    }

    /// Of the maps no more is read than is taken: counted for the first.
    fn used(&self, inputs: &[Meta]) -> Vec<usize> {
        let taken = inputs[inputs.len() - 1].shape.n();
        let mut used = vec![0; inputs.len()];
        used[0] = taken * self.width;
        used[inputs.len() - 1] = taken;
        used
    }
}
