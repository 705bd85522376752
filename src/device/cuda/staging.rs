//! Host memory on its way to the device: through two page-locked buffers in turn, on a stream
//! of its own, so that the host goes on while copies and kernels run.

use cudarc::driver::result::{self, DriverError};

use super::raw::{Event, Pinned, Stream};
use crate::device::DevicePtr;

const BUFFER_BYTES: usize = 8 << 20;

/// A buffer, and the end of the last copy out of it.
struct Buffer {
    memory: Pinned,
    copied: Event,
}

/// The buffers; made when first needed.
pub struct Staging {
    stream: Stream,
    /// Where the other stream stands.
    ordered: Event,
    buffers: Option<[Buffer; 2]>,
    next: usize,
}

impl Staging {
    pub fn new() -> Result<Self, DriverError> {
        Ok(Self { stream: Stream::new()?, ordered: Event::ordering()?, buffers: None, next: 0 })
    }

    /// Queues a copy between the work of `compute` that is queued and that which will be. `src`
    /// may change as soon as this returns.
    pub fn copy(
        &mut self,
        compute: &Stream,
        dst: DevicePtr,
        src: &[u8],
    ) -> Result<(), DriverError> {
        let buffers = match &mut self.buffers {
            Some(buffers) => buffers,
            none => none.insert([Self::buffer()?, Self::buffer()?]),
        };
        self.ordered.record(compute)?;
        self.stream.wait(&self.ordered)?;
        for (i, part) in src.chunks(BUFFER_BYTES).enumerate() {
            let buffer = &mut buffers[self.next];
            self.next ^= 1;
            buffer.copied.sync()?;
            let staged = &mut buffer.memory.bytes_mut()[..part.len()];
            staged.copy_from_slice(part);
            let to = dst.offset(i * BUFFER_BYTES);
            // SAFETY: the buffer stays as it is until `copied`, which is waited for above; the
            // caller answers for `dst`.
            unsafe { result::memcpy_htod_async(to.0, staged, self.stream.get()) }?;
            buffer.copied.record(&self.stream)?;
        }
        self.ordered.record(&self.stream)?;
        compute.wait(&self.ordered)
    }

    fn buffer() -> Result<Buffer, DriverError> {
        Ok(Buffer { memory: Pinned::new(BUFFER_BYTES)?, copied: Event::ordering()? })
    }
}
