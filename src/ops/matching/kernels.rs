//! Launches of `kernels/matching.cu`.

use bytemuck::NoUninit;

use crate::device::{Geometry, Launcher, size};
use crate::error::Result;
use crate::kernel;
use crate::ops::gemm_nt;
use crate::ops::l2_normalise::EPS;
use crate::ops::vector::row_width;
use crate::tensor::Tensor;

/// `MatchingParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    positions: u32,
    tiles: u32,
    student_channels: u32,
    teacher_channels: u32,
    channels: u32,
    eps: f32,
}

/// Fills, for each position of the student's, the row of the teacher's.
pub(super) fn nearest(
    launcher: &Launcher,
    student: &Tensor,
    teacher: &Tensor,
    index: &mut Tensor,
) -> Result<()> {
    size(student.shape().elems().max(teacher.shape().elems()))?;
    let positions = student.shape().positions() as u32;
    let [student_channels, teacher_channels] = [student, teacher].map(|t| t.shape().c() as u32);
    let params = Params {
        positions,
        tiles: positions.div_ceil(gemm_nt::TILE),
        student_channels,
        teacher_channels,
        channels: student_channels.min(teacher_channels),
        eps: EPS as f32,
    };
    let at_once = [student, teacher].map(|t| row_width(t.shape().c(), t.dtype()));
    let name = kernel!("matching", student.dtype(), at_once[0].min(at_once[1]));
    let blocks = student.shape().n() as u32 * params.tiles;
    let pointers = [student.device(), teacher.device(), index.device_mut()];
    launcher.launch(name, Geometry::linear(blocks, gemm_nt::THREADS), &pointers, &params)
}
