//! Memory of tensors. Buffers of dropped tensors are kept and handed out again, the smallest
//! that fits first. What a program needs can be found by running it on a pool that only counts,
//! and reserved at once before it runs: then it takes no more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::allocator::may_fail;
use super::driver::{DevicePtr, Driver};
use super::host;
use crate::error::{Error, Result};
use crate::progress::human_bytes;

/// A cache line: buffers are aligned to it and sized in it.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

const LINE_BYTES: usize = size_of::<Line>();
/// Smaller buffers than this are not made.
const LEAST_LINES: usize = 4;
/// While memory may still be taken, a buffer this many times too large is not handed out.
const LARGEST_FIT: usize = 2;
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

/// How many buffers a pool has of each size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout(BTreeMap<usize, usize>);

impl Layout {
    /// Bytes of all buffers.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|(lines, count)| lines * count * LINE_BYTES).sum()
    }
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
    Part(Part),
}

/// A stretch of another buffer, see [`Buffer::split`].
struct Part {
    /// Where it begins.
    start: Start,
    /// Keeps the memory; its contents are read and written through its parts alone.
    _whole: Arc<Buffer>,
}

#[derive(Clone, Copy)]
enum Start {
    Host(*mut Line),
    Planned,
    Device(DevicePtr),
}

// SAFETY: a part is the only way to its stretch of the host's memory, as `Buffer::split` makes
// stretches that do not overlap and keeps the whole to itself; so it may go to, and be read
// from, other threads as a `Vec<Line>` may.
unsafe impl Send for Start {}
// SAFETY: as above; what writes takes `&mut`.
unsafe impl Sync for Start {}

#[derive(Default)]
struct State {
    /// Free buffers by capacity in lines.
    free: BTreeMap<usize, Vec<Memory>>,
    /// All buffers.
    layout: Layout,
    /// Whether all that will be needed was reserved.
    sealed: bool,
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
        let lines = size_class(bytes.div_ceil(LINE_BYTES).max(LEAST_LINES));
        let mut state = self.state();
        let fits = |l: usize| state.sealed || l <= LARGEST_FIT * lines;
        let fit = state.free.range(lines..).next().map(|(&l, _)| l).filter(|&l| fits(l));
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

    /// How many buffers it has of each size.
    pub fn layout(&self) -> Layout {
        self.state().layout.clone()
    }

    /// Takes all buffers of a layout now, but for those that are there already. From then on a
    /// buffer of any size is handed out before more memory is taken: a smaller net's tensors fit
    /// where the largest one's lay.
    ///
    /// # Errors
    /// [`Kind::Memory`](crate::Kind::Memory) where they do not fit; nothing is kept of them then.
    pub fn reserve(&self, layout: &Layout) -> Result<()> {
        let mut state = self.state();
        for (&lines, &count) in &layout.0 {
            let there = state.layout.0.get(&lines).copied().unwrap_or(0);
            for _ in there..count {
                match self.take_memory(&mut state, lines) {
                    Ok(memory) => state.free.entry(lines).or_default().push(memory),
                    Err(e) => {
                        self.give_back(&mut state);
                        return Err(e);
                    }
                }
            }
        }
        state.sealed = true;
        Ok(())
    }

    /// Memory from the system, or from the device.
    fn allocate(&self, state: &mut State, lines: usize) -> Result<Memory> {
        match self.take_memory(state, lines) {
            // What is kept for reuse may be of other sizes only.
            Err(_) if !state.free.is_empty() => {
                self.give_back(state);
                self.take_memory(state, lines)
            }
            taken => taken,
        }
    }

    fn take_memory(&self, state: &mut State, lines: usize) -> Result<Memory> {
        let memory = match &self.place {
            Place::Host => Memory::Host(allocate_host(lines)?),
            Place::Planned => Memory::Planned,
            Place::Device(driver) => Memory::Device(driver.alloc(lines * LINE_BYTES)?),
        };
        state.memory.allocations += 1;
        state.memory.reserved_bytes += lines * LINE_BYTES;
        *state.layout.0.entry(lines).or_default() += 1;
        Ok(memory)
    }

    /// Gives all memory that is kept for reuse back.
    fn give_back(&self, state: &mut State) {
        for (lines, list) in std::mem::take(&mut state.free) {
            state.memory.reserved_bytes -= list.len() * lines * LINE_BYTES;
            if let Some(count) = state.layout.0.get_mut(&lines) {
                *count -= list.len();
            }
            for memory in list {
                if let (Memory::Device(ptr), Place::Device(driver)) = (memory, &self.place) {
                    driver.free(ptr);
                }
            }
        }
    }

    /// What the pool holds.
    pub fn memory(&self) -> MemoryUse {
        self.state().memory
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut state = std::mem::take(&mut *self.state());
        self.give_back(&mut state);
    }
}

/// Rounds up to a size whose leading bits alone are set, at most 12.5 % more.
fn size_class(lines: usize) -> usize {
    let step = (lines.next_power_of_two() / 2 / SIZE_CLASSES_PER_DOUBLING).max(1);
    lines.next_multiple_of(step)
}

/// Parts of a buffer begin at multiples of so many bytes: as a device's own memory does.
pub const PART_ALIGN: usize = 256;

fn part_lines(bytes: usize) -> usize {
    bytes.next_multiple_of(PART_ALIGN) / LINE_BYTES
}

/// Bytes of a buffer that is to be [split](Buffer::split) into parts of these sizes.
pub fn split_bytes(sizes: &[usize]) -> usize {
    sizes.iter().map(|&bytes| part_lines(bytes) * LINE_BYTES).sum()
}

fn allocate_host(lines: usize) -> Result<Vec<Line>> {
    let mut mem = Vec::new();
    may_fail(|| mem.try_reserve_exact(lines)).map_err(|_| {
        let found = host::available().map_or("no more".to_owned(), |a| {
            format!("{} left by {}", human_bytes(a.bytes), a.bound)
        });
        Error::memory(format!(
            "out of memory: expected {} more for tensors, found {found}; free memory, raise that \
             limit, or use fewer --threads; training takes less with a smaller train.batch, other \
             verbs with a smaller --arch or fewer --images",
            human_bytes(lines * LINE_BYTES),
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
    /// Cuts the buffer into parts of at least so many bytes, which begin at multiples of
    /// [`PART_ALIGN`] and are written one without the other. The memory returns to its pool with
    /// the last of them. Panics where they do not fit: see [`split_bytes`].
    pub fn split(mut self, sizes: &[usize]) -> Vec<Buffer> {
        assert!(split_bytes(sizes) <= self.capacity_bytes(), "parts are larger than the whole");
        let (first, pool) = (
            match &mut self.memory {
                Memory::Host(lines) => Start::Host(lines.as_mut_ptr()),
                Memory::Planned => Start::Planned,
                Memory::Device(ptr) => Start::Device(*ptr),
                Memory::Part(part) => part.start,
            },
            self.pool.clone(),
        );
        let whole = Arc::new(self);
        let mut at = 0;
        let part = |&bytes: &usize| {
            let lines = part_lines(bytes);
            let start = match first {
                // SAFETY: `at` is within the whole, by the assertion above.
                Start::Host(line) => Start::Host(unsafe { line.add(at) }),
                Start::Planned => Start::Planned,
                Start::Device(ptr) => Start::Device(ptr.offset(at * LINE_BYTES)),
            };
            at += lines;
            let memory = Memory::Part(Part { start, _whole: whole.clone() });
            Buffer { lines, memory, pool: pool.clone() }
        };
        sizes.iter().map(part).collect()
    }
    /// The contents. Panics where they are not in host memory.
    pub fn bytes(&self) -> &[u8] {
        match &self.memory {
            Memory::Host(lines) => bytemuck::cast_slice(lines),
            Memory::Part(Part { start: Start::Host(line), .. }) => {
                // SAFETY: a part's lines are within the whole, which it keeps alive, initialised,
                // and nothing but this part reaches them.
                bytemuck::cast_slice(unsafe { std::slice::from_raw_parts(*line, self.lines) })
            }
            _ => panic!("the values of this tensor are not in host memory"),
        }
    }
    /// The contents, to write. Panics where they are not in host memory.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Host(lines) => bytemuck::cast_slice_mut(lines),
            Memory::Part(Part { start: Start::Host(line), .. }) => {
                // SAFETY: as in `bytes`; `&mut self` keeps others away.
                bytemuck::cast_slice_mut(unsafe {
                    std::slice::from_raw_parts_mut(*line, self.lines)
                })
            }
            _ => panic!("the values of this tensor are not in host memory"),
        }
    }
    /// The address on the device. Panics where the contents are not on one.
    pub fn device(&self) -> DevicePtr {
        match self.memory {
            Memory::Device(ptr) | Memory::Part(Part { start: Start::Device(ptr), .. }) => ptr,
            _ => panic!("the values of this tensor are not on a device"),
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::replace(&mut self.memory, Memory::Planned);
        if matches!(memory, Memory::Part(_)) {
            // The whole returns with its last part.
            return;
        }
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
    fn parts_are_apart_and_return_together() {
        let pool = Pool::new(Place::Host);
        let sizes = [1, 300, 0, 256, 7000];
        let mut whole = pool.take(split_bytes(&sizes)).unwrap();
        whole.bytes_mut().fill(9);
        let mut parts = whole.split(&sizes);
        for (i, part) in parts.iter_mut().enumerate() {
            assert_eq!(part.capacity_bytes(), sizes[i].next_multiple_of(PART_ALIGN));
            part.bytes_mut().fill(i as u8);
        }
        for (i, part) in parts.iter().enumerate() {
            assert!(part.bytes().iter().all(|&b| b == i as u8));
            assert!(part.bytes().is_empty() || part.bytes().as_ptr().addr() % 64 == 0);
        }
        let last = parts.pop();
        drop(parts);
        assert!(pool.memory().live_bytes > 0);
        drop(last);
        assert_eq!((pool.memory().live_bytes, pool.memory().allocations), (0, 1));
    }

    #[test]
    fn what_is_reserved_is_enough() {
        let (pool, plan) = (Pool::new(Place::Host), Pool::new(Place::Planned));
        let kept = pool.take(300_000).unwrap();
        let use_it = |pool: &Arc<Pool>, bytes: [usize; 3]| {
            bytes.map(|bytes| pool.take(bytes).unwrap()).len()
        };
        use_it(&plan, [300_000, 70_000, 2_000_000]);
        pool.reserve(&plan.layout()).unwrap();
        assert_eq!(pool.layout(), plan.layout());
        assert_eq!(pool.memory().reserved_bytes, plan.layout().bytes());
        drop(kept);
        let before = pool.memory().allocations;
        // Smaller ones fit into larger ones, however much larger.
        for bytes in [[300_000, 70_000, 2_000_000], [1, 2, 3], [5, 290_000, 600]] {
            use_it(&pool, bytes);
        }
        assert_eq!(pool.memory().allocations, before);
        use_it(&pool, [3_000_000, 1, 1]);
        assert_eq!(pool.memory().allocations, before + 1, "more is taken where it must be");
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
