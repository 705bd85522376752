//! The emulator itself, above its C interface.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, c_int};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use super::counters::{Counters, Races};
use super::{ffi, places};
use crate::device::driver::{CopyId, DevicePtr, Driver, Event, Launch};
use crate::device::host;
use crate::device::kernels::{MOST_SHARED_BYTES, checked};
use crate::error::{Error, Result};

/// The emulator with its own host threads. Global memory is one for the process.
pub struct Emulator {
    device: Mutex<Handle>,
    seed: AtomicU64,
    races: AtomicU32,
    counts: AtomicBool,
    shared_limit_bytes: AtomicU32,
    copies: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// Destination and bytes of copies that have not arrived.
    arriving: Mutex<HashMap<CopyId, (DevicePtr, Vec<u8>)>>,
}

/// Owns the host threads.
struct Handle(*mut ffi::Device);

// SAFETY: the device is used by one thread at a time, which holds the mutex around it.
unsafe impl Send for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: opened by `Emulator::new`, closed once, here.
        unsafe { ffi::emu_close(self.0) }
    }
}

/// The kernels that are linked in, with their numbers.
pub(super) fn linked() -> &'static HashMap<&'static str, u32> {
    static NUMBERS: OnceLock<HashMap<&'static str, u32>> = OnceLock::new();
    NUMBERS.get_or_init(|| {
        let name = |number| {
            // SAFETY: numbers below the count are kernels'; the list is filled before `main`, and
            // its strings are literals.
            let name = unsafe { CStr::from_ptr(ffi::emu_kernel(number).name) };
            (name.to_str().unwrap_or_default(), number)
        };
        // SAFETY: a plain call.
        (0..unsafe { ffi::emu_kernel_count() }).map(name).collect()
    })
}

/// Turns what a function of the emulator says into a result.
fn call(f: impl FnOnce(*mut ffi::Message) -> c_int) -> Result<()> {
    let mut message = Box::new(ffi::Message { text: [0; 8000] });
    if f(&mut *message) == 0 {
        return Ok(());
    }
    // SAFETY: the emulator ends its text with a zero.
    let text = unsafe { CStr::from_ptr(message.text.as_ptr()) }.to_string_lossy();
    Err(Error::device(places::resolve(&text)))
}

impl Emulator {
    /// An emulator that runs blocks on a number of host threads (0 = one a core).
    pub fn new(threads: usize) -> Result<Self> {
        let threads = u32::try_from(host::threads(threads)).unwrap_or(u32::MAX).min(1024);
        // SAFETY: plain call; a null pointer means that it failed.
        let device = unsafe { ffi::emu_open(threads) };
        if device.is_null() {
            return Err(Error::device(format!(
                "the emulator gets no address space or threads for {threads} workers; look at \
                 ulimit -v and vm.overcommit_memory, or use fewer threads"
            )));
        }
        Ok(Self {
            device: Mutex::new(Handle(device)),
            seed: AtomicU64::new(0),
            races: AtomicU32::new(Races::Shared as u32),
            counts: AtomicBool::new(false),
            shared_limit_bytes: AtomicU32::new(MOST_SHARED_BYTES),
            copies: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            arriving: Mutex::default(),
        })
    }

    /// Where launches from now on look for races; at first on shared memory. A kernel with a
    /// race that nobody looks for runs on, and may give other results under another seed.
    pub fn check_races(&self, place: Races) {
        self.races.store(place as u32, Ordering::Relaxed);
    }

    /// Gives blocks of launches from now on only so much shared memory, as smaller GPUs do; at
    /// first it is 227 KiB, which is also the most.
    pub fn limit_shared(&self, bytes: u32) {
        self.shared_limit_bytes.store(bytes.min(MOST_SHARED_BYTES), Ordering::Relaxed);
    }

    /// Whether launches from now on are counted, which takes about ten times as long.
    pub fn count(&self, on: bool) {
        self.counts.store(on, Ordering::Relaxed);
    }

    /// What was counted since the last call, by kernel; kernels that did not run are left out.
    pub fn take_counters(&self) -> BTreeMap<&'static str, Counters> {
        let device = self.device();
        // SAFETY: the device is open and ours while the lock is held.
        let counted = linked()
            .iter()
            .map(|(name, number)| (*name, unsafe { ffi::emu_counters(device.0, *number) }))
            .filter(|(_, c)| c.launches > 0)
            .collect();
        // SAFETY: as above.
        unsafe { ffi::emu_clear_counters(device.0) };
        counted
    }

    /// Bytes that were copied [from the host to it, from it to the host] since the last call.
    pub fn take_transfers(&self) -> [u64; 2] {
        [&self.bytes_in, &self.bytes_out].map(|bytes| bytes.swap(0, Ordering::Relaxed))
    }

    fn device(&self) -> MutexGuard<'_, Handle> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn arriving(&self) -> MutexGuard<'_, HashMap<CopyId, (DevicePtr, Vec<u8>)>> {
        self.arriving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Driver for Emulator {
    fn name(&self) -> String {
        "emulator".into()
    }

    fn alloc(&self, bytes: usize) -> Result<DevicePtr> {
        let mut address = 0;
        // SAFETY: both pointers are valid for the call.
        call(|m| unsafe { ffi::emu_alloc(bytes as u64, &mut address, m) })
            .map_err(|e| Error::memory(e.to_string()))?;
        Ok(DevicePtr(address))
    }

    fn free(&self, ptr: DevicePtr) {
        // SAFETY: the emulator checks the address.
        let freed = call(|m| unsafe { ffi::emu_free(ptr.0, m) });
        debug_assert!(freed.is_ok(), "{freed:?}");
    }

    fn copy_to_device(&self, dst: DevicePtr, src: &[u8]) -> Result<()> {
        self.bytes_in.fetch_add(src.len() as u64, Ordering::Relaxed);
        // SAFETY: the source is a slice; the emulator checks the destination.
        call(|m| unsafe { ffi::emu_copy_in(dst.0, src.as_ptr().cast(), src.len() as u64, m) })
    }

    fn copy_to_host(&self, dst: &mut [u8], src: DevicePtr) -> Result<()> {
        self.bytes_out.fetch_add(dst.len() as u64, Ordering::Relaxed);
        // SAFETY: the destination is a slice; the emulator checks the source.
        call(|m| unsafe { ffi::emu_copy_out(dst.as_mut_ptr().cast(), src.0, dst.len() as u64, m) })
    }

    fn copy(&self, dst: DevicePtr, src: DevicePtr, bytes: usize) -> Result<()> {
        // SAFETY: the emulator checks both addresses.
        call(|m| unsafe { ffi::emu_copy(dst.0, src.0, bytes as u64, m) })
    }

    fn fill(&self, dst: DevicePtr, value: u8, bytes: usize) -> Result<()> {
        // SAFETY: the emulator checks the address.
        call(|m| unsafe { ffi::emu_fill(dst.0, value, bytes as u64, m) })
    }

    fn launch(&self, launch: &Launch) -> Result<()> {
        let shared_limit_bytes = self.shared_limit_bytes();
        let kernel = checked(launch, shared_limit_bytes)?;
        let pointers: Vec<u64> = launch.pointers.iter().map(|p| p.0).collect();
        // Copied, so that the struct lies as aligned as its C++ side expects.
        let params: Vec<u64> = launch
            .params
            .chunks(8)
            .map(|c| {
                let mut word = [0; 8];
                word[..c.len()].copy_from_slice(c);
                u64::from_ne_bytes(word)
            })
            .collect();
        let spec = ffi::Launch {
            kernel: linked()[kernel.name],
            grid: launch.geometry.grid,
            block: launch.geometry.block,
            shared_bytes: launch.geometry.shared_bytes,
            shared_limit_bytes,
            races: self.races.load(Ordering::Relaxed),
            counts: u32::from(self.counts.load(Ordering::Relaxed)),
            seed: self.seed.load(Ordering::Relaxed),
            pointers: pointers.as_ptr(),
            params: params.as_ptr().cast(),
        };
        let device = self.device();
        // SAFETY: the device is open and ours while the lock is held; `checked` has compared
        // the number of pointers and the size of the parameters with the kernel's.
        call(|m| unsafe { ffi::emu_launch(device.0, &spec, m) })
            .map_err(|e| e.context(format!("emulator: {launch}")))
    }

    fn shared_limit_bytes(&self) -> u32 {
        self.shared_limit_bytes.load(Ordering::Relaxed)
    }

    fn sync(&self) -> Result<()> {
        // Launches have run when `launch` returns.
        Ok(())
    }

    fn record_event(&self) -> Result<Event> {
        Ok(Event::new(Instant::now()))
    }

    fn ms_between(&self, from: &Event, to: &Event) -> Result<f32> {
        let [from, to] = [from, to].map(Event::of_driver::<Instant>);
        Ok(to.duration_since(*from).as_secs_f32() * 1e3)
    }

    fn available_bytes(&self) -> Result<Option<usize>> {
        // Its global memory is the host's, with a byte of shadow for each.
        Ok(host::available_bytes().map(|bytes| bytes / 2))
    }

    fn staging_slot(&self) -> Result<CopyId> {
        Ok(CopyId(self.copies.fetch_add(1, Ordering::Relaxed)))
    }

    fn copy_ahead(&self, copy: CopyId, dst: DevicePtr, src: &[u8]) -> Result<()> {
        // As late as possible: code that does not wait finds memory that nothing wrote.
        self.arriving().insert(copy, (dst, src.to_vec()));
        Ok(())
    }

    fn arrive(&self, copy: CopyId) -> Result<()> {
        let landed = self.arriving().remove(&copy);
        landed.map_or(Ok(()), |(dst, bytes)| self.copy_to_device(dst, &bytes))
    }

    fn is_checked(&self) -> bool {
        true
    }

    fn handed_out(&self, ptr: DevicePtr, bytes: usize) {
        // SAFETY: the emulator checks the address.
        let done = call(|m| unsafe { ffi::emu_handed_out(ptr.0, bytes as u64, m) });
        debug_assert!(done.is_ok(), "{done:?}");
    }

    fn handed_back(&self, ptr: DevicePtr) {
        // SAFETY: the emulator checks the address.
        let done = call(|m| unsafe { ffi::emu_handed_back(ptr.0, m) });
        debug_assert!(done.is_ok(), "{done:?}");
    }

    fn reschedule(&self, seed: u64) {
        self.seed.store(seed, Ordering::Relaxed);
    }
}
