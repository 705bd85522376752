//! The ops. Each is a folder: `mod.rs` with parameters, shapes, forward and backward;
//! `cpu.rs` with the native implementation, generic over f32 and f64, which is also the
//! reference; `cases.rs` with the shapes on which all checks and benchmarks of the op run.
//! A kernel for devices is `kernels/<op>.cu`. [`registry`] lists them, and nothing else does.

pub mod add;
mod any;
pub mod avg_pool;
pub mod batch_norm;
mod bias;
pub mod check;
pub mod conv2d;
pub mod cross_entropy;
pub mod divide;
pub mod gather;
pub mod gemm;
pub mod info_nce;
pub mod l2_normalise;
pub mod lanes;
pub mod linear;
pub mod max_pool;
pub(crate) mod mean;
pub mod norm;
pub mod passes;
pub(crate) mod products;
pub mod queue_push;
pub mod relation;
pub mod relu;
pub mod spans;
pub mod work;

use std::fmt;

pub use any::{AnyOp, Passes};

use crate::device::Cx;
use crate::error::{Error, Result};
use crate::tape::Grad;
use crate::tensor::{DType, Meta, Real, Shape, Tensor};

/// What an op keeps from its forward pass for its backward pass.
pub type Saved = Vec<Tensor>;

/// A differentiable operation with one output.
pub trait Op: fmt::Debug + Send + Sync + 'static {
    /// Name for messages and profiles: the field's term.
    const NAME: &'static str;
    /// What its passes are called.
    const PASSES: Passes = Passes { forward: "forward", gradients: &[] };
    /// Shape and type of the output, or an error that names what does not fit.
    fn infer(&self, inputs: &[Meta]) -> Result<Meta>;
    /// The output, and what [`Op::backward`] will need.
    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)>;
    /// From `gy`, the gradient of the output, puts or adds the gradient of input i into
    /// `grads[i]` where it is wanted. `gy` is not shared: it may be overwritten and moved on.
    fn backward(&self, cx: &Cx, saved: Saved, gy: Tensor, grads: &mut [Grad]) -> Result<()>;
    /// The situations in which the op is checked.
    fn cases() -> Vec<Case<Self>>
    where
        Self: Sized;
    /// Those in which it is timed, or its work counted, beside all that training the presets'
    /// nets brings: for an op that they do not need.
    fn benches() -> Vec<Case<Self>>
    where
        Self: Sized,
    {
        Vec::new()
    }
    /// Values that its inputs may have, where passes of the nets are timed.
    fn fills(&self, inputs: &[Meta]) -> Vec<Fill> {
        vec![Fill::Normal; inputs.len()]
    }
    /// Its parameters and its inputs' dimensions in a few words, by which the situations of a
    /// training step are told apart.
    fn label(&self, inputs: &[Meta]) -> String {
        inputs[0].shape.to_string()
    }
    /// Elements of each input that are used: fewer than there are of a parameter that is stored
    /// for more channels than are active.
    fn used(&self, inputs: &[Meta]) -> Vec<usize> {
        inputs.iter().map(|m| m.shape.elems()).collect()
    }
    /// Floating-point operations of a forward pass; the gradient of an input that takes a pass
    /// of its own over another input has as many. Counted for ops that are more than a pass over
    /// memory.
    fn flops(&self, _inputs: &[Meta]) -> u64 {
        0
    }
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
    /// Whether its gradient has that type: that of a weight, which sums over much.
    pub wide_grad: bool,
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
}

impl Input {
    /// Standard normal values, gradient checked.
    pub fn normal(shape: Shape) -> Self {
        let fill = Fill::Normal;
        Self { shape, fill, grad: true, wide: false, wide_grad: false, index: false }
    }
    /// Standard normal values of a weight, whose gradient is never narrow.
    pub fn weight(shape: Shape) -> Self {
        Self { wide_grad: true, ..Self::normal(shape) }
    }
    /// Standard normal values of a batch norm's parameter, which is never narrow.
    pub fn wide(shape: Shape) -> Self {
        Self { wide: true, ..Self::normal(shape) }
    }
    /// Integers from 0 to below `end`, which have no gradient.
    pub fn index(shape: Shape, end: usize) -> Self {
        let fill = Fill::Integers { lo: 0, hi: end as i32 - 1 };
        Self { index: true, ..Self::normal(shape) }.fill(fill).constant()
    }
    /// Its type where values are kept in `dtype`.
    pub fn dtype(&self, dtype: DType) -> DType {
        match self {
            Self { index: true, .. } => DType::I32,
            Self { wide: true, .. } => dtype.wide(),
            _ => dtype,
        }
    }
    /// The type of its gradient where values are kept in `dtype`.
    pub fn grad_dtype(&self, dtype: DType) -> DType {
        if self.wide_grad { dtype.wide() } else { self.dtype(dtype) }
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

/// Something that is done for every op.
trait Visitor {
    fn visit<O: Op>(&mut self) -> Result<()>;
}

/// All ops.
fn each(visitor: &mut impl Visitor) -> Result<()> {
    visitor.visit::<add::Add>()?;
    visitor.visit::<avg_pool::GlobalAvgPool>()?;
    visitor.visit::<batch_norm::BatchNorm>()?;
    visitor.visit::<conv2d::Conv2d>()?;
    visitor.visit::<cross_entropy::CrossEntropy>()?;
    visitor.visit::<info_nce::InfoNCE>()?;
    visitor.visit::<l2_normalise::L2Normalise>()?;
    visitor.visit::<linear::Linear>()?;
    visitor.visit::<max_pool::MaxPool>()?;
    visitor.visit::<relu::Relu>()
}

/// All checks of all ops, as (name, check).
pub fn registry() -> Vec<(String, Check)> {
    struct Checks(Vec<(String, Check)>);
    impl Visitor for Checks {
        fn visit<O: Op>(&mut self) -> Result<()> {
            check::add_cases::<O>(&mut self.0);
            Ok(())
        }
    }
    let mut checks = Checks(Vec::new());
    each(&mut checks).expect("listing checks does not fail");
    checks.0
}

/// The passes of all ops on their [`Op::benches`], with values kept in `dtype`.
pub fn other_work(dtype: DType) -> Result<Vec<work::BenchCase>> {
    struct All(DType, Vec<work::BenchCase>);
    impl Visitor for All {
        fn visit<O: Op>(&mut self) -> Result<()> {
            self.1.extend(O::benches().into_iter().flat_map(|c| work::of_case(c, self.0)));
            Ok(())
        }
    }
    let mut all = All(dtype, Vec::new());
    each(&mut all)?;
    Ok(all.1)
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
        expect_float(name, meta)?;
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

/// Fails on an input that does not hold floats, such as labels.
pub fn expect_float(name: &str, meta: &Meta) -> Result<()> {
    if meta.dtype != DType::I32 {
        return Ok(());
    }
    let (shape, dtype) = (meta.shape, meta.dtype);
    Err(Error::usage(format!("expected floats for {name}; found {shape} in {dtype:?}")))
}

/// Fails unless an input holds integers, such as labels, of the expected shape.
pub fn expect_index(name: &str, meta: &Meta, shape: Shape) -> Result<()> {
    if meta.dtype == DType::I32 {
        return expect_shape(name, meta.shape, shape);
    }
    let (found, dtype) = (meta.shape, meta.dtype);
    Err(Error::usage(format!("expected I32 for {name}; found {found} in {dtype:?}")))
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

/// Adds `sums` to the first elements of a parameter's gradient of type and shape `meta`, in
/// native code: kernels leave no sums in host memory.
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

/// Elements that a thread takes at a time in elementwise passes (64 KiB of f32): the split
/// does not depend on the number of threads.
pub const CHUNK: usize = 16 * 1024;
