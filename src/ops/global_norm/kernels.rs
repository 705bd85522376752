//! Launches of `kernels/global_norm.cu`.

use bytemuck::{NoUninit, Pod, Zeroable};

use crate::cx::Cx;
use crate::device::{Geometry, Launcher, size};
use crate::error::Result;
use crate::kernel;
use crate::ops::multi_tensor::{CHUNK, count_chunks};
use crate::ops::vector::{THREADS, width};
use crate::tensor::{DType, Meta, Shape, Tensor};

/// Blocks that look for values that are not finite: enough to keep any device busy.
const MOST_BLOCKS: u32 = 1024;

/// `NormSpan`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Span {
    values: u64,
    elems: u32,
    first_chunk: u32,
}

/// `NormParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    spans: u32,
    chunk: u32,
}

/// `NormTotalParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct TotalParams {
    partials: u32,
}

/// `NonFiniteParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct NonFiniteParams {
    elems: u32,
}

/// `NormSum`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Sum {
    squares: f64,
    non_finite: u64,
}

/// Σx² over all tensors, and the number of values that are not finite: a sum for each chunk,
/// then the sum of these.
pub(super) fn sum(cx: &Cx, launcher: &Launcher, tensors: &[&Tensor]) -> Result<(f64, u64)> {
    let mut spans = Vec::with_capacity(tensors.len());
    let mut chunks = 0;
    for t in tensors {
        let elems = size(t.shape().elems())?;
        spans.push(Span { values: t.device().0, elems, first_chunk: chunks });
        chunks = count_chunks(chunks, elems)?;
    }
    let table = cx.table(&spans)?;
    let sums = |n: u32| {
        let words = n as usize * size_of::<Sum>() / DType::F32.size_bytes();
        cx.scratch(Meta::new(Shape::vector(words), DType::F32))
    };
    let (mut partials, mut total) = (sums(chunks)?, sums(1)?);
    let params = Params { spans: size(spans.len())?, chunk: CHUNK };
    let pointers = [table.device(), partials.device_mut()];
    launcher.launch(
        "global_norm_chunks_f32",
        Geometry::linear(chunks, THREADS),
        &pointers,
        &params,
    )?;
    let params = TotalParams { partials: chunks };
    let pointers = [partials.device(), total.device_mut()];
    launcher.launch("global_norm_total_f32", Geometry::linear(1, THREADS), &pointers, &params)?;
    let total = cx.download_bytes::<Sum>(&total, 1)?[0];
    Ok((total.squares, total.non_finite))
}

/// Whether a tensor's values are finite.
pub(super) fn all_finite(cx: &Cx, launcher: &Launcher, t: &Tensor) -> Result<bool> {
    let params = NonFiniteParams { elems: size(t.shape().elems())? };
    let mut count = cx.zeros(Shape::vector(1), DType::F32)?;
    let vectors = params.elems.div_ceil(width(t.dtype()) as u32);
    let blocks = vectors.div_ceil(THREADS).min(MOST_BLOCKS);
    let pointers = [t.device(), count.device_mut()];
    let name = kernel!("global_norm_non_finite", t.dtype());
    launcher.launch(name, Geometry::linear(blocks, THREADS), &pointers, &params)?;
    Ok(cx.download_bytes::<u32>(&count, 1)?[0] == 0)
}
