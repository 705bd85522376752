//! Readers with limits.

use std::cell::Cell;
use std::io::{self, Read};
use std::path::Path;
use std::rc::Rc;

use super::cut_short;
use crate::data::limits::{Limits, ZSTD_WINDOW_LOG};
use crate::error::Error;
use crate::outside::printable;

/// What may stand between two members: headers with long names, which are held in memory, and
/// zeros between archives that were joined.
pub(super) const BETWEEN_BYTES: u64 = 16 << 20;

/// A reader that knows how far it came, and how far it may go.
pub(super) struct Watched<R> {
    pub(super) inner: R,
    pub(super) watch: Rc<Watch>,
}

pub(super) struct Watch {
    pub(super) read: Cell<u64>,
    /// Bytes that may be read in all.
    most: u64,
    /// Bytes that may be read before the next member begins.
    pub(super) between: Cell<Option<u64>>,
    pub(super) tripped: Cell<Option<Tripped>>,
}

#[derive(Clone, Copy)]
pub(super) enum Tripped {
    Whole,
    Between,
}

impl Watch {
    /// Why the archive at `path` cannot be read on.
    pub(super) fn broken(&self, path: &Path, limits: &Limits, e: &io::Error) -> Error {
        match self.tripped.get() {
            Some(Tripped::Whole) => limits.unpacks_to_too_much(path),
            Some(Tripped::Between) => cut_short(
                path,
                &format!("over {BETWEEN_BYTES} bytes of names or of zeros between two members"),
            ),
            None if e.to_string().contains("too much memory") => Error::data(format!(
                "{}: unpacking it asks for more memory than 2^{} bytes, which is the limit; set \
                 {ZSTD_WINDOW_LOG}=31, or unpack it (zstd -d --long=31) and give the .tar",
                printable(path),
                limits.zstd_window_log,
            )),
            None => cut_short(path, e),
        }
    }
}

impl<R> Watched<R> {
    pub(super) fn new(inner: R, most: u64) -> Self {
        let (read, between, tripped) = (Cell::new(0), Cell::new(None), Cell::new(None));
        Self { inner, watch: Rc::new(Watch { read, most, between, tripped }) }
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(into)?;
        let watch = &self.watch;
        watch.read.set(watch.read.get() + n as u64);
        let between = watch.between.get();
        let left = between.map(|left| left.checked_sub(n as u64));
        let tripped = match left {
            _ if watch.read.get() > watch.most => Tripped::Whole,
            Some(None) => Tripped::Between,
            Some(left) => {
                watch.between.set(left);
                return Ok(n);
            }
            None => return Ok(n),
        };
        watch.tripped.set(Some(tripped));
        Err(io::Error::other("a limit"))
    }
}

impl<R: io::Seek> io::Seek for Watched<R> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}
