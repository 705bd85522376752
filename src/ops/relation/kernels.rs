//! Launches of `kernels/relation.cu`.

use bytemuck::NoUninit;

use crate::device::{Cx, DevicePtr, Geometry, Queue, size};
use crate::error::Result;
use crate::ops::l2_normalise::EPS;
use crate::ops::lanes::{THREADS, of_row};
use crate::ops::{mean, products};
use crate::tensor::{DType, Meta, Shape, Tensor};

/// `RelationParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    positions: u32,
    teacher_channels: u32,
    student_channels: u32,
    tiles: u32,
    scale: f32,
}

/// `RelationLengthsParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct LengthsParams {
    rows: u32,
    channels: u32,
    eps: f32,
}

/// Positions of a block on tensor cores.
const GRAM_ROWS: u32 = 128;

impl Params {
    /// A block has `rows` positions of a picture.
    fn new(teacher: &Tensor, student: &Tensor, tau: f64, rows: u32) -> Result<Self> {
        let (teacher, student) = (teacher.shape(), student.shape());
        size(teacher.elems().max(student.elems()))?;
        let positions = teacher.positions() as u32;
        Ok(Self {
            positions,
            teacher_channels: teacher.c() as u32,
            student_channels: student.c() as u32,
            tiles: positions.div_ceil(rows),
            scale: tau.recip() as f32,
        })
    }
}

/// The score of each picture, of features with rows of unit length in f32.
pub(super) fn scores(
    cx: &Cx,
    queue: &Queue,
    teacher: &Tensor,
    student: &Tensor,
    tau: f64,
) -> Result<Vec<f64>> {
    let params = Params::new(teacher, student, tau, products::TILE)?;
    let whole = [teacher, student].iter().all(|t| of_row(t.shape().c(), DType::F32) > 1);
    let name = if whole { "relation_scores_f32" } else { "relation_scores_scalar_f32" };
    launch(cx, queue, name, teacher.shape(), &[teacher.device(), student.device()], &params)
}

/// Whether tensor cores can make the score: channels are multiples of 8.
pub(super) fn on_tensor_cores(teacher: &Tensor, student: &Tensor) -> bool {
    [teacher, student].iter().all(|t| of_row(t.shape().c(), DType::BF16) > 1)
}

/// The same on tensor cores, of features in bf16 of any length.
pub(super) fn scores_bf16(
    cx: &Cx,
    queue: &Queue,
    teacher: &Tensor,
    student: &Tensor,
    tau: f64,
) -> Result<Vec<f64>> {
    let params = Params::new(teacher, student, tau, GRAM_ROWS)?;
    let [of_teacher, of_student] =
        [inverse_lengths(cx, queue, teacher)?, inverse_lengths(cx, queue, student)?];
    let pointers = [teacher, student, &of_teacher, &of_student].map(Tensor::device);
    launch(cx, queue, "relation_scores_bf16", teacher.shape(), &pointers, &params)
}

/// 1 / length of each row.
fn inverse_lengths(cx: &Cx, queue: &Queue, x: &Tensor) -> Result<Tensor> {
    let (rows, channels) = (x.shape().rows() as u32, x.shape().c() as u32);
    let mut inverse = cx.scratch(Meta::new(Shape::vector(x.shape().rows()), DType::F32))?;
    let params = LengthsParams { rows, channels, eps: EPS as f32 };
    let geometry = Geometry::linear(rows.div_ceil(THREADS / 32), THREADS);
    queue.launch(
        "relation_lengths_bf16",
        geometry,
        &[x.device(), inverse.device_mut()],
        &params,
    )?;
    Ok(inverse)
}

/// Scores of positions by a kernel, then their means.
fn launch(
    cx: &Cx,
    queue: &Queue,
    name: &str,
    shape: Shape,
    inputs: &[DevicePtr],
    params: &Params,
) -> Result<Vec<f64>> {
    let n = shape.n();
    let mut rows = cx.scratch(Meta::new(Shape::matrix(n, shape.positions()), DType::F32))?;
    let pointers = [inputs, &[rows.device_mut()]].concat();
    queue.launch(name, Geometry::linear(n as u32 * params.tiles, THREADS), &pointers, params)?;
    let mut scores = cx.scratch(Meta::new(Shape::vector(n), DType::F32))?;
    mean::rows(queue, &rows, 1.0, &mut scores)?;
    Ok(cx.download(&scores)?.into_iter().map(f64::from).collect())
}
