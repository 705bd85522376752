//! Cases on which upsampling with addition is checked.

use super::{UpsampleAdd, halved};
use crate::ops::{Case, Fill, Input, Measured};
use crate::tensor::Shape;

fn case(name: &str, a: [usize; 4], fill: Fill) -> Case<UpsampleAdd> {
    let inputs = [Shape(a), halved(Shape(a))].map(|s| Input::normal(s).fill(fill)).to_vec();
    Case { name: name.into(), op: UpsampleAdd, inputs }
}

pub(super) fn all() -> Vec<Case<UpsampleAdd>> {
    let integers = Fill::Integers { lo: -9, hi: 9 };
    let mut one = case("gradient of b alone", [2, 3, 4, 5], Fill::Normal);
    one.inputs[0].grad = false;
    let mut other = case("gradient of a alone", [2, 3, 4, 5], Fill::Normal);
    other.inputs[1].grad = false;
    vec![
        case("even size", [2, 6, 4, 5], integers),
        case("odd size, vectors", [2, 7, 5, 16], Fill::Normal),
        case("one position", [3, 1, 1, 4], integers),
        case("large, odd height", [2, 41, 34, 24], Fill::Normal),
        one,
        other,
    ]
}

impl Measured for UpsampleAdd {
    /// The finest level of an FPN, with fewer channels.
    fn benches() -> Vec<Case<Self>> {
        vec![case("finest level", [2, 48, 64, 64], Fill::Normal)]
    }
}
