//! Cases on which RoIAlign is checked.

use super::RoiAlign;
use crate::ops::{Case, Fill, Input, Measured};
use crate::tensor::{Meta, Shape};

/// Levels of `sides` (rows, columns) with strides 4, 8, …, of which the first `used` have RoIs.
struct Sizes<'a> {
    images: usize,
    sides: &'a [[usize; 2]],
    channels: usize,
    used: usize,
    rois: usize,
    size: usize,
}

fn case(name: &str, s: &Sizes) -> Case<RoiAlign> {
    let map = |[h, w]: &[usize; 2]| Input::normal(Shape::nhwc(s.images, *h, *w, s.channels));
    let [h, w] = s.sides[0];
    let fill = Fill::Rois { images: s.images, levels: s.used, side: 4 * h.max(w) };
    let rois = Input::accumulation(Shape::matrix(s.rois, super::axis::ROI)).fill(fill).constant();
    let scales = (0..s.sides.len()).map(|l| 0.25 / (1 << l) as f64).collect();
    Case {
        name: name.into(),
        op: RoiAlign { size: s.size, scales },
        inputs: s.sides.iter().map(map).chain([rois]).collect(),
    }
}

pub(super) fn all() -> Vec<Case<RoiAlign>> {
    let one: &[[usize; 2]] = &[[9, 7]];
    let three: &[[usize; 2]] = &[[17, 13], [9, 7], [5, 4]];
    let base = Sizes { images: 2, sides: one, channels: 5, used: 1, rois: 9, size: 3 };
    vec![
        case("one level, odd size", &base),
        case(
            "three levels, vectors",
            &Sizes { sides: three, channels: 16, used: 3, rois: 40, size: 7, ..base },
        ),
        case("a level without RoIs", &Sizes { sides: three, channels: 8, used: 2, ..base }),
        case(
            "one position, one image",
            &Sizes { images: 1, sides: &[[1, 1]], channels: 3, ..base },
        ),
        case("a RoI without size", &Sizes { images: 1, rois: 1, size: 2, ..base }),
        case(
            "large maps, many channels",
            &Sizes {
                sides: &[[33, 40], [17, 20]],
                channels: 72,
                used: 2,
                rois: 30,
                size: 14,
                ..base
            },
        ),
    ]
}

impl Measured for RoiAlign {
    /// Two levels of an FPN, with few RoIs.
    fn benches() -> Vec<Case<Self>> {
        let sides: &[[usize; 2]] = &[[48, 64], [24, 32]];
        let sizes = Sizes { images: 1, sides, channels: 64, used: 2, rois: 32, size: 7 };
        vec![case("two levels", &sizes)]
    }

    /// `7x7 of 300, 8x50x84x256 8x25x42x256`.
    fn label(&self, inputs: &[Meta]) -> String {
        let (maps, rois) = inputs.split_at(self.scales.len());
        let maps: Vec<String> = maps.iter().map(|m| m.shape.to_string()).collect();
        format!("{0}x{0} of {1}, {2}", self.size, rois[0].shape.n(), maps.join(" "))
    }
}
