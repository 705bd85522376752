//! Memory that the system refuses is an error with exit code 5, not an abort.
//!
//! Large pieces of memory are planned and asked for with a chance to fail (see `may_fail`).
//! What is small is not, and stable Rust aborts where it cannot be had: the allocator here ends
//! the process first, with a line that says so.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;

use crate::error::Kind;

thread_local! {
    // Neither made nor dropped by code that allocates.
    static MAY_FAIL: Cell<bool> = const { Cell::new(false) };
}

/// The system's allocator; where it has nothing left the process ends with exit code 5. The
/// programs `engine` and `bench` use it as their global allocator; a library leaves that choice
/// to its user.
pub struct Allocator;

// SAFETY: all calls go to the system's allocator as they came, and so do its results.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those of the system's allocator.
        given(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        given(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as above.
        given(unsafe { System.realloc(ptr, layout, new_size) }, new_size)
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

fn given(ptr: *mut u8, bytes: usize) -> *mut u8 {
    if ptr.is_null() && !MAY_FAIL.get() {
        end(bytes)
    }
    ptr
}

/// Runs `f`, which handles memory that it does not get by itself (`try_reserve`).
pub(super) fn may_fail<R>(f: impl FnOnce() -> R) -> R {
    let before = MAY_FAIL.replace(true);
    let result = f();
    MAY_FAIL.set(before);
    result
}

/// Ends the process with exit code 5 and a line on stderr, taking no memory. Nothing is cleaned
/// up: files are complete or absent whenever a process ends.
pub fn end(bytes: usize) -> ! {
    let mut line = Text { bytes: [0; 400], len: 0 };
    // The text fits.
    let _ = writeln!(
        line,
        "error: out of memory: expected {bytes} bytes more, found none left for this process; the \
         machine, a cgroup, ulimit -v or ulimit -d bounds it (engine doctor says which): free \
         memory or raise that bound, or use fewer --threads, a smaller train.batch or train.accum=2"
    );
    // SAFETY: descriptor 2 is only borrowed, as nothing closes it.
    let mut stderr = ManuallyDrop::new(unsafe { File::from_raw_fd(2) });
    let _ = stderr.write_all(&line.bytes[..line.len]);
    signal_hook::low_level::exit(Kind::Memory.exit_code().into())
}

/// Text that takes no memory of the heap's.
struct Text {
    bytes: [u8; 400],
    len: usize,
}

impl std::fmt::Write for Text {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        let end = (self.len + s.len()).min(self.bytes.len());
        self.bytes[self.len..end].copy_from_slice(&s.as_bytes()[..end - self.len]);
        self.len = end;
        Ok(())
    }
}

/// Where addresses are limited, lets all threads share one arena of the C library's allocator:
/// otherwise each takes 64 MiB of addresses for itself, most of which hold nothing. Must be
/// called before threads are started. Results do not depend on it.
pub fn share_arenas_where_limited() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if super::host::addresses_are_limited() {
        const M_ARENA_MAX: std::ffi::c_int = -8;
        unsafe extern "C" {
            fn mallopt(param: std::ffi::c_int, value: std::ffi::c_int) -> std::ffi::c_int;
        }
        // SAFETY: a plain call that changes how many arenas are made from now on.
        unsafe { mallopt(M_ARENA_MAX, 1) };
    }
}
