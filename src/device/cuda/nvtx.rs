//! Names for a profiler's time line, where NVIDIA's tools extension library is installed.

use std::ffi::{CString, c_char, c_int};

use libloading::Library;

type Push = unsafe extern "C" fn(*const c_char) -> c_int;
type Pop = unsafe extern "C" fn() -> c_int;

/// The library's two functions that this program calls.
pub(super) struct Nvtx {
    push: Push,
    pop: Pop,
    _library: Library,
}

impl Nvtx {
    /// None where the library is not there.
    pub(super) fn load() -> Option<Self> {
        // SAFETY: the library is NVIDIA's, and these are its functions' types.
        unsafe {
            let library = Library::new("libnvToolsExt.so.1").ok()?;
            let push = *library.get::<Push>(b"nvtxRangePushA").ok()?;
            let pop = *library.get::<Pop>(b"nvtxRangePop").ok()?;
            Some(Self { push, pop, _library: library })
        }
    }

    /// Begins a range of this thread's time, inside of those that are open.
    pub(super) fn push(&self, name: &str) {
        let name = CString::new(name.replace('\0', " ")).unwrap_or_default();
        // SAFETY: a C string that outlives the call.
        unsafe { (self.push)(name.as_ptr()) };
    }

    /// Ends the one that began last.
    pub(super) fn pop(&self) {
        // SAFETY: it takes nothing; without an open range it does nothing.
        unsafe { (self.pop)() };
    }
}
