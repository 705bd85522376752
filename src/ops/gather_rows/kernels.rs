//! Launches of `kernels/gather_rows.cu`.

use bytemuck::NoUninit;

use crate::device::{Geometry, Launcher, size};
use crate::error::Result;
use crate::kernel;
use crate::ops::vector::THREADS;
use crate::tensor::{Shape, Tensor};

/// `GatherRowsParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    taken: u32,
    width: u32,
    start: u32,
    end: u32,
    total: u32,
}

impl Params {
    /// For a map's rows among those of all maps, and rows that are taken, of shape `taken`.
    fn new(taken: Shape, starts: &[usize], map: usize) -> Result<Self> {
        let width = taken.c();
        size(starts[starts.len() - 1] * width)?;
        size(taken.elems())?;
        let [start, end, total] =
            [starts[map], starts[map + 1], starts[starts.len() - 1]].map(|rows| rows as u32);
        Ok(Self { taken: taken.n() as u32, width: width as u32, start, end, total })
    }

    /// A thread for each value that is taken.
    fn geometry(&self) -> Geometry {
        Geometry::cover(self.taken * self.width, THREADS)
    }
}

/// y from maps whose first rows are `starts`.
pub(super) fn forward(
    launcher: &Launcher,
    starts: &[usize],
    maps: &[&Tensor],
    index: &Tensor,
    y: &mut Tensor,
) -> Result<()> {
    for (i, map) in maps.iter().enumerate() {
        let params = Params::new(y.shape(), starts, i)?;
        let pointers = [map.device(), index.device(), y.device_mut()];
        let name = kernel!("gather_rows_forward", y.dtype());
        launcher.launch(name, params.geometry(), &pointers, &params)?;
    }
    Ok(())
}

/// Adds the rows of `gy` that a map took part in to its `gx`.
pub(super) fn backward(
    launcher: &Launcher,
    starts: &[usize],
    map: usize,
    [index, gy]: [&Tensor; 2],
    gx: &mut Tensor,
) -> Result<()> {
    let params = Params::new(gy.shape(), starts, map)?;
    let pointers = [index.device(), gy.device(), gx.device_mut()];
    let name = kernel!("gather_rows_backward", gx.dtype());
    launcher.launch(name, params.geometry(), &pointers, &params)
}
