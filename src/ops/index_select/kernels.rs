//! Launches of `kernels/index_select.cu`.

use bytemuck::NoUninit;

use crate::cx::Cx;
use crate::device::{Geometry, Launcher, size};
use crate::error::Result;
use crate::kernel;
use crate::ops::vector;
use crate::tensor::{Shape, Tensor};

/// `IndexSelectParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    moves: u32,
    image: u32,
}

/// `IndexSelectGatherParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct GatherParams {
    rows: u32,
    taken: u32,
    channels: u32,
}

/// Row i of y is row `index[i]` of x, or NaN where there is none.
pub(super) fn gather(
    launcher: &Launcher,
    x: &Tensor,
    index: &Tensor,
    y: &mut Tensor,
) -> Result<()> {
    size(x.shape().elems().max(y.shape().elems()))?;
    let channels = x.shape().c();
    let at_once = vector::row_width(channels, x.dtype());
    let (rows, taken) = (x.shape().n() as u32, y.shape().n() as u32);
    let params = GatherParams { rows, taken, channels: channels as u32 };
    let geometry = Geometry::cover((y.shape().elems() / at_once) as u32, vector::THREADS);
    let name = kernel!("index_select_gather", x.dtype(), at_once);
    launcher.launch(name, geometry, &[x.device(), index.device(), y.device_mut()], &params)
}

/// Image i of y is that of `sources[i]`: (tensor of `parts`, image in it). A launch for
/// each tensor that something is taken from.
pub(super) fn rows_of(
    cx: &Cx,
    launcher: &Launcher,
    parts: &[Tensor],
    sources: &[(usize, usize)],
    y: &mut Tensor,
) -> Result<()> {
    size(y.shape().elems())?;
    let image = y.shape().elems() / y.shape().n();
    let at_once = vector::row_width(image, y.dtype());
    // Bits are moved: integers go as floats of their size.
    let name = kernel!("index_select", y.dtype(), at_once);
    for (part, x) in parts.iter().enumerate() {
        size(x.shape().elems())?;
        let taken = sources.iter().enumerate().filter(|(_, (p, _))| *p == part);
        let moves: Vec<[i32; 2]> = taken.map(|(to, (_, from))| [*from as i32, to as i32]).collect();
        if moves.is_empty() {
            continue;
        }
        let list = cx.upload_i32(Shape::matrix(moves.len(), 2), moves.as_flattened())?;
        let params = Params { moves: moves.len() as u32, image: image as u32 };
        let threads = (moves.len() * image / at_once) as u32;
        let pointers = [x.device(), list.device(), y.device_mut()];
        launcher.launch(name, Geometry::cover(threads, vector::THREADS), &pointers, &params)?;
    }
    Ok(())
}
