//! Geometry of kernels that multiply rows with rows, by tiles (`kernels/include/gemm_nt.h`).

/// Threads of a block.
pub(crate) const THREADS: u32 = 256;
/// Rows and columns of a tile.
pub(crate) const TILE: u32 = 64;
