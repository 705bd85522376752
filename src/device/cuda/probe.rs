//! What CUDA finds on this machine, without opening a device. Nothing here panics where the
//! driver is missing, old or broken.

use std::ffi::c_void;
use std::fmt;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;

use super::super::gpu_code::{Capability, GPU_CODE};
use crate::error::{Error, Result};

/// A release of CUDA, such as 13.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// 13 of 13.0.
    pub major: u32,
    /// 0 of 13.0.
    pub minor: u32,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A GPU that the driver sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// N of `cuda:N`.
    pub index: usize,
    /// Such as `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Compute capability.
    pub capability: Capability,
    /// Its memory.
    pub memory_bytes: u64,
}

/// A driver that answers, and its GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The newest release of CUDA that the driver supports.
    pub release: Release,
    /// In the driver's order, which `CUDA_VISIBLE_DEVICES` changes.
    pub gpus: Vec<Gpu>,
}

impl Installed {
    /// The GPU with an index; an error that tells which there are.
    pub fn gpu(&self, index: usize) -> Result<&Gpu> {
        self.gpus.get(index).ok_or_else(|| {
            Error::device(match self.gpus.len() {
                0 => "the NVIDIA driver sees no GPU (is CUDA_VISIBLE_DEVICES set?)".to_owned(),
                n => format!("there is no GPU {index}: expected 0 to {}", n - 1),
            })
        })
    }

    /// Whether the kernels in this program can run on a GPU; the target that would.
    pub fn target_for(&self, gpu: &Gpu) -> Result<&'static str> {
        let target = GPU_CODE.target_for(gpu.capability)?;
        match GPU_CODE.cuda_major() {
            Some(major) if self.release.major < major => Err(Error::device(format!(
                "the NVIDIA driver is too old: it supports CUDA {}, the kernels in this build need \
                 {major}.0; update the driver, or build engine with an nvcc of CUDA {}",
                self.release, self.release.major
            ))),
            _ => Ok(target),
        }
    }
}

/// All functions of the driver's library that this program calls: the bindings would panic on
/// one that is missing.
const NEEDED: &[&str] = &[
    "cuCtxSetCurrent",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetCount",
    "cuDeviceGetDefaultMemPool",
    "cuDeviceGetName",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDeviceTotalMem_v2",
    "cuDriverGetVersion",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventElapsedTime",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuFuncGetAttribute",
    "cuFuncSetAttribute",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuInit",
    "cuLaunchKernel",
    "cuMemAllocAsync",
    "cuMemFreeAsync",
    "cuMemFreeHost",
    "cuMemGetInfo_v2",
    "cuMemHostAlloc",
    "cuMemPoolSetAttribute",
    "cuMemcpyDtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemsetD8Async",
    "cuModuleGetFunction",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuProfilerStart",
    "cuProfilerStop",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamSynchronize",
    "cuStreamWaitEvent",
];

/// Looks for a driver and its GPUs. An error says what is missing.
pub fn installed() -> Result<Installed> {
    // SAFETY: loading the driver's library runs its initialisers, as any program's use of it
    // does.
    if !unsafe { sys::is_culib_present() } {
        return Err(Error::device("no NVIDIA driver is installed here (libcuda.so was not found)"));
    }
    for name in NEEDED {
        // SAFETY: the symbol is only looked up, never used through this type.
        if unsafe { sys::culib().get::<*const c_void>(name.as_bytes()) }.is_err() {
            return Err(Error::device(format!(
                "the NVIDIA driver is too old: its libcuda.so has no {name}; update it"
            )));
        }
    }
    let broken = |e| explain("the NVIDIA driver does not work", e);
    result::init().map_err(broken)?;
    let mut version = 0;
    // SAFETY: `version` outlives the call.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result().map_err(broken)?;
    let version = u32::try_from(version).unwrap_or(0);
    let release = Release { major: version / 1000, minor: version % 1000 / 10 };
    let count = usize::try_from(result::device::get_count().map_err(broken)?).unwrap_or(0);
    let gpus = (0..count).map(gpu).collect::<Result<_, DriverError>>().map_err(broken)?;
    Ok(Installed { release, gpus })
}

/// Release of the kernel's driver, such as 580.65.06; where that is not told, the newest CUDA
/// that the driver supports.
pub(super) fn driver_release() -> Option<String> {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
    let number = |w: &&str| w.contains('.') && w.chars().all(|c| c == '.' || c.is_ascii_digit());
    let release = text.lines().next().and_then(|line| line.split_whitespace().find(number));
    release.map(str::to_owned).or_else(|| installed().ok().map(|i| format!("CUDA {}", i.release)))
}

fn gpu(index: usize) -> Result<Gpu, DriverError> {
    use sys::CUdevice_attribute::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
    };
    let device = result::device::get(index as i32)?;
    // SAFETY: the device is one that the driver just named.
    let (attribute, memory) = unsafe {
        let get = |a| result::device::get_attribute(device, a);
        ((get(MAJOR)?, get(MINOR)?), result::device::total_mem(device)?)
    };
    Ok(Gpu {
        index,
        name: result::device::get_name(device)?,
        capability: Capability { major: attribute.0 as u32, minor: attribute.1 as u32 },
        memory_bytes: memory as u64,
    })
}

/// An error of the driver with what was being done: `what: CUDA_ERROR_… (description)`.
pub(super) fn explain(what: impl fmt::Display, e: DriverError) -> Error {
    let text = |s: Result<&std::ffi::CStr, DriverError>| {
        s.map_or_else(
            |_| format!("CUDA error {}", e.0 as i32),
            |s| s.to_string_lossy().into_owned(),
        )
    };
    Error::device(format!("{what}: {} ({})", text(e.error_name()), text(e.error_string())))
}
