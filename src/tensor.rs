//! Contiguous tensors of four dimensions, N×H×W×C, channels innermost. Matrices are N×1×1×C,
//! vectors 1×1×1×C; convolution weights are O×kh×kw×I.

use std::fmt;
use std::sync::Arc;

use bytemuck::Pod;
use num_traits::{Float, NumAssign};

use crate::device::{Buffer, DevicePtr, split_bytes};

/// Type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit float: what nets are trained in on the CPU.
    F32,
    /// 64-bit float: what gradients are checked in, on the CPU alone.
    F64,
    /// bfloat16: what activations are kept in on devices. Statistics, sums and parameters of
    /// batch norms stay f32.
    BF16,
    /// 32-bit integer: labels and indices. Nothing is computed in it, and it has no gradient.
    I32,
}

impl DType {
    /// Bytes of one element.
    pub fn size_bytes(self) -> usize {
        match self {
            DType::F32 | DType::I32 => 4,
            DType::F64 => 8,
            DType::BF16 => 2,
        }
    }
    /// The type of statistics, and of parameters of batch norms, beside values of this type.
    pub fn accumulation(self) -> Self {
        match self {
            DType::BF16 => DType::F32,
            other => other,
        }
    }
}

/// Types of the elements of tensors in host memory.
pub trait Element: Pod + Send + Sync + Default + fmt::Debug + 'static {
    /// The matching [`DType`].
    const DTYPE: DType;
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;
}

impl Element for f64 {
    const DTYPE: DType = DType::F64;
}

impl Element for i32 {
    const DTYPE: DType = DType::I32;
}

/// Element types that the CPU implementation of every op is generic over.
pub trait Real: Element + Float + NumAssign + std::iter::Sum {
    /// Nearest value to `x`.
    fn of(x: f64) -> Self;
    /// As f64, exactly.
    fn f64(self) -> f64;
}

impl Real for f32 {
    fn of(x: f64) -> Self {
        x as f32
    }
    fn f64(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    fn of(x: f64) -> Self {
        x
    }
    fn f64(self) -> f64 {
        self
    }
}

/// Runs an expression with `$t` bound to the Rust type of a [`DType`] that the CPU computes
/// in. Panics on bf16, of which `Cx::alloc` makes no tensors in host memory, and on integers,
/// which ops refuse in `infer`.
#[macro_export]
macro_rules! dispatch {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::tensor::DType::F32 => {
                type $t = f32;
                $body
            }
            $crate::tensor::DType::F64 => {
                type $t = f64;
                $body
            }
            $crate::tensor::DType::BF16 => unreachable!("there is no native code for bf16"),
            $crate::tensor::DType::I32 => unreachable!("nothing is computed in integers"),
        }
    };
}

/// As [`dispatch!`], for what moves elements and computes nothing: it takes integers too.
#[macro_export]
macro_rules! dispatch_element {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::tensor::DType::I32 => {
                type $t = i32;
                $body
            }
            dtype => $crate::dispatch!(dtype, $t => $body),
        }
    };
}

/// The name of a kernel for tensors of `dtype`: `kernel!("relu_forward", dtype)` is
/// `relu_forward_f32` or `relu_forward_bf16`. There are none for f64. With the number of
/// elements that a thread has at once, `kernel!("max_pool_forward", dtype, lanes)` is the
/// variant `max_pool_forward_scalar_…` where that is one.
#[macro_export]
macro_rules! kernel {
    ($name:literal, $dtype:expr) => {
        match $dtype {
            $crate::tensor::DType::BF16 => concat!($name, "_bf16"),
            _ => concat!($name, "_f32"),
        }
    };
    ($name:literal, $dtype:expr, $width:expr) => {
        match ($dtype, $width) {
            ($crate::tensor::DType::BF16, 1) => concat!($name, "_scalar_bf16"),
            (_, 1) => concat!($name, "_scalar_f32"),
            (dtype, _) => $crate::kernel!($name, dtype),
        }
    };
}

/// N×H×W×C.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape(pub [usize; 4]);

impl Shape {
    /// Images or feature maps.
    pub fn nhwc(n: usize, h: usize, w: usize, c: usize) -> Self {
        Self([n, h, w, c])
    }
    /// A matrix: rows × columns, as N×1×1×C.
    pub fn matrix(rows: usize, cols: usize) -> Self {
        Self([rows, 1, 1, cols])
    }
    /// A vector, as 1×1×1×C.
    pub fn vector(len: usize) -> Self {
        Self([1, 1, 1, len])
    }
    /// Batch size (or output channels of a weight).
    pub fn n(&self) -> usize {
        self.0[0]
    }
    /// Height.
    pub fn h(&self) -> usize {
        self.0[1]
    }
    /// Width.
    pub fn w(&self) -> usize {
        self.0[2]
    }
    /// Channels (or input channels of a weight).
    pub fn c(&self) -> usize {
        self.0[3]
    }
    /// N·H·W: rows of the matrix whose columns are the channels.
    pub fn rows(&self) -> usize {
        self.0[0] * self.0[1] * self.0[2]
    }
    /// H·W: positions of one image.
    pub fn positions(&self) -> usize {
        self.0[1] * self.0[2]
    }
    /// Number of elements.
    pub fn elems(&self) -> usize {
        self.0.iter().product()
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [n, h, w, c] = self.0;
        write!(f, "{n}x{h}x{w}x{c}")
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What a tensor is without its values: what shape inference works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Dimensions.
    pub shape: Shape,
    /// Element type.
    pub dtype: DType,
}

impl Meta {
    /// Shape and type together.
    pub fn new(shape: Shape, dtype: DType) -> Self {
        Self { shape, dtype }
    }
    /// Bytes of the values.
    pub fn size_bytes(&self) -> usize {
        self.shape.elems() * self.dtype.size_bytes()
    }
}

/// A tensor: a shape over a buffer that clones share. Its buffer goes back to the pool when
/// the last clone is dropped. Only an unshared tensor can be written.
#[derive(Clone)]
pub struct Tensor {
    buffer: Arc<Buffer>,
    meta: Meta,
}

impl Tensor {
    /// A tensor over a buffer of at least `meta.size_bytes()`.
    pub(crate) fn from_buffer(buffer: Buffer, meta: Meta) -> Self {
        debug_assert!(buffer.capacity_bytes() >= meta.size_bytes());
        Self { buffer: Arc::new(buffer), meta }
    }
    /// Cuts a tensor that has no clones into tensors of these shapes, one behind the other in
    /// memory, each beginning at a multiple of [`PART_ALIGN`](crate::device::PART_ALIGN) bytes. Its
    /// own shape is given up; [`Tensor::split_elems`] says how large it must be. Panics where it is
    /// smaller or shared: mistakes of the caller.
    pub fn split(self, shapes: &[Shape]) -> Vec<Self> {
        let dtype = self.meta.dtype;
        let metas: Vec<Meta> = shapes.iter().map(|shape| Meta::new(*shape, dtype)).collect();
        let sizes: Vec<usize> = metas.iter().map(Meta::size_bytes).collect();
        let buffer = Arc::into_inner(self.buffer).expect("tensors that are split are not shared");
        let parts = buffer.split(&sizes).into_iter().zip(metas);
        parts.map(|(buffer, meta)| Self::from_buffer(buffer, meta)).collect()
    }
    /// The same values in another shape, without a copy. Panics where it has more elements or fewer,
    /// a mistake of the caller.
    pub fn reshape(self, shape: Shape) -> Self {
        assert_eq!(shape.elems(), self.meta.shape.elems(), "{} as {shape}", self.meta.shape);
        Self { meta: Meta::new(shape, self.meta.dtype), ..self }
    }
    /// The first bytes as a tensor of another type and shape, without a copy. Panics where it is
    /// larger, a mistake of the caller.
    pub(crate) fn first_bytes(self, meta: Meta) -> Self {
        assert!(meta.size_bytes() <= self.meta.size_bytes(), "{meta:?} of {:?}", self.meta);
        Self { meta, ..self }
    }
    /// Elements of a tensor that is to be [split](Tensor::split) into these shapes.
    pub fn split_elems(shapes: &[Shape], dtype: DType) -> usize {
        let sizes: Vec<usize> =
            shapes.iter().map(|shape| Meta::new(*shape, dtype).size_bytes()).collect();
        split_bytes(&sizes) / dtype.size_bytes()
    }
    /// Shape and type.
    pub fn meta(&self) -> Meta {
        self.meta
    }
    /// Dimensions.
    pub fn shape(&self) -> Shape {
        self.meta.shape
    }
    /// Element type.
    pub fn dtype(&self) -> DType {
        self.meta.dtype
    }
    /// The values. Panics where `T` is not the tensor's type or the values are not in host
    /// memory: both are mistakes of the caller, not of the input.
    pub fn host<T: Element>(&self) -> &[T] {
        assert_eq!(T::DTYPE, self.meta.dtype);
        &bytemuck::cast_slice(self.buffer.bytes())[..self.meta.shape.elems()]
    }
    /// The values, to write. Panics as [`Tensor::host`] does, and where a clone exists.
    pub fn host_mut<T: Element>(&mut self) -> &mut [T] {
        assert_eq!(T::DTYPE, self.meta.dtype);
        let elems = self.meta.shape.elems();
        let buffer = Arc::get_mut(&mut self.buffer).expect("written tensors are not shared");
        &mut bytemuck::cast_slice_mut(buffer.bytes_mut())[..elems]
    }
    /// Where the values lie on the device. Panics where they are not on one.
    pub fn device(&self) -> DevicePtr {
        self.buffer.device()
    }
    /// Where the values lie on the device, to write. Panics as [`Tensor::device`] does, and
    /// where a clone exists.
    pub fn device_mut(&mut self) -> DevicePtr {
        Arc::get_mut(&mut self.buffer).expect("written tensors are not shared").device()
    }
    /// Whether two tensors are clones, which share their values.
    pub fn shares_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.buffer, &other.buffer)
    }
    /// Whether no clone shares the values, so that they can be written in place.
    pub fn is_unique(&mut self) -> bool {
        Arc::get_mut(&mut self.buffer).is_some()
    }
    /// The values as f64, for tests and reports.
    pub fn to_f64(&self) -> Vec<f64> {
        match self.dtype() {
            DType::I32 => self.host::<i32>().iter().copied().map(f64::from).collect(),
            dtype => dispatch!(dtype, T => self.host::<T>().iter().map(|x| x.f64()).collect()),
        }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({}, {:?})", self.shape(), self.dtype())
    }
}

/// Values N×HW×C reordered to N×C×HW.
pub fn to_nchw(values: &[f32], positions: usize, channels: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for image in values.chunks_exact(positions * channels) {
        for c in 0..channels {
            out.extend(image[c..].iter().step_by(channels));
        }
    }
    out
}
