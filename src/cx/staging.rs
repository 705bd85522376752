//! Copies to a device that go on beside the work queued there, and are awaited where their
//! bytes are first used.

use std::sync::Arc;

use super::Cx;
use crate::device::driver::CopyId;
use crate::device::{Backend, Driver};
use crate::error::{Error, Result};
use crate::tensor::{DType, Meta, Shape, Tensor};

/// Memory on a device that a copy may land in as soon as the work is done that was queued when
/// it was taken: nothing that is queued later is waited for.
pub struct StagingSlot {
    // Given back in this order: nobody gets the memory while a copy is on its way there.
    held: Held,
    memory: Tensor,
}

/// Slots of copies that follow each other, each taken before the work is queued beside which the copy
/// is to go on.
#[derive(Default)]
pub struct StagingRoom {
    slot: Option<StagingSlot>,
    bytes: usize,
}

/// Bytes on their way to a device. [`PendingCopy::arrive`] is the one way to them.
pub struct PendingCopy {
    held: Held,
    memory: Tensor,
}

/// A copy that ends in any case, once.
struct Held {
    driver: Arc<dyn Driver>,
    copy: CopyId,
    ended: bool,
}

impl Held {
    fn end(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        self.driver.arrive(self.copy)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // An error is one of the device's, which the next call meets again.
        let _ = self.end();
    }
}

impl Cx {
    /// Memory for at least `bytes`. Errors where there is no device.
    pub fn staging_slot(&self, bytes: usize) -> Result<StagingSlot> {
        let Backend::Driver(driver) = self.backend() else {
            return Err(Error::device(format!("{} copies nothing to a device", self.name())));
        };
        let memory = self.alloc(Meta::new(Shape::vector(bytes.div_ceil(4)), DType::F32))?;
        let held = Held { driver: driver.clone(), copy: driver.staging_slot()?, ended: false };
        Ok(StagingSlot { held, memory })
    }
}

impl StagingSlot {
    /// How much fits.
    pub fn capacity_bytes(&self) -> usize {
        self.memory.meta().size_bytes()
    }

    /// Starts the copy. `bytes` may change as soon as this returns. Panics where they are more
    /// than fit: a mistake of the caller.
    pub fn upload(mut self, bytes: &[u8]) -> Result<PendingCopy> {
        assert!(bytes.len() <= self.capacity_bytes(), "more bytes than were asked for");
        let dst = self.memory.device_mut();
        self.held.driver.copy_ahead(self.held.copy, dst, bytes)?;
        Ok(PendingCopy { held: self.held, memory: self.memory })
    }
}

impl StagingRoom {
    /// Slots of so many bytes; of copies that are larger, an eighth more than these take.
    pub fn of(bytes: usize) -> Self {
        Self { slot: None, bytes }
    }

    /// Bytes of a slot; 0 before the first where nobody said how large copies are.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the slot of the next copy now: that copy then waits for nothing that is queued later.
    ///
    /// # Errors
    /// Those of the device.
    pub fn take(&mut self, cx: &Cx) -> Result<()> {
        self.slot = Some(cx.staging_slot(self.bytes)?);
        Ok(())
    }

    /// Starts a copy into the slot that was taken, where there is one and it is large enough.
    ///
    /// # Errors
    /// Those of the device.
    pub fn upload(&mut self, cx: &Cx, bytes: &[u8]) -> Result<PendingCopy> {
        let fits = |slot: &StagingSlot| slot.capacity_bytes() >= bytes.len();
        let slot = match self.slot.take().filter(fits) {
            Some(slot) => slot,
            None => {
                if bytes.len() > self.bytes {
                    self.bytes = bytes.len() + bytes.len() / 8;
                }
                cx.staging_slot(self.bytes)?
            }
        };
        slot.upload(bytes)
    }
}

impl PendingCopy {
    /// The bytes, as a vector of type f32 whose values mean nothing. What is queued from now on
    /// finds them there; the host does not wait.
    pub fn arrive(mut self) -> Result<Tensor> {
        self.held.end()?;
        Ok(self.memory)
    }

    /// The bytes as values of a tensor, as [`PendingCopy::arrive`]. Panics where it is larger than the
    /// slot: a mistake of the caller.
    pub fn arrive_as(self, meta: Meta) -> Result<Tensor> {
        Ok(self.arrive()?.first_bytes(meta))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::emulator::Emulator;
    use crate::device::guarded::Guarded;

    fn contexts() -> [Cx; 2] {
        let emulator = || Arc::new(Emulator::new(1).unwrap());
        let guarded = Arc::new(Guarded::new(emulator()));
        [Cx::device(emulator(), 1).unwrap(), Cx::device(guarded, 1).unwrap()]
    }

    #[test]
    #[cfg_attr(not(feature = "emulator"), ignore = "needs the cargo feature emulator")]
    fn bytes_arrive_where_they_are_awaited() {
        for cx in contexts() {
            let mut bytes = [1u8, 2, 3, 4, 5, 6, 7, 8];
            let arriving = cx.staging_slot(12).unwrap().upload(&bytes).unwrap();
            bytes.fill(0);
            let there = arriving.arrive().unwrap();
            assert_eq!(there.shape(), Shape::vector(3));
            assert_eq!(cx.download_bytes::<u8>(&there, 8).unwrap(), [1, 2, 3, 4, 5, 6, 7, 8]);
        }
    }

    /// Not even who goes behind the handle's back sees them earlier.
    #[test]
    #[cfg_attr(not(feature = "emulator"), ignore = "needs the cargo feature emulator")]
    fn before_that_nothing_is_there() {
        let [cx, _] = contexts();
        let PendingCopy { mut held, memory } = cx.staging_slot(8).unwrap().upload(&[7; 8]).unwrap();
        let early = cx.download_bytes::<u8>(&memory, 8).unwrap_err().to_string();
        assert!(early.contains("nothing wrote"), "{early}");
        held.end().unwrap();
        assert_eq!(cx.download_bytes::<u8>(&memory, 8).unwrap(), [7; 8]);
    }

    #[test]
    #[cfg_attr(not(feature = "emulator"), ignore = "needs the cargo feature emulator")]
    fn what_is_let_go_lands_before_its_memory_is_used_again() {
        for cx in contexts() {
            drop(cx.staging_slot(256).unwrap());
            drop(cx.staging_slot(256).unwrap().upload(&[1; 256]).unwrap());
            let x = cx.full(Shape::vector(64), DType::F32, 2.0).unwrap();
            assert_eq!(cx.download(&x).unwrap(), [2.0; 64]);
            assert_eq!(cx.memory().live_bytes, 256);
        }
    }

    #[test]
    fn there_must_be_a_device() {
        assert!(Cx::for_tests().staging_slot(4).is_err());
    }
}
