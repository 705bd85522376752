//! Where kernels run and memory lies: the [driver seam](driver) with CUDA and the emulator below
//! it, the [pool] of memory above it, and what is known of the host. It knows buffers and addresses,
//! no tensors: [`Cx`](crate::cx::Cx) makes them of buffers.

pub mod allocator;
pub mod choice;
pub mod cuda;
pub mod driver;
pub mod emulator;
pub mod gpu_code;
pub mod guarded;
pub mod host;
pub mod kernels;
pub mod peaks;
mod planner;
pub mod pool;
pub mod ptxas;

use std::sync::Arc;

pub use choice::{Chosen, DeviceChoice, choose};
pub use driver::{DevicePtr, Driver, Event, Geometry, Hardware, Launcher, launches, size};
pub use pool::{Buffer, Layout, MemoryUse, PART_ALIGN, Place, Pool, split_bytes};

pub(crate) use planner::Planner;

/// What runs the ops of a [`Cx`](crate::cx::Cx).
#[derive(Clone)]
pub enum Backend {
    /// Native code on the host's threads.
    Cpu,
    /// Shapes only: buffers are counted but hold nothing and no op runs. A dry run of the
    /// real program on it is the memory plan.
    Plan,
    /// Kernels on a device below the driver seam.
    Driver(Arc<dyn Driver>),
}

impl Backend {
    /// Name for messages and reports.
    pub fn name(&self) -> String {
        match self {
            Self::Cpu => "cpu".into(),
            Self::Plan => "a memory plan".into(),
            Self::Driver(driver) => driver.name(),
        }
    }

    /// Whether it runs kernels, on a GPU or on the emulator.
    pub fn runs_kernels(&self) -> bool {
        matches!(self, Self::Driver(_))
    }

    /// Where its memory lies.
    pub(crate) fn place(&self) -> Place {
        match self {
            Self::Cpu => Place::Host,
            Self::Plan => Place::Planned,
            Self::Driver(driver) => Place::Device(driver.clone()),
        }
    }
}
