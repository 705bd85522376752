//! The table of the kernels in `kernels/`, as their sources declare them: what each driver
//! checks a launch against before anything runs.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::driver::{Geometry, Launch};
use crate::error::{Error, Result, nearest};

/// Shared memory of a block on the largest GPUs (compute capability 9.0).
pub(super) const MOST_SHARED_BYTES: u32 = 227 << 10;
/// Threads of a block on all compute capabilities.
const MOST_THREADS: u64 = 1024;
/// Blocks of a grid in x, y and z.
const MOST_BLOCKS: [u32; 3] = [i32::MAX as u32, 65_535, 65_535];
/// Threads of a block in x, y and z.
const MOST_THREADS_BY_AXIS: [u32; 3] = [1024, 1024, 64];

/// A kernel as its source declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Its name, say `relu_forward_f32`.
    pub name: &'static str,
    /// The file that defines it.
    pub file: &'static str,
    /// Pointers before the parameters.
    pub pointers: usize,
    /// Size of the struct of parameters.
    pub params_bytes: usize,
    /// Its launch bound: the most threads of a block.
    pub max_threads: u32,
}

/// All kernels, sorted by name, as the build script read them from their sources.
static KERNELS: &[Kernel] = &include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// Those with planted faults, which the emulator's tests launch.
#[cfg(all(test, feature = "emulator"))]
pub(super) static FAULTS: &[Kernel] = &include!(concat!(env!("OUT_DIR"), "/fault_kernels.rs"));
#[cfg(not(all(test, feature = "emulator")))]
static FAULTS: &[Kernel] = &[];

/// All kernels, sorted by name.
pub fn kernels() -> &'static [Kernel] {
    KERNELS
}

/// The kernel that `launch` names, once everything about the launch has been checked: the
/// number of pointers, the size of the parameters, and the geometry, on a device whose blocks have
/// at most `shared_limit_bytes` of shared memory. How much of it a kernel declares itself is not
/// known here.
pub fn checked(launch: &Launch, shared_limit_bytes: u32) -> Result<&'static Kernel> {
    static BY_NAME: OnceLock<HashMap<&'static str, &'static Kernel>> = OnceLock::new();
    let by_name =
        BY_NAME.get_or_init(|| KERNELS.iter().chain(FAULTS).map(|k| (k.name, k)).collect());
    let kernel = by_name.get(launch.kernel).ok_or_else(|| {
        let near = nearest(launch.kernel, kernels().iter().map(|k| k.name));
        Error::device(format!("{launch}: there is no kernel of this name{near}"))
    })?;
    match wrong(kernel, launch, shared_limit_bytes) {
        Some(what) => Err(Error::device(format!("{launch}: {what}"))),
        None => Ok(kernel),
    }
}

/// What is wrong with a launch of `kernel`.
fn wrong(kernel: &Kernel, launch: &Launch, shared_limit_bytes: u32) -> Option<String> {
    let Kernel { file, pointers, params_bytes, max_threads, .. } = kernel;
    if launch.pointers.len() != *pointers {
        let n = launch.pointers.len();
        return Some(format!("{n} pointers, where {file} declares {pointers}"));
    }
    if launch.params.len() != *params_bytes {
        let n = launch.params.len();
        return Some(format!("{n} bytes of parameters, where {file} declares {params_bytes}"));
    }
    let Geometry { grid, block, shared_bytes } = launch.geometry;
    if (0..3).any(|i| grid[i] == 0 || grid[i] > MOST_BLOCKS[i]) {
        return Some(format!("a grid has 1 to {MOST_BLOCKS:?} blocks"));
    }
    let threads: u64 = block.iter().map(|n| u64::from(*n)).product();
    let too_long = (0..3).any(|i| block[i] == 0 || block[i] > MOST_THREADS_BY_AXIS[i]);
    if too_long || threads > MOST_THREADS {
        return Some(format!("a block has 1 to {MOST_THREADS} threads, {MOST_THREADS_BY_AXIS:?}"));
    }
    if threads > u64::from(*max_threads) {
        return Some(format!("{threads} threads a block, where {file} allows {max_threads}"));
    }
    (shared_bytes > shared_limit_bytes)
        .then(|| format!("a block here has at most {shared_limit_bytes} bytes of shared memory"))
}
