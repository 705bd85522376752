//! Cases on which convolution is checked.

use super::Conv2d;
use crate::ops::{Case, Fill, Input, Measured, Passes};
use crate::tensor::{DType, Meta, Shape};

const INTEGERS: Fill = Fill::Integers { lo: -3, hi: 3 };

/// One case: input, active and stored output channels, stored input channels.
struct Sizes {
    x: [usize; 4],
    cout: usize,
    stored: [usize; 2],
}

fn case(kernel: usize, stride: usize, s: &Sizes, fill: Fill) -> Case<Conv2d> {
    of_op(Conv2d::new(s.cout, kernel, stride), s.x, s.stored, fill)
}

fn of_op(op: Conv2d, x: [usize; 4], [omax, imax]: [usize; 2], fill: Fill) -> Case<Conv2d> {
    let (x, w) = (Shape(x), Shape([omax, op.kernel, op.kernel, imax]));
    let label = op.label(&[x, w].map(|s| Meta::new(s, DType::F32)));
    let inputs = vec![Input::normal(x).fill(fill), Input::weight(w).fill(fill)];
    Case { name: format!("{label}, {fill:?}"), op, inputs }
}

/// The same with a bias, which is longer than the output's channels.
fn with_bias(mut case: Case<Conv2d>) -> Case<Conv2d> {
    let b = Shape::vector(case.inputs[1].shape.n());
    case.inputs.push(Input::accumulation(b).fill(case.inputs[0].fill));
    Case { name: format!("{}, bias", case.name), ..case }
}

pub(super) fn all() -> Vec<Case<Conv2d>> {
    let sizes = [
        // One pixel; odd sizes, partial tiles and active < stored; even sizes, whole vectors.
        Sizes { x: [1, 1, 1, 1], cout: 1, stored: [1, 1] },
        Sizes { x: [1, 5, 7, 3], cout: 5, stored: [9, 4] },
        Sizes { x: [2, 5, 3, 9], cout: 17, stored: [20, 12] },
        Sizes { x: [2, 4, 6, 8], cout: 16, stored: [24, 16] },
    ];
    let mut cases = Vec::new();
    for (kernel, stride) in [(1, 1), (1, 2), (3, 1), (3, 2), (7, 1), (7, 2), (5, 3)] {
        for s in &sizes {
            cases.push(case(kernel, stride, s, INTEGERS));
        }
        cases.push(case(kernel, stride, &sizes[1], Fill::Normal));
    }
    cases.extend(tiles());
    cases.extend(windows());
    cases.extend(biases());
    cases.extend(wide());
    cases
}

/// Channels that take each of the tiles that kernels have, and enough pixels for several.
fn tiles() -> Vec<Case<Conv2d>> {
    let sizes = [
        (1, 1, Sizes { x: [1, 3, 5, 48], cout: 96, stored: [96, 56] }),
        (3, 2, Sizes { x: [2, 5, 6, 32], cout: 128, stored: [136, 32] }),
        (3, 1, Sizes { x: [1, 4, 3, 96], cout: 64, stored: [64, 96] }),
        (1, 1, Sizes { x: [1, 3, 3, 128], cout: 48, stored: [48, 128] }),
        (1, 1, Sizes { x: [1, 3, 3, 160], cout: 80, stored: [80, 160] }),
        (1, 1, Sizes { x: [1, 2, 3, 64], cout: 136, stored: [136, 64] }),
        (3, 1, Sizes { x: [3, 14, 13, 8], cout: 16, stored: [16, 8] }),
        // Stored channels that are no whole vectors, of f32 neither.
        (3, 1, Sizes { x: [1, 4, 5, 8], cout: 16, stored: [16, 12] }),
        (1, 1, Sizes { x: [2, 3, 5, 8], cout: 8, stored: [9, 10] }),
        // Pixels for 19 splits of wgrad.
        (1, 1, Sizes { x: [1, 68, 69, 8], cout: 8, stored: [8, 8] }),
    ];
    let fill = |i| if i % 2 == 0 { Fill::Normal } else { INTEGERS };
    sizes.iter().enumerate().map(|(i, (k, stride, s))| case(*k, *stride, s, fill(i))).collect()
}

/// Paddings, dilations and even kernels.
fn windows() -> Vec<Case<Conv2d>> {
    // Kernel, stride, padding, dilation.
    let windows = [
        // No padding, more than half of the kernel, more than all of it.
        ([3, 1, 0, 1], [2, 5, 6, 8]),
        ([3, 1, 2, 1], [1, 4, 3, 9]),
        ([1, 1, 2, 1], [1, 3, 4, 8]),
        ([3, 2, 4, 1], [1, 5, 4, 3]),
        // Dilations, and an input that is smaller than the window.
        ([3, 1, 2, 2], [2, 6, 5, 8]),
        ([3, 1, 3, 3], [1, 2, 3, 9]),
        ([5, 1, 0, 2], [1, 9, 10, 3]),
        // With strides: of one divisor with the dilation, and of none.
        ([3, 2, 2, 2], [1, 7, 6, 8]),
        ([3, 2, 3, 3], [1, 8, 7, 3]),
        ([4, 4, 1, 6], [1, 21, 19, 8]),
        // Even kernels; a deconvolution's, whose last row and column nothing reads.
        ([2, 2, 0, 1], [2, 7, 6, 8]),
        ([2, 1, 1, 1], [1, 4, 3, 9]),
        ([4, 2, 1, 1], [1, 6, 8, 8]),
        ([2, 3, 0, 2], [1, 8, 9, 3]),
    ];
    let mut cases = Vec::new();
    for ([kernel, stride, pad, dilation], x) in windows {
        let op = Conv2d { pad, dilation, ..Conv2d::new(16, kernel, stride) };
        cases.push(of_op(op, x, [17, x[3].next_multiple_of(8)], INTEGERS));
    }
    let op = Conv2d { pad: 2, dilation: 2, ..Conv2d::new(5, 3, 1) };
    cases.push(of_op(op, [2, 5, 6, 3], [9, 4], Fill::Normal));
    cases.push(of_op(Conv2d { stride: 2, ..op }, [2, 5, 6, 3], [9, 4], Fill::Normal));
    let op = Conv2d { pad: 0, ..Conv2d::new(24, 2, 2) };
    cases.push(of_op(op, [1, 6, 7, 16], [24, 16], Fill::Normal));
    // Pixels that fill a tile, and one more; the same of a split.
    cases.push(of_op(op, [2, 16, 16, 8], [24, 8], INTEGERS));
    let op = Conv2d { pad: 2, dilation: 2, ..Conv2d::new(16, 3, 1) };
    cases.push(of_op(op, [1, 43, 3, 8], [16, 8], INTEGERS));
    cases.push(of_op(op, [1, 257, 1, 8], [16, 8], INTEGERS));
    cases
}

/// Biases of which a part is used; enough pixels for several parts of the gradient's sum.
fn biases() -> Vec<Case<Conv2d>> {
    let sizes = [
        (3, 1, Sizes { x: [2, 5, 3, 9], cout: 17, stored: [20, 12] }),
        (1, 1, Sizes { x: [2, 4, 6, 8], cout: 16, stored: [24, 16] }),
        (1, 1, Sizes { x: [1, 49, 43, 8], cout: 8, stored: [16, 8] }),
        (3, 2, Sizes { x: [1, 91, 93, 3], cout: 9, stored: [9, 3] }),
    ];
    let mut cases: Vec<_> =
        sizes.iter().map(|(k, s, sizes)| case(*k, *s, sizes, INTEGERS)).collect();
    let op = Conv2d { pad: 0, ..Conv2d::new(5, 2, 2) };
    cases.push(of_op(op, [2, 6, 7, 3], [9, 4], Fill::Normal));
    cases.into_iter().map(with_bias).collect()
}

/// Outputs of f32 beside narrow inputs: whole vectors of them, and none. bf16 holds the whole numbers,
/// but not their sums.
fn wide() -> Vec<Case<Conv2d>> {
    let sizes = [
        (1, 1, Sizes { x: [1, 7, 9, 64], cout: 3, stored: [3, 64] }),
        (1, 1, Sizes { x: [2, 9, 8, 64], cout: 24, stored: [24, 72] }),
        (3, 2, Sizes { x: [2, 5, 3, 9], cout: 17, stored: [20, 12] }),
    ];
    let fills = [Fill::Integers { lo: -30, hi: 30 }, Fill::Normal];
    let all = sizes.iter().flat_map(|(k, s, sizes)| fills.map(|f| case(*k, *s, sizes, f)));
    let wide = |case: Case<Conv2d>| Case {
        name: format!("{}, wide", case.name),
        op: Conv2d { wide: true, ..case.op },
        ..case
    };
    all.map(with_bias).map(wide).collect()
}

impl Measured for Conv2d {
    const PASSES: Passes = Passes {
        forward: "fprop",
        gradients: &[("dgrad", Some(1)), ("wgrad", Some(0)), ("bias", None)],
    };

    /// `3x3 stride 2, 8x56x56x48 to 64 of 80x80`: the weight is stored for 80 output and 80 input
    /// channels. What is not as [`Conv2d::new`] has it is named too, such as a wide output.
    fn label(&self, inputs: &[Meta]) -> String {
        let (x, w) = (inputs[0].shape, inputs[1].shape);
        let Self { cout, kernel: k, stride, pad, dilation, wide } = *self;
        let mut label = format!("{k}x{k} stride {stride}");
        if pad != k / 2 {
            label += &format!(" pad {pad}");
        }
        if dilation != 1 {
            label += &format!(" dilation {dilation}");
        }
        label += &format!(", {x} to {cout} of {}x{}", w.n(), w.c());
        if inputs.len() > 2 {
            label += ", bias";
        }
        if wide { label + ", wide" } else { label }
    }

    fn used(&self, inputs: &[Meta]) -> Vec<usize> {
        let g = self.geometry(inputs[0].shape, inputs[1].shape);
        // Rows or columns that some tap of some output reads.
        let read = |size: usize, outputs: usize| {
            let mut is_read = vec![false; size];
            for (p, r) in (0..outputs).flat_map(|p| (0..g.kernel).map(move |r| (p, r))) {
                let at = (p * g.stride + g.dilation * r).checked_sub(g.pad);
                if let Some(is_read) = at.and_then(|at| is_read.get_mut(at)) {
                    *is_read = true;
                }
            }
            is_read.into_iter().filter(|r| *r).count()
        };
        let pixels = g.n * read(g.h, g.p) * read(g.w, g.q);
        let all = [pixels * g.cin, g.cout * g.kernel * g.kernel * g.cin, g.cout];
        all[..inputs.len()].to_vec()
    }

    fn flops(&self, inputs: &[Meta]) -> u64 {
        let g = self.geometry(inputs[0].shape, inputs[1].shape);
        2 * (g.n * g.p * g.q * g.cout) as u64 * (g.kernel * g.kernel * g.cin) as u64
    }
}
