//! Feature maps as one row an image: what a linear layer reads of a region.

mod cases;

use super::{Case, Grad, Op, Saved, expect_inputs, remember_size, remembered_size};
use crate::cx::Cx;
use crate::error::Result;
use crate::tensor::{Meta, Shape, Tensor};

/// The op. Input: x `[N,H,W,C]`. Output: `[N,1,1,H·W·C]`, which shares x's values; its gradient is
/// passed on as it is. Saves height and width.
#[derive(Clone, Copy, Debug)]
pub struct Flatten;

impl Op for Flatten {
    const NAME: &'static str = "flatten";

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
        expect_inputs(inputs, &["x"])?;
        let Meta { shape, dtype } = inputs[0];
        Ok(Meta::new(Shape::matrix(shape.n(), shape.elems() / shape.n()), dtype))
    }

    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)> {
        let x = inputs[0];
        let flat = Shape::matrix(x.shape().n(), x.shape().elems() / x.shape().n());
        Ok((x.clone().reshape(flat), vec![remember_size(cx, x)?]))
    }

    fn backward(&self, cx: &Cx, saved: Saved, gy: Tensor, grads: &mut [Grad]) -> Result<()> {
        let (h, w) = remembered_size(&saved[0]);
        let Shape([n, _, _, all]) = gy.shape();
        grads[0].put(cx, gy.reshape(Shape::nhwc(n, h, w, all / (h * w))))
    }

    fn cases() -> Vec<Case<Self>> {
        cases::all()
    }
}
