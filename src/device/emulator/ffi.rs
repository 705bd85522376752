//! The C interface of the emulator: `kernels/host/emulator.h`.

use std::ffi::{c_char, c_int, c_void};

use super::counters::Counters;

/// `EmuKernel`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Kernel {
    pub name: *const c_char,
    pub file: *const c_char,
    pub pointers: u32,
    pub params_bytes: u32,
    pub max_threads: u32,
}

/// `EmuMessage`.
#[repr(C)]
pub(super) struct Message {
    pub text: [c_char; 8000],
}

/// `EmuDevice`.
#[repr(C)]
pub(super) struct Device {
    _private: [u8; 0],
}

/// `EmuLaunch`.
#[repr(C)]
pub(super) struct Launch {
    pub kernel: u32,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared_bytes: u32,
    pub shared_limit_bytes: u32,
    pub races: u32,
    pub counts: u32,
    pub seed: u64,
    pub pointers: *const u64,
    pub params: *const c_void,
}

unsafe extern "C" {
    pub(super) fn emu_kernel_count() -> u32;
    pub(super) fn emu_kernel(i: u32) -> Kernel;
    pub(super) fn emu_alloc(bytes: u64, address: *mut u64, message: *mut Message) -> c_int;
    pub(super) fn emu_free(address: u64, message: *mut Message) -> c_int;
    pub(super) fn emu_copy_in(
        dst: u64,
        src: *const c_void,
        bytes: u64,
        message: *mut Message,
    ) -> c_int;
    pub(super) fn emu_copy_out(
        dst: *mut c_void,
        src: u64,
        bytes: u64,
        message: *mut Message,
    ) -> c_int;
    pub(super) fn emu_copy(dst: u64, src: u64, bytes: u64, message: *mut Message) -> c_int;
    pub(super) fn emu_fill(dst: u64, value: u8, bytes: u64, message: *mut Message) -> c_int;
    pub(super) fn emu_handed_out(address: u64, bytes: u64, message: *mut Message) -> c_int;
    pub(super) fn emu_handed_back(address: u64, message: *mut Message) -> c_int;
    pub(super) fn emu_open(threads: u32) -> *mut Device;
    pub(super) fn emu_close(device: *mut Device);
    pub(super) fn emu_counters(device: *const Device, kernel: u32) -> Counters;
    pub(super) fn emu_clear_counters(device: *mut Device);
    pub(super) fn emu_launch(
        device: *mut Device,
        launch: *const Launch,
        message: *mut Message,
    ) -> c_int;
}
