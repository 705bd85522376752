//! Feature maps as rows: what a linear layer then computes is a 1×1 convolution.

mod cases;

use super::{Case, Grad, Op, Saved, expect_inputs, remember_size, remembered_size};
use crate::cx::Cx;
use crate::error::Result;
use crate::tensor::{Meta, Shape, Tensor};

/// The op. Input: x `[N,H,W,C]`. Output: `[N·H·W,1,1,C]`, which shares x's values; its gradient is
/// passed on as it is. Saves height and width.
#[derive(Clone, Copy, Debug)]
pub struct Rows;

impl Op for Rows {
    const NAME: &'static str = "rows";

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
        expect_inputs(inputs, &["x"])?;
        let Meta { shape, dtype } = inputs[0];
        Ok(Meta::new(Shape::matrix(shape.rows(), shape.c()), dtype))
    }

    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)> {
        let x = inputs[0];
        let rows = Shape::matrix(x.shape().rows(), x.shape().c());
        Ok((x.clone().reshape(rows), vec![remember_size(cx, x)?]))
    }

    fn backward(&self, cx: &Cx, saved: Saved, gy: Tensor, grads: &mut [Grad]) -> Result<()> {
        let (h, w) = remembered_size(&saved[0]);
        let Shape([rows, _, _, c]) = gy.shape();
        grads[0].put(cx, gy.reshape(Shape::nhwc(rows / (h * w), h, w, c)))
    }

    fn cases() -> Vec<Case<Self>> {
        cases::all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Fill;
    use crate::ops::check::values;
    use crate::ops::conv2d::Conv2d;
    use crate::ops::linear::Linear;
    use crate::tensor::DType;

    #[test]
    fn a_linear_layer_of_rows_is_a_convolution() {
        let cx = Cx::for_tests();
        let whole = |shape: Shape, seed| {
            let values = values(shape, Fill::Integers { lo: -4, hi: 4 }, seed);
            cx.upload(shape, DType::F32, &values).unwrap()
        };
        let (x, w) = (whole(Shape::nhwc(2, 3, 4, 5), 1), whole(Shape::matrix(7, 6), 2));
        let (rows, _) = Rows.forward(&cx, &[&x]).unwrap();
        let (linear, _) = Linear::new(7).forward(&cx, &[&rows, &w]).unwrap();
        let (convolution, _) = Conv2d::new(7, 1, 1).forward(&cx, &[&x, &w]).unwrap();
        assert_eq!(linear.host::<f32>(), convolution.host::<f32>());
    }

    #[test]
    fn values_are_shared_both_ways() {
        let cx = Cx::for_tests();
        let x = cx.zeros(Shape::nhwc(2, 3, 4, 5), DType::F32).unwrap();
        let (y, saved) = Rows.forward(&cx, &[&x]).unwrap();
        assert!(y.shares_with(&x));
        assert_eq!(y.shape(), Shape::matrix(24, 5));
        let gy = cx.zeros(y.shape(), DType::F32).unwrap();
        let mut grads = [Grad::wanted(None)];
        Rows.backward(&cx, saved, gy.clone(), &mut grads).unwrap();
        let [grad] = grads;
        let grad = grad.into_value().unwrap();
        assert!(grad.shares_with(&gy));
        assert_eq!(grad.shape(), x.shape());
    }
}
