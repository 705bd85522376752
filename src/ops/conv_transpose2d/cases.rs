//! Cases on which transposed convolution is checked.

use super::ConvTranspose2d;
use crate::ops::{Case, Fill, Input, Measured, Passes};
use crate::tensor::{DType, Meta, Shape};

/// `stored`: input and output channels of the weight; a bias is as long as the latter.
fn case(
    op: ConvTranspose2d,
    x: [usize; 4],
    [imax, omax]: [usize; 2],
    bias: bool,
    fill: Fill,
) -> Case<ConvTranspose2d> {
    let (x, w) = (Shape(x), Shape([imax, op.kernel, op.kernel, omax]));
    let bias = bias.then(|| Input::accumulation(Shape::vector(omax)));
    let inputs: Vec<Input> = [Input::normal(x), Input::weight(w)]
        .into_iter()
        .chain(bias)
        .map(|input| input.fill(fill))
        .collect();
    let metas: Vec<Meta> = inputs.iter().map(|i| Meta::new(i.shape, DType::F32)).collect();
    Case { name: format!("{}, {fill:?}", op.label(&metas)), op, inputs }
}

pub(super) fn all() -> Vec<Case<ConvTranspose2d>> {
    let integers = Fill::Integers { lo: -3, hi: 3 };
    let op = |cout, kernel, stride| ConvTranspose2d { cout, kernel, stride };
    vec![
        case(op(1, 2, 2), [1, 1, 1, 1], [1, 1], true, integers),
        case(op(5, 2, 2), [2, 3, 4, 7], [9, 6], true, integers),
        case(op(16, 2, 2), [2, 4, 3, 8], [8, 24], true, integers),
        case(op(5, 2, 2), [1, 3, 2, 3], [4, 5], true, Fill::Normal),
        case(op(24, 2, 2), [3, 7, 7, 16], [16, 24], false, Fill::Normal),
        case(op(64, 2, 2), [2, 14, 14, 32], [32, 64], true, Fill::Normal),
        // Windows that overlap, and pixels that none reaches.
        case(op(6, 3, 2), [1, 4, 3, 5], [5, 6], true, integers),
        case(op(8, 4, 2), [2, 3, 3, 8], [8, 8], false, integers),
        case(op(9, 2, 3), [1, 3, 4, 8], [8, 9], true, integers),
        case(op(7, 3, 1), [1, 4, 5, 3], [3, 8], true, Fill::Normal),
    ]
}

impl Measured for ConvTranspose2d {
    const PASSES: Passes = Passes {
        forward: "fprop",
        gradients: &[("dgrad", Some(1)), ("wgrad", Some(0)), ("bias", None)],
    };

    /// A mask head's, with fewer channels and RoIs.
    fn benches() -> Vec<Case<Self>> {
        let op = ConvTranspose2d { cout: 64, kernel: 2, stride: 2 };
        vec![case(op, [8, 14, 14, 64], [64, 64], true, Fill::Normal)]
    }

    /// `2x2 stride 2, 128x14x14x256 to 256 of 256x256, bias`.
    fn label(&self, inputs: &[Meta]) -> String {
        let (x, w) = (inputs[0].shape, inputs[1].shape);
        let Self { cout, kernel: k, stride } = *self;
        let label = format!("{k}x{k} stride {stride}, {x} to {cout} of {}x{}", w.n(), w.c());
        if inputs.len() > 2 { label + ", bias" } else { label }
    }

    fn used(&self, inputs: &[Meta]) -> Vec<usize> {
        let x = inputs[0].shape;
        let all = [x.elems(), x.c() * self.kernel * self.kernel * self.cout, self.cout];
        all[..inputs.len()].to_vec()
    }

    fn flops(&self, inputs: &[Meta]) -> u64 {
        2 * inputs[0].shape.elems() as u64 * (self.kernel * self.kernel * self.cout) as u64
    }
}
