//! The ops. Each is a folder: `mod.rs` with parameters, shapes, forward and backward;
//! `cpu.rs` with the native implementation, generic over f32 and f64, which is also the
//! reference; `cases.rs` with the shapes on which all checks and benchmarks of the op run.
//! A kernel for devices is `kernels/<op>.cu`. [`registry`] lists them, and nothing else does.

pub mod add;
pub mod avg_pool;
pub mod batch_norm;
pub mod check;
pub mod conv2d;
pub mod cross_entropy;
pub mod gather;
pub mod gemm;
pub mod info_nce;
pub mod l2_normalise;
pub mod linear;
pub mod max_pool;
pub mod passes;
pub mod relation;
pub mod relu;

use crate::device::Cx;
use crate::error::{Error, Result};
use crate::tape::Grad;
use crate::tensor::{DType, Meta, Real, Shape, Tensor};

/// What an op keeps from its forward pass for its backward pass.
pub type Saved = Vec<Tensor>;

/// A differentiable operation with one output.
pub trait Op: Send + Sync + 'static {
    /// Name for messages and profiles: the field's term.
    const NAME: &'static str;
    /// Shape and type of the output, or an error that names what does not fit.
    fn infer(&self, inputs: &[Meta]) -> Result<Meta>;
    /// The output, and what [`Op::backward`] will need.
    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)>;
    /// From `gy`, the gradient of the output, puts or adds the gradient of input i into
    /// `grads[i]` where it is wanted. `gy` is not shared: it may be overwritten and moved on.
    fn backward(&self, cx: &Cx, saved: Saved, gy: Tensor, grads: &mut [Grad]) -> Result<()>;
    /// The situations in which the op is checked and timed.
    fn cases() -> Vec<Case<Self>>
    where
        Self: Sized;
}

/// One situation of an op: from it come the gradient check in f64, the comparison of f32 and
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
    /// Whether it has the type [`DType::wide`](crate::tensor::DType::wide), beside values that
    /// are narrower.
    pub wide: bool,
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
}

impl Input {
    /// Standard normal values, gradient checked.
    pub fn normal(shape: Shape) -> Self {
        Self { shape, fill: Fill::Normal, grad: true, wide: false }
    }
    /// Standard normal values of a batch norm's parameter, which is never narrow.
    pub fn wide(shape: Shape) -> Self {
        Self { wide: true, ..Self::normal(shape) }
    }
    /// Its type where values are kept in `dtype`.
    pub fn dtype(&self, dtype: DType) -> DType {
        if self.wide { dtype.wide() } else { dtype }
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

/// How a check ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Passed,
    /// The check does not apply to the context.
    Skipped,
}

/// A check of an op in one case: on a context, how it ended or why it failed.
pub type Check = Box<dyn Fn(&Cx) -> Result<Outcome, String> + Send + Sync>;

/// All checks of all ops, as (name, check).
pub fn registry() -> Vec<(String, Check)> {
    let mut all = Vec::new();
    macro_rules! register {
        ($($op:ty),* $(,)?) => {$(check::add_cases::<$op>(&mut all);)*};
    }
    register![
        add::Add,
        avg_pool::GlobalAvgPool,
        batch_norm::BatchNorm,
        conv2d::Conv2d,
        cross_entropy::CrossEntropy,
        info_nce::InfoNCE,
        l2_normalise::L2Normalise,
        linear::Linear,
        max_pool::MaxPool,
        relu::Relu,
    ];
    all
}

/// Fails unless there is one input for each of `names`, none empty and all of one type.
pub fn expect_inputs(inputs: &[Meta], names: &[&str]) -> Result<()> {
    expect_mixed(inputs, names, &[])
}

/// The same, but those of `names` that are in `wide` are of the first input's [`DType::wide`].
pub fn expect_mixed(inputs: &[Meta], names: &[&str], wide: &[&str]) -> Result<()> {
    if inputs.len() != names.len() {
        let (expected, found) = (names.join(", "), inputs.len());
        return Err(Error::usage(format!("expected the inputs {expected}; found {found} inputs")));
    }
    for (meta, name) in inputs.iter().zip(names) {
        if meta.shape.elems() == 0 {
            return Err(Error::usage(format!("{name} of shape {} is empty", meta.shape)));
        }
        let first = inputs[0].dtype;
        let expected = if wide.contains(name) { first.wide() } else { first };
        if meta.dtype != expected {
            return Err(Error::usage(format!(
                "expected {expected:?} for {name}, as {} is {first:?}; found {:?}",
                names[0], meta.dtype
            )));
        }
    }
    Ok(())
}

/// Fails unless an input has the expected shape.
pub fn expect_shape(name: &str, found: Shape, expected: Shape) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::usage(format!("expected {name} of shape {expected}; found {found}")))
}

/// A tensor that may be written in place: `t` itself, or a copy where it is shared.
pub fn unshared(cx: &Cx, mut t: Tensor) -> Result<Tensor> {
    if t.is_unique() { Ok(t) } else { cx.copy(&t) }
}

/// An empty tensor that stands for the height and width of `x`, for an op that needs them in
/// its backward pass but not the values.
fn remember_size(cx: &Cx, x: &Tensor) -> Result<Tensor> {
    cx.alloc(Meta::new(Shape([x.shape().h(), x.shape().w(), 0, 0]), x.dtype()))
}

/// Height and width that [`remember_size`] noted.
fn remembered_size(t: &Tensor) -> (usize, usize) {
    (t.shape().0[0], t.shape().0[1])
}

/// Adds `sums` to the first elements of a parameter's gradient of type and shape `meta`.
pub fn add_to_front(cx: &Cx, grad: &mut Grad, meta: Meta, sums: &[f64]) -> Result<()> {
    grad.write(cx, meta, |grad, accumulate| {
        cx.run_native("add", || {
            crate::dispatch!(meta.dtype, T => {
                let grad = grad.host_mut::<T>();
                if !accumulate {
                    grad.fill(T::of(0.0));
                }
                grad.iter_mut().zip(sums).for_each(|(g, s)| *g += T::of(*s));
            });
            Ok(())
        })
    })
}

/// `sum += x`, element by element.
pub fn add_in_place<T: Real>(sum: &mut [T], x: &[T]) {
    passes::chunks_mut(sum.len(), sum, CHUNK, |i, sum| {
        passes::vectorise(
            #[inline(always)]
            || {
                for (sum, x) in sum.iter_mut().zip(&x[i * CHUNK..]) {
                    *sum += *x;
                }
            },
        )
    });
}

/// What a thread of an elementwise kernel reads at once.
pub const VECTOR_BYTES: usize = 16;

/// Elements that a thread takes at a time in elementwise passes (64 KiB of f32): the split
/// does not depend on the number of threads.
pub const CHUNK: usize = 16 * 1024;
