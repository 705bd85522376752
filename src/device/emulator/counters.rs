//! What the emulator counts, and where it looks for races.

/// Where to look for races: accesses of two threads to the same bytes, one of them a write, that
/// nothing orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Races {
    /// Nowhere.
    Nowhere = 0,
    /// On the shared memory of blocks.
    Shared = 1,
    /// On global memory, too: slow, with eight times the memory that kernels touch.
    Everywhere = 2,
}

/// What the launches of one kernel did. A request is what one instruction of a warp asks for.
#[repr(C)]
#[derive(serde::Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Launches that were counted.
    pub launches: u64,
    /// Bytes that threads read from global memory.
    pub global_read_bytes: u64,
    /// Requests that read global memory.
    pub global_read_requests: u64,
    /// Sectors of 32 bytes that these touched.
    pub global_read_sectors: u64,
    /// Bytes that threads wrote to global memory.
    pub global_written_bytes: u64,
    /// Requests that write global memory.
    pub global_write_requests: u64,
    /// Sectors of 32 bytes that these touched.
    pub global_write_sectors: u64,
    /// Requests to shared memory.
    pub shared_requests: u64,
    /// Turns of the 32 banks of shared memory that these took.
    pub shared_wavefronts: u64,
    /// Turns they would have taken without bank conflicts.
    pub shared_least_wavefronts: u64,
    /// Barriers that a block came to, named ones included.
    pub barriers: u64,
    /// Shuffles and synchronisations of warps.
    pub warp_operations: u64,
    /// Bytes that asynchronous copies read.
    pub copied_bytes: u64,
    /// Multiply-adds of tensor cores.
    pub tensor_issued: u64,
    /// Those of them whose factors are both not zero.
    pub tensor_useful: u64,
    /// Atomic operations of threads.
    pub atomics: u64,
}
