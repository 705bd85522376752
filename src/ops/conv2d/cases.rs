//! Situations in which convolution is checked.

use super::Conv2d;
use crate::ops::{Case, Fill, Input};
use crate::tensor::Shape;

/// One case: input, active and stored output channels, stored input channels.
struct Sizes {
    x: [usize; 4],
    cout: usize,
    stored: [usize; 2],
}

fn case(kernel: usize, stride: usize, s: &Sizes, fill: Fill) -> Case<Conv2d> {
    let (x, [omax, imax]) = (Shape(s.x), s.stored);
    let w = Shape([omax, kernel, kernel, imax]);
    Case {
        name: format!(
            "{kernel}x{kernel} stride {stride}, input {x}, weight {w}, {} out, {fill:?}",
            s.cout
        ),
        op: Conv2d { cout: s.cout, kernel, stride },
        inputs: vec![Input::normal(x).fill(fill), Input::weight(w).fill(fill)],
    }
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
            cases.push(case(kernel, stride, s, Fill::Integers { lo: -3, hi: 3 }));
        }
        cases.push(case(kernel, stride, &sizes[1], Fill::Normal));
    }
    cases.extend(tiles());
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
    ];
    let fill = |i| if i % 2 == 0 { Fill::Normal } else { Fill::Integers { lo: -3, hi: 3 } };
    sizes.iter().enumerate().map(|(i, (k, stride, s))| case(*k, *stride, s, fill(i))).collect()
}
