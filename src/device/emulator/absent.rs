//! Stands for the emulator in a build without it.

use std::collections::BTreeMap;

use super::{Counters, HOW_TO_GET, Races};
use crate::device::driver::{DevicePtr, Driver, Event, Launch};
use crate::error::{Error, Result};

/// The emulator that this build does not have: there is no value of it.
pub enum Emulator {}

impl Emulator {
    /// Says that there is none, and how to get one.
    pub fn new(_threads: usize) -> Result<Self> {
        Err(Error::device(format!(
            "--device emulator cannot be used: this build holds no emulator, as it was made without \
             the cargo feature `emulator`; {HOW_TO_GET}; or use --device cpu"
        )))
    }

    /// Where launches look for races.
    pub fn check_races(&self, _: Races) {
        match *self {}
    }

    /// Limits the shared memory of blocks.
    pub fn limit_shared(&self, _: u32) {
        match *self {}
    }

    /// Whether launches are counted.
    pub fn count(&self, _: bool) {
        match *self {}
    }

    /// What was counted.
    pub fn take_counters(&self) -> BTreeMap<&'static str, Counters> {
        match *self {}
    }
}

impl Driver for Emulator {
    fn name(&self) -> String {
        match *self {}
    }

    fn alloc(&self, _: usize) -> Result<DevicePtr> {
        match *self {}
    }

    fn free(&self, _: DevicePtr) {
        match *self {}
    }

    fn copy_to_device(&self, _: DevicePtr, _: &[u8]) -> Result<()> {
        match *self {}
    }

    fn copy_to_host(&self, _: &mut [u8], _: DevicePtr) -> Result<()> {
        match *self {}
    }

    fn copy(&self, _: DevicePtr, _: DevicePtr, _: usize) -> Result<()> {
        match *self {}
    }

    fn fill(&self, _: DevicePtr, _: u8, _: usize) -> Result<()> {
        match *self {}
    }

    fn launch(&self, _: &Launch) -> Result<()> {
        match *self {}
    }

    fn shared_limit_bytes(&self) -> u32 {
        match *self {}
    }

    fn sync(&self) -> Result<()> {
        match *self {}
    }

    fn record_event(&self) -> Result<Event> {
        match *self {}
    }

    fn ms_between(&self, _: &Event, _: &Event) -> Result<f32> {
        match *self {}
    }

    fn available_bytes(&self) -> Result<Option<usize>> {
        match *self {}
    }
}
