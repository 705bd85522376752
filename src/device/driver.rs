//! The seam below which a device lies: everything that launches kernels goes through
//! [`Driver`], whether they run on an NVIDIA GPU or on the emulator, which executes the same
//! sources on the host.

use crate::error::Result;

/// Address of memory on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DevicePtr(pub u64);

/// How a kernel is started: chosen beside its parameters, in the op's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block.
    pub shared_bytes: u32,
}

/// A device that holds memory and runs kernels of `kernels/`, by name. Work is queued in
/// order; reading back waits for it.
pub trait Driver: Send + Sync {
    /// Name for messages, say `cuda:0`.
    fn name(&self) -> String;
    /// Device memory, uninitialised.
    fn alloc(&self, bytes: usize) -> Result<DevicePtr>;
    /// Gives memory back once the work queued so far is done.
    fn free(&self, ptr: DevicePtr);
    /// Copies host memory to the device.
    fn copy_to_device(&self, dst: DevicePtr, src: &[u8]) -> Result<()>;
    /// Copies device memory to the host, after the work queued so far.
    fn copy_to_host(&self, dst: &mut [u8], src: DevicePtr) -> Result<()>;
    /// Queues a kernel. Its arguments are `pointers`, then one `#[repr(C)]` struct by value
    /// (`params`), whose size the driver checks against the kernel's. A failure names `op`,
    /// kernel and shapes.
    fn launch(
        &self,
        op: &str,
        kernel: &str,
        launch: Launch,
        pointers: &[DevicePtr],
        params: &[u8],
    ) -> Result<()>;
    /// Waits until all queued work is done.
    fn sync(&self) -> Result<()>;
    /// Device time that `work` takes, in milliseconds.
    fn time_ms(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<f32>;
}
