//! NVIDIA GPUs through the CUDA driver, which is loaded when it is asked for: the program
//! neither needs it to build nor to start. This folder alone names the bindings.

mod nvtx;
mod probe;
mod raw;
mod staging;

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;

pub use probe::{Gpu, Installed, Release, installed};

use super::driver::{CopyId, DevicePtr, Driver, Event, Hardware, Launch};
use super::gpu_code::GPU_CODE;
use super::kernels;
use crate::error::{Error, Result};
use nvtx::Nvtx;
use probe::explain;
use raw::{Context, CuEvent, Function, Module, Stream};
use staging::Staging;

/// Set to 1, each launch is waited for, so that a fault is reported with the kernel that made
/// it.
const SYNC_VARIABLE: &str = "ENGINE_CUDA_SYNC";

/// A kernel that can be launched.
struct Entry {
    function: Function,
    /// Shared memory that it declares.
    static_bytes: u32,
    /// Dynamic shared memory that it may ask for now; more must be allowed first.
    shared_bytes: AtomicU32,
}

/// A GPU: one context, one stream of work in order, one of copies that go on beside it.
pub struct Cuda {
    gpu: Gpu,
    /// By name: all of the kernel table.
    functions: HashMap<&'static str, Entry>,
    nvtx: Option<Nvtx>,
    sync_each: bool,
    /// Most shared memory of a block.
    shared_limit_bytes: u32,
    // From here on in the order in which they are given back.
    _modules: Vec<Module>,
    staging: Mutex<Staging>,
    compute: Stream,
    context: Context,
}

impl Cuda {
    /// Opens the GPU with an index and loads all kernels onto it. Errors (exit 5) say what is
    /// missing: driver, GPU, kernels for it.
    pub fn open(index: usize) -> Result<Self> {
        let installed = installed()?;
        let gpu = installed.gpu(index)?.clone();
        installed.target_for(&gpu)?;
        let failed = |e| explain(format_args!("cannot open cuda:{index} ({})", gpu.name), e);
        let context = Context::new(index).map_err(failed)?;
        context.keep_freed_memory().map_err(failed)?;
        let shared_limit_bytes = context
            .attribute(
                sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
            )
            .map_err(failed)? as u32;
        let compute = Stream::new().map_err(failed)?;
        let staging = Mutex::new(Staging::new().map_err(failed)?);
        let (modules, functions) = load()?;
        let sync_each = std::env::var(SYNC_VARIABLE).is_ok_and(|v| !v.is_empty() && v != "0");
        Ok(Self {
            gpu,
            functions,
            nvtx: Nvtx::load(),
            sync_each,
            shared_limit_bytes,
            _modules: modules,
            staging,
            compute,
            context,
        })
    }

    /// The GPU.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Memory of the GPU that nobody uses, and all of it, in bytes.
    pub fn memory_bytes(&self) -> Result<(usize, usize)> {
        self.call("asking for memory", result::mem_get_info)
    }

    fn staging(&self) -> MutexGuard<'_, Staging> {
        self.staging.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls the driver with the context current; errors name the device and what was done.
    fn call<T>(
        &self,
        what: impl fmt::Display,
        f: impl FnOnce() -> Result<T, DriverError>,
    ) -> Result<T> {
        let done = self.context.enter().and_then(|()| f());
        done.map_err(|e| self.explain(what, e))
    }

    fn explain(&self, what: impl fmt::Display, e: DriverError) -> Error {
        let error = explain(format_args!("{} failed while {what}", self.name()), e);
        let of_kernel = !matches!(
            e.0,
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY | sys::CUresult::CUDA_ERROR_INVALID_VALUE
        );
        if of_kernel && !self.sync_each {
            return Error::device(format!(
                "{error}; the cause may be a kernel that was launched before: run again with \
                 {SYNC_VARIABLE}=1 to have it named"
            ));
        }
        error
    }

    fn out_of_memory(&self, bytes: usize) -> Error {
        let mib = |bytes: usize| bytes.div_ceil(1 << 20);
        let left = self.memory_bytes().map_or(String::new(), |(free, total)| {
            format!(" (the GPU has {} MiB, of which {} are free)", mib(total), free >> 20)
        });
        let (name, needed) = (self.name(), mib(bytes));
        Error::memory(format!("out of memory on {name}: {needed} MiB more were needed{left}"))
    }

    /// Allows a kernel more dynamic shared memory than it had so far.
    fn allow_shared(&self, entry: &Entry, launch: &Launch) -> Result<()> {
        let bytes = launch.geometry.shared_bytes;
        if bytes <= entry.shared_bytes.load(Ordering::Relaxed) {
            return Ok(());
        }
        if bytes + entry.static_bytes > self.shared_limit_bytes {
            return Err(Error::device(format!(
                "cannot launch {launch}: with the {} bytes that the kernel declares itself it needs \
                 more than the {} bytes of shared memory that a block on {} has at most",
                entry.static_bytes,
                self.shared_limit_bytes,
                self.name()
            )));
        }
        let what = format_args!("allowing shared memory to {launch}");
        self.call(what, || entry.function.allow_shared(bytes))?;
        entry.shared_bytes.fetch_max(bytes, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        // The fields that follow are given back in this context, after all work. An error was
        // reported where the work's results are awaited.
        let _ = self.context.enter().and_then(|()| self.compute.sync());
    }
}

/// Loads the program's GPU code and finds every kernel of the table in it.
fn load() -> Result<(Vec<Module>, HashMap<&'static str, Entry>)> {
    let table = kernels::kernels();
    let (mut modules, mut functions) = (Vec::new(), HashMap::new());
    for code in GPU_CODE.modules {
        let failed = |e| explain(format_args!("cannot load the kernels of {}", code.source), e);
        let module = Module::load(code.fatbin).map_err(failed)?;
        for name in code.kernels()? {
            let kernel = table.iter().find(|k| k.name == name).ok_or_else(|| {
                let source = code.source;
                Error::device(format!("{name} of {source} was not defined by KERNEL"))
            })?;
            let c_name = CString::new(name).unwrap_or_default();
            let function = module.function(&c_name).map_err(failed)?;
            use sys::CUfunction_attribute::{
                CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as DYNAMIC,
                CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES as STATIC,
            };
            let attribute = |a| function.attribute(a).map_err(failed);
            let static_bytes = attribute(STATIC)? as u32;
            let shared_bytes = AtomicU32::new(attribute(DYNAMIC)? as u32);
            functions.insert(kernel.name, Entry { function, static_bytes, shared_bytes });
        }
        modules.push(module);
    }
    match table.iter().find(|k| !functions.contains_key(k.name)) {
        Some(k) => Err(Error::device(format!("{} of {} was not compiled by nvcc", k.name, k.file))),
        None => Ok((modules, functions)),
    }
}

impl Driver for Cuda {
    fn name(&self) -> String {
        format!("cuda:{}", self.gpu.index)
    }

    fn alloc(&self, bytes: usize) -> Result<DevicePtr> {
        let entered = self.context.enter();
        // SAFETY: the driver's contract says that the memory is not initialised.
        let made =
            entered.and_then(|()| unsafe { result::malloc_async(self.compute.get(), bytes) });
        match made {
            Ok(ptr) => Ok(DevicePtr(ptr)),
            Err(e) if e.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                Err(self.out_of_memory(bytes))
            }
            Err(e) => Err(self.explain(format_args!("allocating {bytes} bytes"), e)),
        }
    }

    fn free(&self, ptr: DevicePtr) {
        // SAFETY: the pool frees what `alloc` gave, once; the stream keeps the order.
        let freed = self
            .call("freeing memory", || unsafe { result::free_async(ptr.0, self.compute.get()) });
        if let Err(e) = freed {
            tracing::warn!("{e}");
        }
    }

    fn copy_to_device(&self, dst: DevicePtr, src: &[u8]) -> Result<()> {
        let what = format_args!("copying {} bytes to it", src.len());
        self.call(what, || self.staging().copy(&self.compute, dst, src))
    }

    fn copy_to_host(&self, dst: &mut [u8], src: DevicePtr) -> Result<()> {
        let what = format!("copying {} bytes from it", dst.len());
        self.call(what, || {
            // SAFETY: `dst` outlives the copy, which is waited for.
            let queued = unsafe { result::memcpy_dtoh_async(dst, src.0, self.compute.get()) };
            queued.and(self.compute.sync())
        })
    }

    fn copy(&self, dst: DevicePtr, src: DevicePtr, bytes: usize) -> Result<()> {
        // SAFETY: both are pieces of the device's memory, held by the caller.
        self.call(format_args!("copying {bytes} bytes within it"), || unsafe {
            result::memcpy_dtod_async(dst.0, src.0, bytes, self.compute.get())
        })
    }

    fn fill(&self, dst: DevicePtr, value: u8, bytes: usize) -> Result<()> {
        // SAFETY: a piece of the device's memory, held by the caller.
        self.call(format_args!("filling {bytes} bytes"), || unsafe {
            result::memset_d8_async(dst.0, value, bytes, self.compute.get())
        })
    }

    fn launch(&self, launch: &Launch) -> Result<()> {
        let kernel = kernels::checked(launch, self.shared_limit_bytes)?;
        let entry = self.functions.get(kernel.name).ok_or_else(|| {
            Error::device(format!("{launch}: this kernel was not loaded onto {}", self.name()))
        })?;
        self.allow_shared(entry, launch)?;
        // Each argument by its address; CUDA copies them before it returns.
        let pointers = launch.pointers.iter().map(|p| (&raw const p.0).cast::<c_void>());
        let mut arguments: Vec<*mut c_void> = pointers
            .chain([launch.params.as_ptr().cast()])
            .map(<*const c_void>::cast_mut)
            .collect();
        let [gx, gy, gz] = launch.geometry.grid;
        let [bx, by, bz] = launch.geometry.block;
        let shared_bytes = launch.geometry.shared_bytes;
        self.call(format_args!("running {launch}"), || {
            // SAFETY: number and size of the arguments were checked against the kernel's; the
            // op answers for what it does with its pointers.
            unsafe {
                result::launch_kernel(
                    entry.function.get(),
                    (gx, gy, gz),
                    (bx, by, bz),
                    shared_bytes,
                    self.compute.get(),
                    &mut arguments,
                )
            }?;
            if self.sync_each { self.compute.sync() } else { Ok(()) }
        })
    }

    fn shared_limit_bytes(&self) -> u32 {
        self.shared_limit_bytes
    }

    fn sync(&self) -> Result<()> {
        self.call("finishing the queued work", || self.compute.sync())
    }

    fn record_event(&self) -> Result<Event> {
        self.call("taking the time", || {
            let event = CuEvent::timing()?;
            event.record(&self.compute)?;
            Ok(Event::new(event))
        })
    }

    fn ms_between(&self, from: &Event, to: &Event) -> Result<f32> {
        let [from, to] = [from, to].map(Event::of_driver::<CuEvent>);
        self.call("taking the time", || {
            to.sync()?;
            to.ms_since(from)
        })
    }

    fn available_bytes(&self) -> Result<Option<usize>> {
        self.memory_bytes().map(|(free, _)| Some(free))
    }

    fn staging_slot(&self) -> Result<CopyId> {
        self.call("noting where its work stands", || self.staging().staging_slot(&self.compute))
    }

    fn copy_ahead(&self, copy: CopyId, dst: DevicePtr, src: &[u8]) -> Result<()> {
        let what = format_args!("copying {} bytes to it", src.len());
        self.call(what, || self.staging().copy_ahead(copy, dst, src))
    }

    fn arrive(&self, copy: CopyId) -> Result<()> {
        self.call("awaiting a copy", || self.staging().arrive(&self.compute, copy))
    }

    fn hardware(&self) -> Hardware {
        use sys::CUdevice_attribute::{
            CU_DEVICE_ATTRIBUTE_CLOCK_RATE as CLOCK_KHZ,
            CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE as L2_BYTES,
            CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE as MEMORY_CLOCK_KHZ,
        };
        let known = |a| self.context.attribute(a).ok().and_then(|v| u32::try_from(v).ok());
        let known = |a| known(a).filter(|v| *v > 0);
        Hardware {
            name: Some(self.gpu.name.clone()),
            driver: probe::driver_release(),
            clock_mhz: known(CLOCK_KHZ).map(|v| v / 1000),
            memory_clock_mhz: known(MEMORY_CLOCK_KHZ).map(|v| v / 1000),
            l2_bytes: known(L2_BYTES).map(|v| v as usize),
        }
    }

    fn profile(&self, on: bool) -> Result<()> {
        self.call("telling the profiler", || {
            // SAFETY: plain calls; without a profiler they do nothing.
            unsafe { if on { sys::cuProfilerStart() } else { sys::cuProfilerStop() } }.result()
        })
    }

    fn range_begins(&self, name: &str) {
        if let Some(nvtx) = &self.nvtx {
            nvtx.push(name);
        }
    }

    fn range_ends(&self) {
        if let Some(nvtx) = &self.nvtx {
            nvtx.pop();
        }
    }
}
