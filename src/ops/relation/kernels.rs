//! Launches of `kernels/relation.cu`.

use std::f64::consts::{LN_2, LOG2_E};

use bytemuck::NoUninit;

use crate::cx::Cx;
use crate::device::{Geometry, Launcher, size};
use crate::error::Result;
use crate::kernel;
use crate::ops::l2_normalise::EPS;
use crate::ops::mean;
use crate::ops::vector::{THREADS, row_width};
use crate::tensor::{DType, Meta, Shape, Tensor};

/// `RelationParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    rows: u32,
    positions: u32,
    tiles: u32,
    teacher_channels: u32,
    student_channels: u32,
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

/// Numbers that are kept of a position of a teacher.
pub(super) const STATISTICS: usize = 3;

/// Rows and columns of a block's tile.
const ROWS: usize = 128;
const COLUMNS: usize = 64;

impl Params {
    fn new(teacher: Shape, student: Shape, tau: f64) -> Result<Self> {
        size(teacher.elems().max(student.elems()))?;
        let positions = teacher.positions();
        // On the diagonal and right of it; a row of tiles has two less than the one above.
        let (rows, columns) = (positions.div_ceil(ROWS), positions.div_ceil(COLUMNS));
        let tiles = rows * (columns + 1 - rows);
        size(teacher.n() * tiles)?;
        Ok(Self {
            rows: teacher.rows() as u32,
            positions: positions as u32,
            tiles: tiles as u32,
            teacher_channels: teacher.c() as u32,
            student_channels: student.c() as u32,
            scale: (LOG2_E / tau) as f32,
        })
    }

    fn blocks(&self) -> Geometry {
        Geometry::linear(self.rows / self.positions * self.tiles, THREADS)
    }
}

/// Elements that a thread loads at once of the rows of all of them.
fn at_once(maps: &[&Tensor]) -> usize {
    maps.iter().map(|t| row_width(t.shape().c(), t.dtype())).min().unwrap_or(1)
}

/// What a student's score needs of a teacher's features `[N,H,W,C]` beside them, for each
/// position: [`STATISTICS`] vectors of N·H·W in f32.
pub(super) fn statistics(
    cx: &Cx,
    launcher: &Launcher,
    teacher: &Tensor,
    tau: f64,
) -> Result<Tensor> {
    let params = Params::new(teacher.shape(), teacher.shape(), tau)?;
    let shape = Shape::matrix(STATISTICS, teacher.shape().rows());
    let mut kept = cx.scratch(Meta::new(shape, DType::F32))?;
    lengths(launcher, teacher, &mut kept)?;
    let mut sums = zeros(cx, 1, &params)?;
    let name = kernel!("relation_teacher", teacher.dtype(), at_once(&[teacher]));
    let pointers = [teacher.device(), kept.device(), sums.device_mut()];
    launcher.launch(name, params.blocks(), &pointers, &params)?;
    let pointers = [sums.device(), kept.device_mut()];
    let geometry = Geometry::cover(params.rows, THREADS);
    launcher.launch("relation_normaliser_f32", geometry, &pointers, &params)?;
    Ok(kept)
}

/// The score of each image, in f32.
pub(super) fn scores(
    cx: &Cx,
    launcher: &Launcher,
    teacher: &Tensor,
    of_teacher: &Tensor,
    student: &Tensor,
    tau: f64,
) -> Result<Tensor> {
    let (n, rows) = (student.shape().n(), student.shape().rows());
    let params = Params::new(teacher.shape(), student.shape(), tau)?;
    let mut of_student = cx.scratch(Meta::new(Shape::matrix(2, rows), DType::F32))?;
    lengths(launcher, student, &mut of_student)?;
    let mut sums = zeros(cx, 2, &params)?;
    let name = kernel!("relation_student", student.dtype(), at_once(&[teacher, student]));
    let maps = [teacher, student, of_teacher, &of_student].map(Tensor::device);
    let pointers = [&maps[..], &[sums.device_mut()]].concat();
    launcher.launch(name, params.blocks(), &pointers, &params)?;
    let shape = Shape::matrix(n, student.shape().positions());
    let mut of_rows = cx.scratch(Meta::new(shape, DType::F32))?;
    let sums = [&sums, of_teacher, &of_student].map(Tensor::device);
    let pointers = [&sums[..], &[of_rows.device_mut()]].concat();
    let geometry = Geometry::cover(params.rows, THREADS);
    launcher.launch("relation_scores_f32", geometry, &pointers, &params)?;
    let mut scores = cx.scratch(Meta::new(Shape::vector(n), DType::F32))?;
    // They are in base 2.
    mean::rows(launcher, &of_rows, LN_2, &mut scores)?;
    Ok(scores)
}

/// `kinds` sums of 64 bits for each row.
fn zeros(cx: &Cx, kinds: usize, params: &Params) -> Result<Tensor> {
    cx.zeros(Shape::matrix(2 * kinds, params.rows as usize), DType::F32)
}

/// Of each row 1 / its length, and then its length when multiplied by that: the first of
/// `of_rows`.
fn lengths(launcher: &Launcher, x: &Tensor, of_rows: &mut Tensor) -> Result<()> {
    let (rows, channels) = (x.shape().rows() as u32, x.shape().c() as u32);
    let params = LengthsParams { rows, channels, eps: EPS as f32 };
    let name = kernel!("relation_lengths", x.dtype(), at_once(&[x]));
    let geometry = Geometry::linear(rows.div_ceil(THREADS / 32), THREADS);
    launcher.launch(name, geometry, &[x.device(), of_rows.device_mut()], &params)
}
