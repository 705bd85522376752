//! Memory of tensors. Buffers of dropped tensors are kept and handed out again, the smallest
//! that fits first, so that a training step stops allocating once the largest net has run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::driver::{DevicePtr, Driver};
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

/// Where a pool's memory lies.
#[derive(Clone)]
pub enum Place {
    /// Host memory.
    Host,
    /// Nowhere: buffers are counted but hold nothing.
    Planned,
    /// A device's memory.
    Device(Arc<dyn Driver>),
}

/// Memory of one buffer.
enum Memory {
    Host(Vec<Line>),
    Planned,
    Device(DevicePtr),
}

#[derive(Default)]
struct State {
    /// Free buffers by capacity in lines.
    free: BTreeMap<usize, Vec<Memory>>,
    memory: MemoryUse,
}

/// A pool of buffers.
pub struct Pool {
    place: Place,
    state: Mutex<State>,
}

impl Pool {
    /// An empty pool.
    pub fn new(place: Place) -> Arc<Self> {
        Arc::new(Self { place, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer of at least `bytes`.
    pub fn take(self: &Arc<Self>, bytes: usize) -> Result<Buffer> {
        let lines = size_class(bytes.div_ceil(LINE_BYTES).max(1));
        let mut state = self.state();
        let fit = state.free.range(lines..).next().map(|(&l, _)| l).filter(|&l| l <= 2 * lines);
        let (capacity, memory) = match fit {
            Some(l) => {
                let list = state.free.get_mut(&l).expect("found above");
                let memory = list.pop().expect("empty lists are removed");
                if list.is_empty() {
                    state.free.remove(&l);
                }
                (l, memory)
            }
            None => (lines, self.allocate(&mut state, lines)?),
        };
        state.memory.live_bytes += capacity * LINE_BYTES;
        state.memory.peak_bytes = state.memory.peak_bytes.max(state.memory.live_bytes);
        drop(state);
        let mut buffer = Buffer { lines: capacity, memory, pool: self.clone() };
        match (&mut buffer.memory, &self.place) {
            (Memory::Device(ptr), Place::Device(driver)) => driver.handed_out(*ptr, bytes),
            // NaN in every float type, so that what nothing wrote shows.
            (Memory::Host(lines), _) if cfg!(debug_assertions) => {
                lines.fill(Line([0xff; LINE_BYTES]));
            }
            _ => {}
        }
        Ok(buffer)
    }

    /// Memory from the system, or from the device.
    fn allocate(&self, state: &mut State, lines: usize) -> Result<Memory> {
        let memory = match &self.place {
            Place::Host => Memory::Host(allocate_host(lines)?),
            Place::Planned => Memory::Planned,
            Place::Device(driver) => Memory::Device(match driver.alloc(lines * LINE_BYTES) {
                Ok(ptr) => ptr,
                // What is kept for reuse may be of other sizes only.
                Err(_) if !state.free.is_empty() => {
                    free_all(driver.as_ref(), state);
                    driver.alloc(lines * LINE_BYTES)?
                }
                Err(e) => return Err(e),
            }),
        };
        state.memory.allocations += 1;
        state.memory.reserved_bytes += lines * LINE_BYTES;
        Ok(memory)
    }

    /// What the pool holds.
    pub fn memory(&self) -> MemoryUse {
        self.state().memory
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Place::Device(driver) = &self.place {
            let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
            free_all(driver.as_ref(), state);
        }
    }
}

/// Gives all memory that is kept for reuse back to the device.
fn free_all(driver: &dyn Driver, state: &mut State) {
    for (lines, list) in std::mem::take(&mut state.free) {
        state.memory.reserved_bytes -= list.len() * lines * LINE_BYTES;
        for memory in list {
            if let Memory::Device(ptr) = memory {
                driver.free(ptr);
            }
        }
    }
}

/// Rounds up to a size whose leading bits alone are set, at most 12.5 % more.
fn size_class(lines: usize) -> usize {
    let step = (lines.next_power_of_two() / 2 / SIZE_CLASSES_PER_DOUBLING).max(1);
    lines.next_multiple_of(step)
}

fn allocate_host(lines: usize) -> Result<Vec<Line>> {
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
    memory: Memory,
    pool: Arc<Pool>,
}

impl Buffer {
    /// Size in bytes; at least what was asked for.
    pub fn capacity_bytes(&self) -> usize {
        self.lines * LINE_BYTES
    }
    /// The contents. Panics where they are not in host memory.
    pub fn bytes(&self) -> &[u8] {
        match &self.memory {
            Memory::Host(lines) => bytemuck::cast_slice(lines),
            _ => panic!("the values of this tensor are not in host memory"),
        }
    }
    /// The contents, to write. Panics where they are not in host memory.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Host(lines) => bytemuck::cast_slice_mut(lines),
            _ => panic!("the values of this tensor are not in host memory"),
        }
    }
    /// The address on the device. Panics where the contents are not on one.
    pub fn device(&self) -> DevicePtr {
        match self.memory {
            Memory::Device(ptr) => ptr,
            _ => panic!("the values of this tensor are not on a device"),
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::replace(&mut self.memory, Memory::Planned);
        if let (Memory::Device(ptr), Place::Device(driver)) = (&memory, &self.pool.place) {
            driver.handed_back(*ptr);
        }
        let mut state = self.pool.state();
        state.memory.live_bytes -= self.lines * LINE_BYTES;
        state.free.entry(self.lines).or_default().push(memory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_reused() {
        let pool = Pool::new(Place::Host);
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
        let (real, plan) = (Pool::new(Place::Host), Pool::new(Place::Planned));
        for bytes in [1, 64, 65, 4096, 100_000, 100_001, 3_333_333] {
            let _held = (real.take(bytes).unwrap(), plan.take(bytes).unwrap());
            assert_eq!(real.memory(), plan.memory());
        }
    }
}
