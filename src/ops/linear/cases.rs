//! Cases on which the linear layer is checked.

use super::Linear;
use crate::ops::{Case, Fill, Input, Measured, Passes};
use crate::tensor::{Meta, Shape};

fn case(n: usize, cin: usize, out: usize, [omax, imax]: [usize; 2], fill: Fill) -> Case<Linear> {
    let (x, w) = (Shape::matrix(n, cin), Shape::matrix(omax, imax));
    Case {
        name: format!("input {x}, weight {w}, {out} out, {fill:?}"),
        op: Linear::new(out),
        inputs: [Input::normal(x), Input::weight(w), Input::accumulation(Shape::vector(omax))]
            .map(|input| input.fill(fill))
            .to_vec(),
    }
}

/// The same with an output of f32 beside narrow inputs.
fn wide(case: Case<Linear>) -> Case<Linear> {
    Case { name: format!("{}, wide", case.name), op: Linear { wide: true, ..case.op }, ..case }
}

/// The same without a bias.
fn without_bias(mut case: Case<Linear>) -> Case<Linear> {
    case.inputs.truncate(2);
    Case { name: format!("{}, no bias", case.name), ..case }
}

pub(super) fn all() -> Vec<Case<Linear>> {
    let integers = Fill::Integers { lo: -3, hi: 3 };
    // bf16 holds them, but not their sums.
    let large = Fill::Integers { lo: -30, hi: 30 };
    vec![
        case(1, 1, 1, [1, 1], integers),
        case(7, 13, 5, [9, 20], integers),
        case(12, 32, 16, [16, 32], integers),
        case(3, 40, 37, [48, 40], integers),
        case(4, 6, 3, [5, 8], Fill::Normal),
        case(140, 40, 72, [80, 48], Fill::Normal),
        without_bias(case(7, 13, 5, [9, 20], integers)),
        without_bias(case(140, 40, 72, [80, 48], Fill::Normal)),
        wide(case(12, 32, 16, [16, 32], large)),
        wide(case(9, 72, 21, [21, 72], large)),
        wide(case(140, 40, 72, [80, 48], Fill::Normal)),
    ]
}

impl Measured for Linear {
    const PASSES: Passes = Passes {
        forward: "fprop",
        gradients: &[("dgrad", Some(1)), ("wgrad", Some(0)), ("bias", None)],
    };

    fn label(&self, inputs: &[Meta]) -> String {
        let (x, w) = (inputs[0].shape, inputs[1].shape);
        let bias = if inputs.len() > 2 { "" } else { ", no bias" };
        let wide = if self.wide { ", wide" } else { "" };
        format!("{}x{} to {} of {}x{}{bias}{wide}", x.n(), x.c(), self.out, w.n(), w.c())
    }

    fn used(&self, inputs: &[Meta]) -> Vec<usize> {
        let x = inputs[0].shape;
        let all = [x.elems(), self.out * x.c(), self.out];
        all[..inputs.len()].to_vec()
    }

    fn flops(&self, inputs: &[Meta]) -> u64 {
        2 * (inputs[0].shape.n() * inputs[0].shape.c() * self.out) as u64
    }
}
