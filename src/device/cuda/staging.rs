//! Host memory on its way to the device: through page-locked memory, from where the GPU fetches
//! it by itself, so that the host goes on while copies and kernels run.

use std::collections::{HashMap, VecDeque};

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::CUresult;

use super::raw::{CuEvent, Pinned, Stream};
use crate::device::DevicePtr;
use crate::device::driver::CopyId;

/// All page-locked memory. The host waits where it is full, so it must not be: the GPU fetches a
/// copy in order when the work before it is done, and there is room for all small copies of many
/// steps; a copy ahead is fetched as soon as its destination is free, and over the bus faster
/// than one thread writes here. So a batch of decoded images (256 of ImageNet: 150 MB), whose
/// destination is free once the views before it are made, needs no memory of its own size.
const RING_BYTES: usize = 64 << 20;
/// Parts that larger copies are cut into, so that one part is fetched while the next is written.
const PART_BYTES: usize = 4 << 20;
/// The least that a part takes of the ring: it bounds their number.
const GRAIN_BYTES: usize = 4 << 10;

/// Page-locked memory that is written round and round; made when first needed.
struct Ring {
    memory: Pinned,
    /// Where the next part begins.
    next: usize,
    /// What is not known to be fetched yet, the oldest first: where it begins, and the end of
    /// its copy.
    parts: VecDeque<(usize, CuEvent)>,
    /// Of parts that were fetched.
    events: Vec<CuEvent>,
}

impl Ring {
    fn new() -> Result<Self, DriverError> {
        let memory = Pinned::new(RING_BYTES)?;
        Ok(Self { memory, next: 0, parts: VecDeque::new(), events: Vec::new() })
    }

    /// Queues the copy of at most [`PART_BYTES`].
    fn send(&mut self, stream: &Stream, dst: DevicePtr, src: &[u8]) -> Result<(), DriverError> {
        let bytes = src.len().next_multiple_of(GRAIN_BYTES);
        let start = self.room_for(bytes)?;
        let staged = &mut self.memory.bytes_mut()[start..start + src.len()];
        staged.copy_from_slice(src);
        // SAFETY: the part stays as it is until its event, which `room_for` waits for; the
        // caller answers for `dst`.
        unsafe { result::memcpy_htod_async(dst.0, staged, stream.get()) }?;
        let copied = self.events.pop().map_or_else(CuEvent::ordering, Ok)?;
        copied.record(stream)?;
        self.parts.push_back((start, copied));
        self.next = start + bytes;
        Ok(())
    }

    /// Where `bytes` in a row are free; waits for the oldest parts until they are.
    fn room_for(&mut self, bytes: usize) -> Result<usize, DriverError> {
        loop {
            let Some((oldest, _)) = self.parts.front() else { return Ok(0) };
            if self.next > *oldest {
                if self.next + bytes <= RING_BYTES {
                    return Ok(self.next);
                }
                self.next = 0;
            }
            if self.next + bytes <= *oldest {
                return Ok(self.next);
            }
            if let Some((_, copied)) = self.parts.pop_front() {
                copied.sync()?;
                self.events.push(copied);
            }
        }
    }
}

/// The ring, and the stream of the copies that go on beside the work.
pub(super) struct Staging {
    ring: Option<Ring>,
    ahead: Stream,
    /// Where a copy ahead may begin, then where it ends.
    copies: HashMap<CopyId, CuEvent>,
    issued: u64,
}

impl Staging {
    pub(super) fn new() -> Result<Self, DriverError> {
        Ok(Self { ring: None, ahead: Stream::new()?, copies: HashMap::new(), issued: 0 })
    }

    /// Queues a copy between the work of `compute` that is queued and that which will be. `src`
    /// may change as soon as this returns.
    pub(super) fn copy(
        &mut self,
        compute: &Stream,
        dst: DevicePtr,
        src: &[u8],
    ) -> Result<(), DriverError> {
        send(&mut self.ring, compute, dst, src)
    }

    /// An id for a copy that may start when the work queued on `compute` is done.
    pub(super) fn staging_slot(&mut self, compute: &Stream) -> Result<CopyId, DriverError> {
        let free = CuEvent::ordering()?;
        free.record(compute)?;
        self.issued += 1;
        let copy = CopyId(self.issued);
        self.copies.insert(copy, free);
        Ok(copy)
    }

    /// Queues the copy. `src` may change as soon as this returns.
    pub(super) fn copy_ahead(
        &mut self,
        copy: CopyId,
        dst: DevicePtr,
        src: &[u8],
    ) -> Result<(), DriverError> {
        let point =
            self.copies.get(&copy).ok_or(DriverError(CUresult::CUDA_ERROR_INVALID_HANDLE))?;
        self.ahead.wait(point)?;
        let sent = send(&mut self.ring, &self.ahead, dst, src);
        // Even where a part failed: the others are on their way.
        sent.and(point.record(&self.ahead))
    }

    /// Makes what will be queued on `compute` wait for the copy.
    pub(super) fn arrive(&mut self, compute: &Stream, copy: CopyId) -> Result<(), DriverError> {
        self.copies.remove(&copy).map_or(Ok(()), |point| compute.wait(&point))
    }
}

fn send(
    ring: &mut Option<Ring>,
    stream: &Stream,
    dst: DevicePtr,
    src: &[u8],
) -> Result<(), DriverError> {
    let ring = match ring {
        Some(ring) => ring,
        none => none.insert(Ring::new()?),
    };
    let mut parts = src.chunks(PART_BYTES).enumerate();
    parts.try_for_each(|(i, part)| ring.send(stream, dst.offset(i * PART_BYTES), part))
}
