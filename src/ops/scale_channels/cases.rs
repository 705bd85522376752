//! Cases on which channels are scaled, and timed.

use super::ScaleChannels;
use crate::ops::{Case, Fill, Input, Measured};
use crate::tensor::Shape;

fn case(name: &str, shape: [usize; 4], [x, s]: [Fill; 2]) -> Case<ScaleChannels> {
    let factors = Input::accumulation(Shape::matrix(shape[0], shape[3]));
    let inputs = vec![Input::normal(Shape(shape)).fill(x), factors.fill(s).constant()];
    Case { name: name.into(), op: ScaleChannels, inputs }
}

pub(super) fn all() -> Vec<Case<ScaleChannels>> {
    let mask = [Fill::Integers { lo: -9, hi: 9 }, Fill::Integers { lo: 0, hi: 2 }];
    vec![
        case("odd shape", [3, 5, 7, 9], [Fill::Normal; 2]),
        case("mask, odd shape", [3, 5, 7, 9], mask),
        case("mask, whole vectors", [4, 3, 2, 16], mask),
        case("mask, one channel", [2, 1, 3, 1], mask),
        case("several chunks", [3, 20, 21, 24], [Fill::Normal; 2]),
    ]
}

impl Measured for ScaleChannels {
    /// Features before the classifier of a segmentation head.
    fn benches() -> Vec<Case<Self>> {
        vec![case("head", [2, 16, 16, 256], [Fill::Normal; 2])]
    }
}
