//! Sentinels around every buffer, for checking kernels on a device that does not notice
//! accesses out of bounds by itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::driver::{CopyId, DevicePtr, Driver, Event, Launch};
use crate::error::{Error, Result};

/// Bytes before and after each buffer.
const GUARD_BYTES: usize = 256;
/// What they hold.
const SENTINEL: u8 = 0xa5;
/// What a buffer holds when it is handed out: NaN in every float type.
const UNWRITTEN: u8 = 0xff;

/// A buffer by its address.
#[derive(Clone, Copy)]
struct Piece {
    /// What was allocated.
    capacity: usize,
    /// What is handed out now.
    used: usize,
}

#[derive(Default)]
struct State {
    pieces: HashMap<u64, Piece>,
    /// The first sentinel that was overwritten.
    overwritten: Option<String>,
}

/// A driver whose buffers lie between sentinels and are handed out full of NaN. Once a
/// sentinel is found overwritten, reading anything back is an error.
pub struct Guarded {
    inner: Arc<dyn Driver>,
    state: Mutex<State>,
}

impl Guarded {
    /// Guards the buffers of `inner`.
    pub fn new(inner: Arc<dyn Driver>) -> Self {
        Self { inner, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sentinels around a piece: before it, and from its last used byte to its end.
    fn sentinels(ptr: DevicePtr, piece: Piece) -> [(DevicePtr, usize); 2] {
        let before = DevicePtr(ptr.0 - GUARD_BYTES as u64);
        let after = piece.capacity - piece.used + GUARD_BYTES;
        [(before, GUARD_BYTES), (ptr.offset(piece.used), after)]
    }

    /// What is wrong with the sentinels around a piece.
    fn damage(&self, ptr: DevicePtr, piece: Piece) -> Result<Option<String>> {
        for (i, (at, bytes)) in Self::sentinels(ptr, piece).into_iter().enumerate() {
            let mut found = vec![0; bytes];
            self.inner.copy_to_host(&mut found, at)?;
            if let Some(byte) = found.iter().position(|b| *b != SENTINEL) {
                let distance = if i == 0 { bytes - byte } else { byte + 1 };
                let side = ["before", "after"][i];
                return Ok(Some(format!(
                    "a kernel wrote {distance} bytes {side} a buffer of {} bytes",
                    piece.used
                )));
            }
        }
        Ok(None)
    }

    /// Looks at all sentinels.
    fn verify(&self) -> Result<()> {
        let mut state = self.state();
        let live: Vec<_> = state.pieces.iter().filter(|(_, p)| p.used > 0).collect();
        let mut damaged = None;
        for (ptr, piece) in live {
            damaged = damaged.or(self.damage(DevicePtr(*ptr), *piece)?);
        }
        state.overwritten = state.overwritten.take().or(damaged);
        state
            .overwritten
            .as_ref()
            .map_or(Ok(()), |what| Err(Error::device(format!("{}: {what}", self.inner.name()))))
    }
}

impl Driver for Guarded {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn alloc(&self, bytes: usize) -> Result<DevicePtr> {
        let ptr = self.inner.alloc(bytes + 2 * GUARD_BYTES)?.offset(GUARD_BYTES);
        self.state().pieces.insert(ptr.0, Piece { capacity: bytes, used: 0 });
        Ok(ptr)
    }

    fn free(&self, ptr: DevicePtr) {
        self.state().pieces.remove(&ptr.0);
        self.inner.free(DevicePtr(ptr.0 - GUARD_BYTES as u64));
    }

    fn copy_to_device(&self, dst: DevicePtr, src: &[u8]) -> Result<()> {
        self.inner.copy_to_device(dst, src)
    }

    fn copy_to_host(&self, dst: &mut [u8], src: DevicePtr) -> Result<()> {
        self.verify()?;
        self.inner.copy_to_host(dst, src)
    }

    fn copy(&self, dst: DevicePtr, src: DevicePtr, bytes: usize) -> Result<()> {
        self.inner.copy(dst, src, bytes)
    }

    fn fill(&self, dst: DevicePtr, value: u8, bytes: usize) -> Result<()> {
        self.inner.fill(dst, value, bytes)
    }

    fn launch(&self, launch: &Launch) -> Result<()> {
        self.inner.launch(launch)
    }

    fn shared_limit_bytes(&self) -> u32 {
        self.inner.shared_limit_bytes()
    }

    fn sync(&self) -> Result<()> {
        self.inner.sync()
    }

    fn record_event(&self) -> Result<Event> {
        self.inner.record_event()
    }

    fn ms_between(&self, from: &Event, to: &Event) -> Result<f32> {
        self.inner.ms_between(from, to)
    }

    fn available_bytes(&self) -> Result<Option<usize>> {
        self.inner.available_bytes()
    }

    fn staging_slot(&self) -> Result<CopyId> {
        self.inner.staging_slot()
    }

    fn copy_ahead(&self, copy: CopyId, dst: DevicePtr, src: &[u8]) -> Result<()> {
        self.inner.copy_ahead(copy, dst, src)
    }

    fn arrive(&self, copy: CopyId) -> Result<()> {
        self.inner.arrive(copy)
    }

    fn reschedule(&self, seed: u64) {
        self.inner.reschedule(seed);
    }

    fn range_begins(&self, name: &str) {
        self.inner.range_begins(name);
    }

    fn range_ends(&self) {
        self.inner.range_ends();
    }

    fn handed_out(&self, ptr: DevicePtr, bytes: usize) {
        let piece = {
            let mut state = self.state();
            let Some(piece) = state.pieces.get_mut(&ptr.0) else { return };
            piece.used = bytes;
            *piece
        };
        let mut filled = self.inner.fill(ptr, UNWRITTEN, bytes);
        for (at, bytes) in Self::sentinels(ptr, piece) {
            filled = filled.and_then(|()| self.inner.fill(at, SENTINEL, bytes));
        }
        if let Err(e) = filled {
            self.state().overwritten.get_or_insert(e.to_string());
        }
    }

    fn handed_back(&self, ptr: DevicePtr) {
        let Some(piece) = self.state().pieces.get(&ptr.0).copied() else { return };
        let damage = self.damage(ptr, piece).unwrap_or_else(|e| Some(e.to_string()));
        let mut state = self.state();
        state.overwritten = state.overwritten.take().or(damage);
        if let Some(piece) = state.pieces.get_mut(&ptr.0) {
            piece.used = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cx::Cx;
    use crate::device::Geometry;
    use crate::tensor::{DType, Shape};

    /// Host memory in one vector; its only kernel writes one byte at a distance.
    #[derive(Default)]
    struct Memory(Mutex<Vec<u8>>);

    impl Driver for Memory {
        fn name(&self) -> String {
            "memory".into()
        }
        fn alloc(&self, bytes: usize) -> Result<DevicePtr> {
            let mut memory = self.0.lock().unwrap();
            let ptr = memory.len();
            memory.resize(ptr + bytes, 0);
            Ok(DevicePtr(ptr as u64))
        }
        fn free(&self, _: DevicePtr) {}
        fn copy_to_device(&self, dst: DevicePtr, src: &[u8]) -> Result<()> {
            self.0.lock().unwrap()[dst.0 as usize..][..src.len()].copy_from_slice(src);
            Ok(())
        }
        fn copy_to_host(&self, dst: &mut [u8], src: DevicePtr) -> Result<()> {
            dst.copy_from_slice(&self.0.lock().unwrap()[src.0 as usize..][..dst.len()]);
            Ok(())
        }
        fn copy(&self, dst: DevicePtr, src: DevicePtr, bytes: usize) -> Result<()> {
            let (dst, src) = (dst.0 as usize, src.0 as usize);
            self.0.lock().unwrap().copy_within(src..src + bytes, dst);
            Ok(())
        }
        fn fill(&self, dst: DevicePtr, value: u8, bytes: usize) -> Result<()> {
            self.0.lock().unwrap()[dst.0 as usize..][..bytes].fill(value);
            Ok(())
        }
        fn launch(&self, launch: &Launch) -> Result<()> {
            let distance = i32::from_ne_bytes(launch.params.try_into().unwrap());
            let at = launch.pointers[0].0 as i64 + i64::from(distance);
            self.0.lock().unwrap()[at as usize] = 1;
            Ok(())
        }
        fn shared_limit_bytes(&self) -> u32 {
            0
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
            Ok(None)
        }
    }

    /// Writes a byte `distance` from the start of a buffer of 40 bytes and reads back.
    fn write_at(distance: i32) -> Result<Vec<f32>> {
        let driver = Arc::new(Guarded::new(Arc::new(Memory::default())));
        let cx = Cx::device(driver.clone(), 1)?;
        let mut x = cx.upload(Shape::vector(10), DType::F32, &[2.0; 10])?;
        let launcher = crate::device::Launcher { driver: driver.as_ref(), op: "write" };
        launcher.launch("write", Geometry::linear(1, 1), &[x.device_mut()], &distance)?;
        cx.download(&x)
    }

    #[test]
    fn what_lies_beside_a_buffer_is_guarded() {
        assert_eq!(write_at(0).unwrap()[1..], [2.0; 9]);
        assert!(write_at(39).is_ok());
        for (distance, expected) in [
            (-1, "1 bytes before a buffer of 40 bytes"),
            (-256, "256 bytes before"),
            (40, "1 bytes after a buffer of 40 bytes"),
            (64, "25 bytes after"),
        ] {
            let message = write_at(distance).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn buffers_are_handed_out_full_of_nan() {
        let cx = Cx::device(Arc::new(Guarded::new(Arc::new(Memory::default()))), 1).unwrap();
        let x = cx.alloc(crate::tensor::Meta::new(Shape::vector(10), DType::F32)).unwrap();
        assert!(cx.download(&x).unwrap().iter().all(|x| x.is_nan()));
    }
}
