//! The emulator: runs the very kernels of `kernels/` on the host, with every access to memory
//! checked. It exists to find faults and to count, not to be fast. A build without the cargo feature
//! `emulator` has none: [`Emulator::new`] then says so.

mod counters;

#[cfg(not(feature = "emulator"))]
mod absent;
#[cfg(feature = "emulator")]
mod ffi;
#[cfg(feature = "emulator")]
mod linked;
#[cfg(feature = "emulator")]
mod places;
#[cfg(all(test, feature = "emulator"))]
mod tests;

#[cfg(not(feature = "emulator"))]
pub use absent::Emulator;
pub use counters::{Counters, Races};
#[cfg(feature = "emulator")]
pub use linked::Emulator;

/// Whether this build has an emulator.
pub const IS_PRESENT: bool = cfg!(feature = "emulator");

/// How to get a build with the emulator: the end of messages that miss it.
pub const HOW_TO_GET: &str =
    "build engine with the cargo feature `emulator`, which is on by default";
