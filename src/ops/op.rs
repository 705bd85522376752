//! What an op is, and the cases that it is checked in.

use std::fmt;

use super::{Grad, Measured};
use crate::cx::Cx;
use crate::error::Result;
use crate::tensor::{DType, Meta, Shape, Tensor};

/// What an op keeps from its forward pass for its backward pass.
pub type Saved = Vec<Tensor>;

/// A differentiable operation with one output.
pub trait Op: Measured + fmt::Debug + Send + Sync + 'static {
    /// Name for messages and profiles: the field's term.
    const NAME: &'static str;
    /// Shape and type of the output, or an error that names what does not fit.
    fn infer(&self, inputs: &[Meta]) -> Result<Meta>;
    /// The output, and what [`Op::backward`] will need.
    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)>;
    /// From `gy`, the gradient of the output, puts or adds the gradient of input i into
    /// `grads[i]` where it is wanted. `gy` is not shared: it may be overwritten and moved on.
    fn backward(&self, cx: &Cx, saved: Saved, gy: Tensor, grads: &mut [Grad]) -> Result<()>;
    /// The cases in which the op is checked.
    fn cases() -> Vec<Case<Self>>
    where
        Self: Sized;
}

/// One case of an op: from it come the gradient check in f64, the comparison of f32 and
/// of devices with the f64 reference, and benchmarks.
pub struct Case<O> {
    /// What is special about it: `3x3 stride 2, odd size, active < max`.
    pub name: String,
    /// The op with its parameters.
    pub op: O,
    /// Its inputs, in order.
    pub inputs: Vec<Input>,
}

/// One input of a [`Case`].
#[derive(Clone, Copy, Debug)]
pub struct Input {
    /// Dimensions.
    pub shape: Shape,
    /// Values.
    pub fill: Fill,
    /// Whether its gradient is checked.
    pub grad: bool,
    /// Whether it has the type [`DType::accumulation`](crate::tensor::DType::accumulation), beside values that
    /// are narrower.
    pub accumulation: bool,
    /// Whether its gradient has that type: that of a weight, which sums over much.
    pub accumulated_grad: bool,
    /// Whether it holds integers: labels or indices.
    pub index: bool,
}

/// Values of an input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill {
    /// Standard normal.
    Normal,
    /// Uniform.
    Uniform {
        /// Least value.
        lo: f64,
        /// Greatest value.
        hi: f64,
    },
    /// Uniform integers: sums of their products are exact in f32, so outputs and gradients
    /// must be bit-exact.
    Integers {
        /// Least value.
        lo: i32,
        /// Greatest value.
        hi: i32,
    },
    /// Different values, none near another or near 0: safe for max and ReLU, whose kinks
    /// finite differences must not cross.
    Distinct,
    /// Rows of unit length, as the queue of negatives.
    UnitRows,
    /// Different integers from 0 to below `end`; where there are not enough, again from the first.
    Permutation {
        /// Above the greatest value.
        end: usize,
    },
    /// Rows (image, level, x1, y1, x2, y2) as `RoiAlign` takes them: sorted, the first of no size,
    /// some of them over the border.
    Rois {
        /// Images to choose from.
        images: usize,
        /// Levels to choose from.
        levels: usize,
        /// Height and width of the images in pixels.
        side: usize,
    },
}

impl Input {
    /// Standard normal values, gradient checked.
    pub fn normal(shape: Shape) -> Self {
        let fill = Fill::Normal;
        Self { shape, fill, grad: true, accumulation: false, accumulated_grad: false, index: false }
    }
    /// Standard normal values of a weight, whose gradient is never narrow.
    pub fn weight(shape: Shape) -> Self {
        Self { accumulated_grad: true, ..Self::normal(shape) }
    }
    /// Standard normal values of a batch norm's parameter, which is never narrow.
    pub fn accumulation(shape: Shape) -> Self {
        Self { accumulation: true, ..Self::normal(shape) }
    }
    /// Integers from 0 to below `end`, which have no gradient.
    pub fn index(shape: Shape, end: usize) -> Self {
        let fill = Fill::Integers { lo: 0, hi: end as i32 - 1 };
        Self { index: true, ..Self::normal(shape) }.fill(fill).constant()
    }
    /// Different integers from 0 to below `end`, which have no gradient.
    pub fn permutation(len: usize, end: usize) -> Self {
        Self::index(Shape::matrix(len, 1), end).fill(Fill::Permutation { end })
    }
    /// Its type where values are kept in `dtype`.
    pub fn dtype(&self, dtype: DType) -> DType {
        match self {
            Self { index: true, .. } => DType::I32,
            Self { accumulation: true, .. } => dtype.accumulation(),
            _ => dtype,
        }
    }
    /// The type of its gradient where values are kept in `dtype`.
    pub fn grad_dtype(&self, dtype: DType) -> DType {
        if self.accumulated_grad { dtype.accumulation() } else { self.dtype(dtype) }
    }
    /// Other values.
    pub fn fill(mut self, fill: Fill) -> Self {
        self.fill = fill;
        self
    }
    /// No gradient.
    pub fn constant(mut self) -> Self {
        self.grad = false;
        self
    }
}

/// A tensor that may be written in place: `t` itself, or a copy where it is shared.
pub fn unshared(cx: &Cx, mut t: Tensor) -> Result<Tensor> {
    if t.is_unique() { Ok(t) } else { cx.copy(&t) }
}

/// An empty tensor that stands for the height and width of `x`, for an op that needs them in
/// its backward pass but not the values.
pub(super) fn remember_size(cx: &Cx, x: &Tensor) -> Result<Tensor> {
    cx.alloc(Meta::new(Shape([x.shape().h(), x.shape().w(), 0, 0]), x.dtype()))
}

/// Height and width that [`remember_size`] noted.
pub(super) fn remembered_size(t: &Tensor) -> (usize, usize) {
    (t.shape().0[0], t.shape().0[1])
}

/// Two empty tensors that stand for all dimensions and the type of `x`.
pub(super) fn remember_meta(cx: &Cx, x: &Tensor) -> Result<[Tensor; 2]> {
    let [n, _, _, c] = x.shape().0;
    Ok([remember_size(cx, x)?, cx.alloc(Meta::new(Shape([n, c, 0, 0]), x.dtype()))?])
}

/// What [`remember_meta`] noted.
pub(super) fn remembered_meta(t: &[Tensor]) -> Meta {
    let [[h, w, ..], [n, c, ..]] = [t[0].shape().0, t[1].shape().0];
    Meta::new(Shape::nhwc(n, h, w, c), t[0].dtype())
}
