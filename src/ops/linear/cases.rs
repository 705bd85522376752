//! Cases on which the linear layer is checked.

use super::Linear;
use crate::ops::{Case, Fill, Input};
use crate::tensor::Shape;

fn case(n: usize, cin: usize, out: usize, [omax, imax]: [usize; 2], fill: Fill) -> Case<Linear> {
    let (x, w) = (Shape::matrix(n, cin), Shape::matrix(omax, imax));
    Case {
        name: format!("input {x}, weight {w}, {out} out, {fill:?}"),
        op: Linear { out },
        inputs: [Input::normal(x), Input::weight(w), Input::accumulation(Shape::vector(omax))]
            .map(|input| input.fill(fill))
            .to_vec(),
    }
}

/// The same without a bias.
fn without_bias(mut case: Case<Linear>) -> Case<Linear> {
    case.inputs.truncate(2);
    Case { name: format!("{}, no bias", case.name), ..case }
}

pub(super) fn all() -> Vec<Case<Linear>> {
    let integers = Fill::Integers { lo: -3, hi: 3 };
    vec![
        case(1, 1, 1, [1, 1], integers),
        case(7, 13, 5, [9, 20], integers),
        case(12, 32, 16, [16, 32], integers),
        case(3, 40, 37, [48, 40], integers),
        case(4, 6, 3, [5, 8], Fill::Normal),
        case(140, 40, 72, [80, 48], Fill::Normal),
        without_bias(case(7, 13, 5, [9, 20], integers)),
        without_bias(case(140, 40, 72, [80, 48], Fill::Normal)),
    ]
}
