//! Which positions of two feature maps of an image belong together: DenseCL's correspondence. Not
//! differentiated.

pub mod checks;
mod cpu;
mod kernels;
pub mod work;

use super::{expect_inputs, expect_shape};
use crate::cx::{Cx, Exec};
use crate::device::size;
use crate::error::Result;
use crate::tensor::{DType, Meta, Shape, Tensor};

/// For each position of `student` `[N,H,W,Cs]` the position of the same image of `teacher`
/// `[N,H,W,Ct]` with the greatest cosine of the first min(Cs, Ct) channels, as its row among the
/// N·H·W of the teacher's map: `[N·H·W,1,1,1]` of [`DType::I32`], for
/// [`index_select::gather`](super::index_select::gather).
///
/// Of equal cosines the first position counts; cosines that are NaN are passed over. A teacher's
/// length below [`EPS`](super::l2_normalise::EPS) counts as that. Memory grows with the positions,
/// not with their square. Fails on other shapes.
pub fn nearest(cx: &Cx, student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    expect_inputs(&[student.meta(), teacher.meta()], &["student", "teacher"])?;
    let Shape([n, h, w, _]) = student.shape();
    expect_shape("teacher", teacher.shape(), Shape::nhwc(n, h, w, teacher.shape().c()))?;
    // Rows must be numbers of the index.
    size(teacher.shape().rows())?;
    let mut index = cx.alloc(Meta::new(Shape::matrix(n * h * w, 1), DType::I32))?;
    match cx.exec("matching") {
        Exec::DryRun => {}
        Exec::Cpu => crate::dispatch!(student.dtype(), T => {
            let channels = [student.shape().c(), teacher.shape().c()];
            let maps = [student.host::<T>(), teacher.host()];
            cpu::nearest(h * w, channels, maps, index.host_mut());
        }),
        Exec::Device(launcher) => kernels::nearest(&launcher, student, teacher, &mut index)?,
    }
    Ok(index)
}
