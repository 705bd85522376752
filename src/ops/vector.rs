//! How kernels over the rows of a tensor share its channels among threads.

use crate::device::{Geometry, size};
use crate::error::Result;
use crate::tensor::DType;

/// What a thread reads at once.
pub const VECTOR_BYTES: usize = 16;
/// Threads of a block of most kernels.
pub const THREADS: u32 = 256;
/// Most vectors of channels that a block has side by side: 512 bytes.
const COLUMNS: u32 = 32;

/// Elements of a vector.
pub fn width(dtype: DType) -> usize {
    VECTOR_BYTES / dtype.size_bytes()
}

/// Elements that a thread has at once of rows of `c`: a vector where rows are whole vectors,
/// so that each begins where an access may, else one.
pub fn row_width(c: usize, dtype: DType) -> usize {
    if c.is_multiple_of(width(dtype)) { width(dtype) } else { 1 }
}

/// A thread for each vector of `elems` elements, the last of which may not be whole.
pub fn elementwise(elems: usize, dtype: DType) -> Result<Geometry> {
    Ok(Geometry::cover(size(elems)?.div_ceil(width(dtype) as u32), THREADS))
}

/// How blocks share channels: each has some columns of `lanes` channels, and as many rows of
/// these as it has threads for (`Tile` in `kernels/include/reduce.h`).
#[derive(Clone, Copy, Debug)]
pub struct Tiles {
    /// Columns of a block.
    pub columns: u32,
    /// Blocks that it takes for all channels.
    pub tiles: u32,
}

impl Tiles {
    /// For `c` channels, `lanes` in a column.
    pub fn new(c: u32, lanes: usize) -> Self {
        let vectors = c.div_ceil(lanes as u32);
        let tiles = vectors.div_ceil(COLUMNS);
        let columns = vectors.div_ceil(tiles);
        Self { columns, tiles: vectors.div_ceil(columns) }
    }

    /// Rows that a block has at once.
    pub fn rows(&self) -> u32 {
        THREADS / self.columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_all_channels_and_no_more() {
        for (lanes, c) in (1..600).map(|c| (1, c)).chain((1..600).map(|v| (8, 8 * v))) {
            let t = Tiles::new(c, lanes);
            let width = t.columns * lanes as u32;
            assert!(t.columns <= COLUMNS && t.rows() >= 8);
            assert!(t.tiles * width >= c && (t.tiles - 1) * width < c, "{c} channels: {t:?}");
        }
    }

    #[test]
    fn vectors_need_whole_rows() {
        assert_eq!((row_width(64, DType::BF16), row_width(12, DType::BF16)), (8, 1));
        assert_eq!((row_width(12, DType::F32), row_width(3, DType::F32)), (4, 1));
    }
}
