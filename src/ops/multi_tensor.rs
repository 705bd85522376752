//! How kernels work on many tensors in one launch: each tensor is a span in a table, cut into
//! chunks, and each block has one chunk (`kernels/include/multi_tensor.h`).

use crate::device::size;
use crate::error::Result;

/// Elements of a chunk.
pub const CHUNK: u32 = 4096;

/// How many chunks there are with those of a tensor of `elems` elements, after `before`.
/// Errors where kernels cannot count them.
pub fn count_chunks(before: u32, elems: u32) -> Result<u32> {
    size(before as usize + elems.div_ceil(CHUNK) as usize)
}
