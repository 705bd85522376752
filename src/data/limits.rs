//! How much a data set may take: of memory, of disk, of a decoder's time. Files come from
//! anywhere, and a few bytes may claim to be anything.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::error::{Error, Result, nearest};
use crate::outside::printable;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// What reading a data set may take. Each limit is a number that the user may set by an
/// environment variable, for every verb that reads images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of an encoded image, and of all that are being read at a time over all threads;
    /// also of a list, and of a packed file's index. `ENGINE_MAX_FILE_BYTES`, 1 GiB: an
    /// uncompressed image of 100 megapixels with 16 bits and alpha has 0.8 GB.
    pub file_bytes: u64,
    /// Pixels of an image. `ENGINE_MAX_PIXELS`, 200 million: the largest cameras have that
    /// many.
    pub pixels: u64,
    /// Images of a data set. `ENGINE_MAX_IMAGES`, 50 million: the list of them takes some 100
    /// bytes for each.
    pub images: u64,
    /// Bytes that images take while they are decoded and made into views, over all threads.
    /// `ENGINE_MAX_DECODE_BYTES`, 2 GiB: enough for any image of 100 megapixels, and for a
    /// hundred threads that decode photographs of two.
    pub decode_bytes: u64,
    /// Bytes of a batch's decoded images where a device makes the views of them.
    /// `ENGINE_MAX_BATCH_BYTES`, 16 GiB: 256 photographs of 20 megapixels.
    pub batch_bytes: u64,
    /// Bytes that the compressed archives of a data set may become, all together. They are
    /// unpacked to `TMPDIR` whenever they are opened; larger ones are better unpacked once.
    /// `ENGINE_MAX_UNPACKED_BYTES`, 64 GiB.
    pub unpacked_bytes: u64,
    /// Logarithm to base 2 of the memory that unpacking an archive may ask for, as zstd counts
    /// it. `ENGINE_MAX_ZSTD_WINDOW_LOG`, 27 (128 MiB): zstd's own default; archives made with
    /// `--long=31` need 31.
    pub zstd_window_log: u32,
}

pub(super) const FILE_BYTES: &str = "ENGINE_MAX_FILE_BYTES";
pub(super) const PIXELS: &str = "ENGINE_MAX_PIXELS";
pub(super) const IMAGES: &str = "ENGINE_MAX_IMAGES";
pub(super) const DECODE_BYTES: &str = "ENGINE_MAX_DECODE_BYTES";
pub(super) const BATCH_BYTES: &str = "ENGINE_MAX_BATCH_BYTES";
pub(super) const UNPACKED_BYTES: &str = "ENGINE_MAX_UNPACKED_BYTES";
pub(super) const ZSTD_WINDOW_LOG: &str = "ENGINE_MAX_ZSTD_WINDOW_LOG";
const VARIABLES: [&str; 7] =
    [FILE_BYTES, PIXELS, IMAGES, DECODE_BYTES, BATCH_BYTES, UNPACKED_BYTES, ZSTD_WINDOW_LOG];
const PREFIX: &str = "ENGINE_MAX_";

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: GIB,
            pixels: 200_000_000,
            images: 50_000_000,
            decode_bytes: 2 * GIB,
            batch_bytes: 16 * GIB,
            unpacked_bytes: 64 * GIB,
            zstd_window_log: 27,
        }
    }
}

impl Limits {
    /// The defaults, changed by environment variables: whole numbers from 1, after which K, M, G
    /// or T may stand for powers of 1024.
    ///
    /// # Errors
    /// Exit 2: a value that is no such number, a variable `ENGINE_MAX_…` that there is not.
    pub fn from_env() -> Result<Self> {
        let set = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok().filter(|name| name.starts_with(PREFIX))?;
            Some((name, value.to_string_lossy().into_owned()))
        });
        Self::of(set)
    }

    /// That compressed files become more than the limit when they are unpacked.
    pub(super) fn unpacks_to_too_much(&self, path: &Path) -> Error {
        Error::data(format!(
            "{}: compressed files are unpacked whenever they are opened; expected at most {} bytes \
             in all, found more; unpack it once and for all (zstd -d, gunzip) and give what comes \
             out, or set {UNPACKED_BYTES} higher",
            printable(path),
            self.unpacked_bytes,
        ))
    }

    fn of(set: impl Iterator<Item = (String, String)>) -> Result<Self> {
        let mut limits = Self::default();
        for (name, value) in set {
            let bad = |expected: &str| {
                Error::usage(format!(
                    "environment variable {name}: expected {expected}, found {value:?}; correct or \
                     unset it"
                ))
            };
            let number = || number(&value).ok_or_else(|| bad("a number from 1, such as 512M"));
            match name.as_str() {
                FILE_BYTES => limits.file_bytes = number()?,
                PIXELS => limits.pixels = number()?,
                IMAGES => limits.images = number()?,
                DECODE_BYTES => limits.decode_bytes = number()?,
                BATCH_BYTES => limits.batch_bytes = number()?,
                UNPACKED_BYTES => limits.unpacked_bytes = number()?,
                ZSTD_WINDOW_LOG => {
                    let log = number()?;
                    limits.zstd_window_log = u32::try_from(log)
                        .ok()
                        .filter(|log| (10..=31).contains(log))
                        .ok_or_else(|| bad("10 to 31"))?;
                }
                _ => {
                    return Err(Error::usage(format!(
                        "there is no environment variable {name}{}: expected one of {}; unset it",
                        nearest(&name, VARIABLES),
                        VARIABLES.join(", ")
                    )));
                }
            }
        }
        Ok(limits)
    }
}

/// `512M` as 512 · 2²⁰.
fn number(text: &str) -> Option<u64> {
    let (digits, unit) = match text.trim().split_at_checked(text.trim().len().wrapping_sub(1))? {
        (digits, "K" | "k") => (digits, KIB),
        (digits, "M" | "m") => (digits, MIB),
        (digits, "G" | "g") => (digits, GIB),
        (digits, "T" | "t") => (digits, KIB * GIB),
        _ => (text.trim(), 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit).filter(|&n| n > 0)
}

/// Limits, and the memory that all readers under them share.
///
/// A reader first takes the bytes of an encoded image, then those that decoding it needs, and
/// gives both back without asking for more: so no reader waits for one that waits for it.
#[derive(Debug)]
pub(super) struct Memory {
    pub limits: Limits,
    pub encoded: Arc<Budget>,
    pub decoded: Arc<Budget>,
}

impl Memory {
    /// The process's own, under the limits of its environment, which are read once.
    pub(super) fn of_process() -> Result<Arc<Self>> {
        static OURS: OnceLock<Arc<Memory>> = OnceLock::new();
        if let Some(memory) = OURS.get() {
            return Ok(memory.clone());
        }
        let memory = Self::under(Limits::from_env()?);
        Ok(OURS.get_or_init(|| memory).clone())
    }

    /// Memory of its own.
    pub(super) fn under(limits: Limits) -> Arc<Self> {
        let encoded = Budget::new(FILE_BYTES, limits.file_bytes);
        let decoded = Budget::new(DECODE_BYTES, limits.decode_bytes);
        Arc::new(Self { limits, encoded, decoded })
    }
}

/// Bytes that threads share: a semaphore that serves them in the order in which they came, so
/// that a large request is not put off for ever.
#[derive(Debug)]
pub(super) struct Budget {
    variable: &'static str,
    bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    used: u64,
    /// Requests made so far, and granted so far.
    made: u64,
    granted: u64,
}

impl Budget {
    fn new(variable: &'static str, bytes: u64) -> Arc<Self> {
        Arc::new(Self { variable, bytes, state: Mutex::default(), changed: Condvar::new() })
    }

    /// Waits until `bytes` are free and takes them. Errors: more than there are in all.
    pub(super) fn take(self: &Arc<Self>, bytes: u64) -> Result<Permit> {
        if bytes > self.bytes {
            return Err(Error::data(format!(
                "it needs {bytes} bytes of memory, more than the {} that {} allows over all \
                 threads: set that higher, or make the image smaller",
                self.bytes, self.variable
            )));
        }
        let mut state = self.state();
        let turn = state.made;
        state.made += 1;
        while state.granted != turn || self.bytes - state.used < bytes {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.granted += 1;
        state.used += bytes;
        self.changed.notify_all();
        Ok(Permit { budget: self.clone(), bytes })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes taken from a [`Budget`], given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Permit {
    /// Gives back all but `bytes`.
    pub(super) fn shrink(&mut self, bytes: u64) {
        let spare = self.bytes.saturating_sub(bytes);
        self.bytes -= spare;
        self.budget.state().used -= spare;
        self.budget.changed.notify_all();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::*;
    use crate::Kind;

    fn of(pairs: &[(&str, &str)]) -> Result<Limits> {
        Limits::of(pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn variables_set_limits_and_mistakes_are_said() {
        let limits = of(&[(PIXELS, "5000"), (FILE_BYTES, "2M"), (UNPACKED_BYTES, "1t")]).unwrap();
        assert_eq!((limits.pixels, limits.file_bytes), (5000, 2 << 20));
        assert_eq!(limits.unpacked_bytes, 1 << 40);
        assert_eq!(of(&[]).unwrap(), Limits::default());
        for bad in ["", "0", "-1", "1.5G", "G", "many", "99999999999999999999", "99999999T"] {
            let e = of(&[(PIXELS, bad)]).unwrap_err();
            assert_eq!(e.kind(), Kind::Usage, "{bad}");
            assert!(e.to_string().contains(PIXELS), "{e}");
        }
        assert!(of(&[(ZSTD_WINDOW_LOG, "32")]).unwrap_err().to_string().contains("10 to 31"));
        let e = of(&[("ENGINE_MAX_PIXEL", "5")]).unwrap_err().to_string();
        assert!(e.contains("did you mean \"ENGINE_MAX_PIXELS\""), "{e}");
    }

    #[test]
    fn a_budget_is_never_exceeded_and_serves_all() {
        let budget = Budget::new(DECODE_BYTES, 10);
        let e = budget.take(11).unwrap_err();
        assert!(e.to_string().contains(DECODE_BYTES), "{e}");
        let used = AtomicU64::new(0);
        thread::scope(|s| {
            for t in 0..8u64 {
                let (budget, used) = (&budget, &used);
                s.spawn(move || {
                    for i in 0..200 {
                        let bytes = 1 + (t * 7 + i) % 10;
                        let mut permit = budget.take(bytes).unwrap();
                        let now = used.fetch_add(bytes, Ordering::SeqCst) + bytes;
                        assert!(now <= 10, "{now}");
                        used.fetch_sub(bytes, Ordering::SeqCst);
                        permit.shrink(1);
                    }
                });
            }
        });
        assert_eq!(budget.state().used, 0);
    }
}
