//! Cases on which the loss of boxes is checked.

use super::BoxLoss;
use crate::ops::{Case, Fill, Input, Measured};
use crate::tensor::{Meta, Shape};

fn case(name: &str, op: BoxLoss, rows: usize, boxes: usize, fill: Fill) -> Case<BoxLoss> {
    let select = Fill::Integers { lo: -1, hi: boxes as i32 - 1 };
    let inputs = vec![
        Input::normal(Shape::matrix(rows, 4 * boxes)).fill(fill),
        Input::accumulation(Shape::matrix(rows, 4)).fill(fill).constant(),
        Input::index(Shape::matrix(rows, 1), boxes).fill(select),
    ];
    Case { name: name.into(), op, inputs }
}

pub(super) fn all() -> Vec<Case<BoxLoss>> {
    let (l1, smooth) = (BoxLoss { beta: 0.0, weight: 1.0 }, BoxLoss { beta: 1.0, weight: 0.25 });
    let mut none = case("no box counts", l1, 3, 2, Fill::Normal);
    none.inputs[2].fill = Fill::Integers { lo: -1, hi: -1 };
    vec![
        case("L1 of four classes", l1, 37, 4, Fill::Normal),
        case("smooth, of no class", smooth, 600, 1, Fill::Normal),
        case("smooth, of three classes", BoxLoss { beta: 0.5, ..smooth }, 13, 3, Fill::Normal),
        case("whole numbers, many of them equal", l1, 300, 2, Fill::Integers { lo: -2, hi: 2 }),
        case("one row", smooth, 1, 1, Fill::Normal),
        none,
    ]
}

impl Measured for BoxLoss {
    /// The boxes of a head for Pascal VOC's classes.
    fn benches() -> Vec<Case<Self>> {
        vec![case("twenty classes", BoxLoss { beta: 0.0, weight: 1.0 }, 512, 20, Fill::Normal)]
    }

    /// One box of each row.
    fn used(&self, inputs: &[Meta]) -> Vec<usize> {
        let targets = inputs[1].shape;
        vec![targets.elems(), targets.elems(), targets.n()]
    }

    fn label(&self, inputs: &[Meta]) -> String {
        format!("{} beta {}", inputs[0].shape, self.beta)
    }
}
