//! A device that holds nothing and runs nothing: the real program on it is the plan of its
//! memory, down to the scratch of every kernel, and every launch is checked.

use std::sync::atomic::{AtomicU64, Ordering};

use super::driver::{DevicePtr, Driver, Event, Launch};
use super::kernels::{MOST_SHARED_BYTES, checked};
use crate::error::Result;

/// Distance of allocations, and where the first one lies.
const ALIGNMENT: u64 = 256;

/// Counts addresses; reading back gives zeros.
pub(crate) struct Planner {
    name: String,
    shared_limit_bytes: u32,
    next: AtomicU64,
    /// Bytes that the device has, where that is known.
    bytes: Option<usize>,
}

impl Planner {
    /// Plans for a device.
    pub(crate) fn new(device: &dyn Driver) -> Self {
        Self {
            name: device.name(),
            shared_limit_bytes: device.shared_limit_bytes(),
            next: AtomicU64::new(ALIGNMENT),
            bytes: None,
        }
    }

    /// Plans for a GPU that is not here and has so many bytes.
    pub(crate) fn absent_gpu(bytes: usize) -> Self {
        Self {
            name: "a GPU that is not here".into(),
            shared_limit_bytes: MOST_SHARED_BYTES,
            next: AtomicU64::new(ALIGNMENT),
            bytes: Some(bytes),
        }
    }
}

impl Driver for Planner {
    fn name(&self) -> String {
        match self.bytes {
            Some(_) => self.name.clone(),
            None => format!("a memory plan for {}", self.name),
        }
    }

    fn alloc(&self, bytes: usize) -> Result<DevicePtr> {
        let bytes = (bytes as u64).next_multiple_of(ALIGNMENT);
        Ok(DevicePtr(self.next.fetch_add(bytes, Ordering::Relaxed)))
    }

    fn free(&self, _: DevicePtr) {}

    fn copy_to_device(&self, _: DevicePtr, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn copy_to_host(&self, dst: &mut [u8], _: DevicePtr) -> Result<()> {
        dst.fill(0);
        Ok(())
    }

    fn copy(&self, _: DevicePtr, _: DevicePtr, _: usize) -> Result<()> {
        Ok(())
    }

    fn fill(&self, _: DevicePtr, _: u8, _: usize) -> Result<()> {
        Ok(())
    }

    fn launch(&self, launch: &Launch) -> Result<()> {
        checked(launch, self.shared_limit_bytes).map(drop)
    }

    fn shared_limit_bytes(&self) -> u32 {
        self.shared_limit_bytes
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn record_event(&self) -> Result<Event> {
        Ok(Event::new(()))
    }

    fn ms_between(&self, _: &Event, _: &Event) -> Result<f32> {
        Ok(0.0)
    }

    fn available_bytes(&self) -> Result<Option<usize>> {
        Ok(self.bytes)
    }

    fn plans(&self) -> bool {
        true
    }
}
