//! The seam below which a device lies: everything that launches kernels goes through
//! [`Driver`], whether they run on an NVIDIA GPU or on the emulator, which executes the same
//! sources on the host. A [`Launcher`] launches for one op.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use bytemuck::NoUninit;

use crate::error::{Error, Result};

/// Address of memory on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DevicePtr(pub u64);

impl DevicePtr {
    /// Points nowhere: for pointers that a kernel may do without.
    pub const NULL: Self = Self(0);

    /// The address `bytes` further on.
    pub fn offset(self, bytes: usize) -> Self {
        Self(self.0 + bytes as u64)
    }
}

/// A place in the order of queued work: what [`Driver::record_event`] gave, in the driver's own terms.
pub struct Event(Box<dyn Any + Send>);

impl Event {
    /// Holds a driver's own mark.
    pub fn new<T: Any + Send>(of_driver: T) -> Self {
        Self(Box::new(of_driver))
    }

    /// The driver's own mark. Panics for another driver's: a mistake of the caller.
    pub fn of_driver<T: Any>(&self) -> &T {
        self.0.downcast_ref().expect("a mark is used with the driver that made it")
    }
}

/// How many threads start, and how they share: chosen beside a kernel's parameters, in the
/// op's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block.
    pub shared_bytes: u32,
}

impl Geometry {
    /// `blocks` blocks of `threads` threads.
    pub fn linear(blocks: u32, threads: u32) -> Self {
        Self { grid: [blocks, 1, 1], block: [threads, 1, 1], shared_bytes: 0 }
    }

    /// Blocks of `threads` threads, one thread for each of `items`; at least one block.
    pub fn cover(items: u32, threads: u32) -> Self {
        Self::linear(items.div_ceil(threads).max(1), threads)
    }

    /// With dynamic shared memory.
    pub fn shared(self, shared_bytes: u32) -> Self {
        Self { shared_bytes, ..self }
    }
}

/// One launch of a kernel of `kernels/`. Its arguments are the pointers, then the parameters:
/// one `#[repr(C)]` struct by value.
#[derive(Clone, Copy)]
pub struct Launch<'a> {
    /// The op that launches, for messages and profiles.
    pub op: &'a str,
    /// The kernel's name.
    pub kernel: &'a str,
    /// Threads.
    pub geometry: Geometry,
    /// Its first arguments.
    pub pointers: &'a [DevicePtr],
    /// The bytes of its last argument.
    pub params: &'a [u8],
    /// The same for people: shapes, strides.
    pub shapes: &'a dyn fmt::Debug,
}

impl fmt::Display for Launch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Geometry { grid, block, shared_bytes } = self.geometry;
        let (op, kernel, shapes) = (self.op, self.kernel, self.shapes);
        write!(f, "{kernel} of {op}, grid {grid:?}, block {block:?}, ")?;
        write!(f, "{shared_bytes} bytes of dynamic shared memory, {shapes:?}")
    }
}

/// A copy that goes on beside the queued work, from [`Driver::staging_slot`] to [`Driver::arrive`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CopyId(pub u64);

/// What is known of a device's hardware: times are compared between equals only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hardware {
    /// Such as `NVIDIA H100 80GB HBM3`.
    pub name: Option<String>,
    /// Release of its driver.
    pub driver: Option<String>,
    /// Highest clock of its cores.
    pub clock_mhz: Option<u32>,
    /// Highest clock of its memory.
    pub memory_clock_mhz: Option<u32>,
    /// Size of the cache that all cores share.
    pub l2_bytes: Option<usize>,
}

/// A device that holds memory and runs the kernels of `kernels/`, by name. Work is queued in
/// order; reading back waits for it.
pub trait Driver: Send + Sync {
    /// Name for messages, say `cuda:0`.
    fn name(&self) -> String;
    /// Device memory, uninitialised, aligned to at least 256 bytes.
    fn alloc(&self, bytes: usize) -> Result<DevicePtr>;
    /// Gives memory back once the work queued so far is done.
    fn free(&self, ptr: DevicePtr);
    /// Copies host memory to the device.
    fn copy_to_device(&self, dst: DevicePtr, src: &[u8]) -> Result<()>;
    /// Copies device memory to the host, after the work queued so far.
    fn copy_to_host(&self, dst: &mut [u8], src: DevicePtr) -> Result<()>;
    /// Queues a copy within the device; the two must not overlap.
    fn copy(&self, dst: DevicePtr, src: DevicePtr, bytes: usize) -> Result<()>;
    /// Queues setting each byte to `value`.
    fn fill(&self, dst: DevicePtr, value: u8, bytes: usize) -> Result<()>;
    /// Queues a kernel, after checking the launch against the kernel table. A failure names
    /// op, kernel and shapes.
    fn launch(&self, launch: &Launch) -> Result<()>;
    /// Most shared memory of a block, what its kernel declares and what its launch adds together:
    /// launches are chosen by it.
    fn shared_limit_bytes(&self) -> u32;
    /// Waits until all queued work is done.
    fn sync(&self) -> Result<()>;
    /// Records an event behind the work that is queued.
    fn record_event(&self) -> Result<Event>;
    /// Device time between two events, in milliseconds. Waits for the second.
    fn ms_between(&self, from: &Event, to: &Event) -> Result<f32>;

    /// Device time that `work` takes, in milliseconds.
    fn time_ms(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<f32> {
        let from = self.record_event()?;
        work()?;
        self.ms_between(&from, &self.record_event()?)
    }

    /// Bytes that could still be allocated, where that is known.
    fn available_bytes(&self) -> Result<Option<usize>>;

    /// Whether nothing is held or computed: memory is being planned.
    fn plans(&self) -> bool {
        false
    }

    /// The first of three steps of a copy that no queued work waits for, but what is queued
    /// after it has arrived: says that its destination is free once the work queued so far is
    /// done. [`StagingSlot`](crate::cx::StagingSlot) takes them in this order. A driver without such
    /// copies copies at once.
    fn staging_slot(&self) -> Result<CopyId> {
        Ok(CopyId(0))
    }
    /// The second, once at most: starts the copy, beside what was queued since the first. `src`
    /// may change as soon as this returns.
    fn copy_ahead(&self, _copy: CopyId, dst: DevicePtr, src: &[u8]) -> Result<()> {
        self.copy_to_device(dst, src)
    }
    /// The last: work queued from now on finds the copied bytes.
    fn arrive(&self, _copy: CopyId) -> Result<()> {
        Ok(())
    }

    /// What it is made of, as far as that is known.
    fn hardware(&self) -> Hardware {
        Hardware::default()
    }
    /// Tells a profiler to record from now on, or no longer, where one listens.
    fn profile(&self, _on: bool) -> Result<()> {
        Ok(())
    }
    /// Whether the driver itself notices accesses outside of what was handed out and reads of
    /// memory that nothing wrote.
    fn is_checked(&self) -> bool {
        false
    }
    /// A pool hands out exactly `bytes` at `ptr`; their contents are unspecified.
    fn handed_out(&self, _ptr: DevicePtr, _bytes: usize) {}
    /// Nobody may touch what was handed out at `ptr` any more.
    fn handed_back(&self, _ptr: DevicePtr) {}
    /// Makes later launches run their threads in another order, where the driver can choose
    /// one; seed 0 is the natural order. Correct kernels give the same bits in every order.
    fn reschedule(&self, _seed: u64) {}
    /// What is queued from now on is `name` on a profiler's time line; ranges nest.
    fn range_begins(&self, _name: &str) {}
    /// Ends the range that began last in this thread.
    fn range_ends(&self) {}
}

static LAUNCHES: AtomicU64 = AtomicU64::new(0);

/// Kernels that this process has queued so far, on all devices.
pub fn launches() -> u64 {
    LAUNCHES.load(Ordering::Relaxed)
}

/// Launches kernels for one op.
pub struct Launcher<'a> {
    /// Where to.
    pub driver: &'a dyn Driver,
    /// The op's name.
    pub op: &'a str,
}

impl Launcher<'_> {
    /// Queues a kernel with these pointers and parameters.
    pub fn launch<P: NoUninit + fmt::Debug>(
        &self,
        kernel: &str,
        geometry: Geometry,
        pointers: &[DevicePtr],
        params: &P,
    ) -> Result<()> {
        LAUNCHES.fetch_add(1, Ordering::Relaxed);
        self.driver.launch(&Launch {
            op: self.op,
            kernel,
            geometry,
            pointers,
            params: bytemuck::bytes_of(params),
            shapes: params,
        })
    }
}

/// A size as kernels take it: 31 bits, so that sums of two do not overflow.
pub fn size(elems: usize) -> Result<u32> {
    let fits = u32::try_from(elems).ok().filter(|n| *n < 1 << 31);
    fits.ok_or_else(|| {
        Error::memory(format!(
            "a tensor of {elems} elements is too large for the kernels, which count to 2^31"
        ))
    })
}
