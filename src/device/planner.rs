//! A device that holds nothing and runs nothing: the real program on it is the plan of its
//! memory, down to the scratch of every kernel, and every launch is checked.

use std::sync::atomic::{AtomicU64, Ordering};

use super::driver::{DevicePtr, Driver, Launch, Mark};
use super::kernels::checked;
use crate::error::Result;

/// Distance of allocations, and where the first one lies.
const ALIGNMENT: u64 = 256;

/// Counts addresses; reading back gives zeros.
pub struct Planner {
    name: String,
    next: AtomicU64,
    /// Bytes that the device has, where that is known.
    bytes: Option<usize>,
}

impl Planner {
    /// Plans for the device of this name.
    pub fn new(name: String) -> Self {
        Self { name, next: AtomicU64::new(ALIGNMENT), bytes: None }
    }

    /// Plans for a device that has so much memory.
    pub fn with_memory(self, bytes: usize) -> Self {
        Self { bytes: Some(bytes), ..self }
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
        checked(launch).map(drop)
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn mark(&self) -> Result<Mark> {
        Ok(Mark::new(()))
    }

    fn ms_between(&self, _: &Mark, _: &Mark) -> Result<f32> {
        Ok(0.0)
    }

    fn available_bytes(&self) -> Result<Option<usize>> {
        Ok(self.bytes)
    }

    fn plans(&self) -> bool {
        true
    }
}
