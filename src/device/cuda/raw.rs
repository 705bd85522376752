//! CUDA's handles as values that give themselves back. All need a current context
//! ([`Context::enter`]) of the device that they were made on.

use std::ffi::{CStr, CString, c_void};

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;

/// The device's primary context.
pub(super) struct Context {
    device: sys::CUdevice,
    context: sys::CUcontext,
}

// SAFETY: CUDA's handles may be used from any thread in which the context is current.
unsafe impl Send for Context {}
// SAFETY: as for Send.
unsafe impl Sync for Context {}

impl Context {
    /// The context of the device with this index, current in this thread.
    pub(super) fn new(index: usize) -> Result<Self, DriverError> {
        let device = result::device::get(index as i32)?;
        // SAFETY: the driver just named the device.
        let context = unsafe { result::primary_ctx::retain(device) }?;
        let this = Self { device, context };
        this.enter()?;
        Ok(this)
    }

    /// Makes it current in this thread.
    pub(super) fn enter(&self) -> Result<(), DriverError> {
        // SAFETY: the context is alive as long as self.
        unsafe { result::ctx::set_current(self.context) }
    }

    /// A property of the device.
    pub(super) fn attribute(&self, attribute: sys::CUdevice_attribute) -> Result<i32, DriverError> {
        // SAFETY: the device is one that the driver named.
        unsafe { result::device::get_attribute(self.device, attribute) }
    }

    /// Keeps freed memory for the next allocation instead of giving it back at each
    /// synchronisation, which is the default.
    pub(super) fn keep_freed_memory(&self) -> Result<(), DriverError> {
        let mut threshold = u64::MAX;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        // SAFETY: the attribute is a u64, which outlives the call.
        unsafe {
            let pool = result::device::get_default_mem_pool(self.device)?;
            result::mem_pool::set_attribute(pool, attribute, (&raw mut threshold).cast())
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: it was retained once, in `new`. Nothing can be done about a failure.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

/// A queue of work.
pub(super) struct Stream(sys::CUstream);

// SAFETY: as of Context.
unsafe impl Send for Stream {}
// SAFETY: as of Context.
unsafe impl Sync for Stream {}

impl Stream {
    /// A stream that does not wait for the default one.
    pub(super) fn new() -> Result<Self, DriverError> {
        result::stream::create(result::stream::StreamKind::NonBlocking).map(Self)
    }

    /// For calls of the bindings; valid as long as self.
    pub(super) fn get(&self) -> sys::CUstream {
        self.0
    }

    /// Waits for the work queued so far.
    pub(super) fn sync(&self) -> Result<(), DriverError> {
        // SAFETY: the stream is alive.
        unsafe { result::stream::synchronize(self.0) }
    }

    /// Makes work queued from now on wait for an event.
    pub(super) fn wait(&self, event: &CuEvent) -> Result<(), DriverError> {
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: both are alive.
        unsafe { result::stream::wait_event(self.0, event.0, flags) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: nobody else has it. Nothing can be done about a failure.
        let _ = unsafe { result::stream::destroy(self.0) };
    }
}

/// A point in a stream's work.
pub(super) struct CuEvent(sys::CUevent);

// SAFETY: as of Context.
unsafe impl Send for CuEvent {}

impl CuEvent {
    /// One that only orders work.
    pub(super) fn ordering() -> Result<Self, DriverError> {
        result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING).map(Self)
    }

    /// One that also takes the time.
    pub(super) fn timing() -> Result<Self, DriverError> {
        result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT).map(Self)
    }

    /// Puts it behind the work queued so far.
    pub(super) fn record(&self, stream: &Stream) -> Result<(), DriverError> {
        // SAFETY: both are alive.
        unsafe { result::event::record(self.0, stream.0) }
    }

    /// Waits until it is reached; at once where it was never recorded.
    pub(super) fn sync(&self) -> Result<(), DriverError> {
        // SAFETY: the event is alive.
        unsafe { result::event::synchronize(self.0) }
    }

    /// Milliseconds from `start` to this one, both reached and of [`CuEvent::timing`].
    pub(super) fn ms_since(&self, start: &CuEvent) -> Result<f32, DriverError> {
        // SAFETY: both are alive.
        unsafe { result::event::elapsed(start.0, self.0) }
    }
}

impl Drop for CuEvent {
    fn drop(&mut self) {
        // SAFETY: nobody else has it. Nothing can be done about a failure.
        let _ = unsafe { result::event::destroy(self.0) };
    }
}

/// Page-locked host memory, which the GPU copies from by itself.
pub(super) struct Pinned {
    memory: *mut c_void,
    bytes: usize,
}

// SAFETY: it is memory that one value owns.
unsafe impl Send for Pinned {}

impl Pinned {
    /// Zeroed memory.
    pub(super) fn new(bytes: usize) -> Result<Self, DriverError> {
        // SAFETY: the memory is written before anything can read it.
        let memory = unsafe { result::malloc_host(bytes, 0) }?;
        // SAFETY: it has this size.
        unsafe { memory.cast::<u8>().write_bytes(0, bytes) };
        Ok(Self { memory, bytes })
    }

    /// The memory. The caller waits for copies out of it before writing.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: initialised memory of this size that self owns.
        unsafe { std::slice::from_raw_parts_mut(self.memory.cast(), self.bytes) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: it came from `malloc_host`. Nothing can be done about a failure.
        let _ = unsafe { result::free_host(self.memory) };
    }
}

/// Loaded machine code.
pub(super) struct Module(sys::CUmodule);

// SAFETY: as of Context.
unsafe impl Send for Module {}
// SAFETY: as of Context.
unsafe impl Sync for Module {}

impl Module {
    /// Loads a fatbin: the driver takes what fits the GPU.
    pub(super) fn load(fatbin: &[u8]) -> Result<Self, DriverError> {
        // The driver reads 64-bit words.
        let mut words = vec![0u64; fatbin.len().div_ceil(8)];
        bytemuck::cast_slice_mut(&mut words)[..fatbin.len()].copy_from_slice(fatbin);
        // SAFETY: a fatbin tells its own length; the driver copies what it keeps.
        unsafe { result::module::load_data(words.as_ptr().cast()) }.map(Self)
    }

    /// One of its kernels; it lives as long as the module.
    pub(super) fn function(&self, name: &CStr) -> Result<Function, DriverError> {
        let name = CString::from(name);
        // SAFETY: the module is loaded.
        unsafe { result::module::get_function(self.0, name) }.map(Function)
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: nobody launches its kernels any more. Nothing can be done about a failure.
        let _ = unsafe { result::module::unload(self.0) };
    }
}

/// A kernel of a loaded module.
pub(super) struct Function(sys::CUfunction);

// SAFETY: as of Context.
unsafe impl Send for Function {}
// SAFETY: as of Context.
unsafe impl Sync for Function {}

impl Function {
    /// For calls of the bindings.
    pub(super) fn get(&self) -> sys::CUfunction {
        self.0
    }

    /// One of its properties.
    pub(super) fn attribute(
        &self,
        attribute: sys::CUfunction_attribute,
    ) -> Result<i32, DriverError> {
        // SAFETY: the module is loaded.
        unsafe { result::function::get_function_attribute(self.0, attribute) }
    }

    /// The most dynamic shared memory that a launch may ask for.
    pub(super) fn allow_shared(&self, bytes: u32) -> Result<(), DriverError> {
        let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the module is loaded.
        unsafe { result::function::set_function_attribute(self.0, attribute, bytes as i32) }
    }
}
