//! Memory of tensors. Buffers of dropped tensors are kept and handed out again, the smallest
//! that fits first, so that a training step stops allocating once the largest net has run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

/// A cache line: buffers are aligned to it and sized in it.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

const LINE_BYTES: usize = size_of::<Line>();
/// Buffers grow in powers of two of this share of their size, so that near sizes are reused.
const SIZE_CLASSES_PER_DOUBLING: usize = 8;

/// What a [`Pool`] holds, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// In tensors now.
    pub live_bytes: usize,
    /// Most that was ever in tensors at once.
    pub peak_bytes: usize,
    /// Taken from the system, in use or kept for reuse.
    pub reserved_bytes: usize,
    /// How many times memory was taken from the system.
    pub allocations: usize,
}

#[derive(Default)]
struct State {
    /// Free buffers by capacity in lines.
    free: BTreeMap<usize, Vec<Vec<Line>>>,
    memory: MemoryUse,
}

/// A pool of buffers in host memory, or, while planning, of buffers that are only counted.
pub struct Pool {
    real: bool,
    state: Mutex<State>,
}

impl Pool {
    /// An empty pool; one that is not `real` counts but allocates nothing.
    pub fn new(real: bool) -> Arc<Self> {
        Arc::new(Self { real, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer of at least `bytes`.
    pub fn take(self: &Arc<Self>, bytes: usize) -> Result<Buffer> {
        let lines = size_class(bytes.div_ceil(LINE_BYTES).max(1));
        let mut state = self.state();
        let fit = state.free.range(lines..).next().map(|(&l, _)| l).filter(|&l| l <= 2 * lines);
        let (capacity, mem) = match fit {
            Some(l) => {
                let list = state.free.get_mut(&l).expect("found above");
                let mem = list.pop().expect("empty lists are removed");
                if list.is_empty() {
                    state.free.remove(&l);
                }
                (l, mem)
            }
            None => {
                state.memory.allocations += 1;
                state.memory.reserved_bytes += lines * LINE_BYTES;
                (lines, if self.real { allocate(lines)? } else { Vec::new() })
            }
        };
        state.memory.live_bytes += capacity * LINE_BYTES;
        state.memory.peak_bytes = state.memory.peak_bytes.max(state.memory.live_bytes);
        drop(state);
        let mut buffer = Buffer { lines: capacity, mem, pool: self.clone() };
        if cfg!(debug_assertions) && self.real {
            // NaN in every float type, so that what nothing wrote shows.
            buffer.bytes_mut().fill(0xff);
        }
        Ok(buffer)
    }

    /// What the pool holds.
    pub fn memory(&self) -> MemoryUse {
        self.state().memory
    }
}

/// Rounds up to a size whose leading bits alone are set, at most 12.5 % more.
fn size_class(lines: usize) -> usize {
    let step = (lines.next_power_of_two() / 2 / SIZE_CLASSES_PER_DOUBLING).max(1);
    lines.next_multiple_of(step)
}

fn allocate(lines: usize) -> Result<Vec<Line>> {
    let mut mem = Vec::new();
    mem.try_reserve_exact(lines).map_err(|_| {
        Error::device(format!(
            "out of memory: {} MiB more were needed; use a smaller train.batch",
            (lines * LINE_BYTES) >> 20
        ))
    })?;
    mem.resize(lines, Line([0; LINE_BYTES]));
    Ok(mem)
}

/// A piece of memory that returns to its pool when dropped.
pub struct Buffer {
    lines: usize,
    mem: Vec<Line>,
    pool: Arc<Pool>,
}

impl Buffer {
    /// Size in bytes; at least what was asked for.
    pub fn capacity_bytes(&self) -> usize {
        self.lines * LINE_BYTES
    }
    /// The contents. Panics on a buffer that was only planned.
    pub fn bytes(&self) -> &[u8] {
        assert!(self.pool.real, "a planned tensor has no values");
        bytemuck::cast_slice(&self.mem)
    }
    /// The contents, to write. Panics on a buffer that was only planned.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        assert!(self.pool.real, "a planned tensor has no values");
        bytemuck::cast_slice_mut(&mut self.mem)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mem = std::mem::take(&mut self.mem);
        let mut state = self.pool.state();
        state.memory.live_bytes -= self.lines * LINE_BYTES;
        state.free.entry(self.lines).or_default().push(mem);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_reused() {
        let pool = Pool::new(true);
        for _ in 0..10 {
            let a = pool.take(1000).unwrap();
            let b = pool.take(5000).unwrap();
            assert!(a.bytes().len() >= 1000 && b.bytes().len() >= 5000);
        }
        let m = pool.memory();
        assert_eq!((m.allocations, m.live_bytes), (2, 0));
        assert!(m.peak_bytes >= 6000 && m.peak_bytes < 8000);
    }

    #[test]
    fn a_plan_counts_what_the_real_pool_takes() {
        let (real, plan) = (Pool::new(true), Pool::new(false));
        for bytes in [1, 64, 65, 4096, 100_000, 100_001, 3_333_333] {
            let _held = (real.take(bytes).unwrap(), plan.take(bytes).unwrap());
            assert_eq!(real.memory(), plan.memory());
        }
    }
}
