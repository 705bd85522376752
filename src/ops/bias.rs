//! The gradient of a bias on devices: launches of `kernels/bias.cu`.

use bytemuck::NoUninit;

use crate::cx::Cx;
use crate::device::{Geometry, Launcher, size};
use crate::error::Result;
use crate::kernel;
use crate::ops::vector::{self, THREADS, Tiles};
use crate::tensor::{DType, Meta, Shape, Tensor};

/// Most blocks that sum rows at the same time: two for each multiprocessor.
const BLOCKS: u32 = 264;
/// Rows that a part has at least: fewer are summed by one block a tile of channels.
const PART_ROWS: u32 = 2048;

/// `BiasGradientParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    rows: u32,
    channels: u32,
    part_rows: u32,
    columns: u32,
    accumulate: u32,
}

/// Rows of each of the parts that are summed by blocks of their own.
fn part_rows(rows: u32, tiles: u32) -> u32 {
    rows.div_ceil(BLOCKS.div_ceil(tiles)).max(PART_ROWS)
}

/// Adds the sum over all pixels of `gy` to the first elements of `gb`, of f32; where there is
/// nothing in it yet (`accumulate` false) the rest becomes 0. Sums in f32, in an order that
/// depends on shapes alone.
pub(super) fn gradient(
    cx: &Cx,
    launcher: &Launcher,
    gy: &Tensor,
    gb: &mut Tensor,
    accumulate: bool,
) -> Result<()> {
    if !accumulate {
        launcher.driver.fill(gb.device_mut(), 0, gb.meta().size_bytes())?;
    }
    size(gy.shape().elems())?;
    let (rows, channels) = (gy.shape().rows() as u32, gy.shape().c());
    if rows == 0 || channels == 0 {
        return Ok(());
    }
    let launch = |from: &Tensor, rows, part_rows, to: &mut Tensor, accumulate: bool| {
        let at_once = vector::row_width(channels, from.dtype());
        let Tiles { columns, tiles } = Tiles::new(channels as u32, at_once);
        let accumulate = accumulate.into();
        let params = Params { rows, channels: channels as u32, part_rows, columns, accumulate };
        let name = kernel!("bias_gradient", from.dtype(), at_once);
        let grid = [tiles, rows.div_ceil(part_rows), 1];
        let geometry = Geometry { grid, ..Geometry::linear(1, THREADS) };
        launcher.launch(name, geometry, &[from.device(), to.device_mut()], &params)
    };
    let tiles = Tiles::new(channels as u32, vector::row_width(channels, gy.dtype())).tiles;
    let part_rows = part_rows(rows, tiles);
    let parts = rows.div_ceil(part_rows);
    if parts == 1 {
        return launch(gy, rows, rows, gb, true);
    }
    let mut sums = cx.scratch(Meta::new(Shape::matrix(parts as usize, channels), DType::F32))?;
    launch(gy, rows, part_rows, &mut sums, false)?;
    launch(&sums, parts, parts, gb, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_few_and_large() {
        assert_eq!(part_rows(PART_ROWS, 1), PART_ROWS);
        for (rows, tiles) in [(PART_ROWS + 1, 1), (1 << 20, 1), (1 << 20, 7), (1 << 30, 300)] {
            let parts = rows.div_ceil(part_rows(rows, tiles));
            assert!(parts * tiles <= BLOCKS + tiles, "{rows} rows, {tiles} tiles: {parts}");
        }
    }
}
