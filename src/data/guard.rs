//! Decoders of others' making, which read anybody's bytes.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Error, Result};

thread_local! {
    static DECODES: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread runs a decoder, whose panic is no fault of this program but of what it
/// reads.
pub fn decodes() -> bool {
    DECODES.get()
}

/// What a decoder makes of bytes. A slip of its own is an error like any other, not the end of the
/// run, and `who` is what the error calls it.
pub(super) fn guarded<T>(who: &str, attempt: impl FnOnce() -> Result<T>) -> Result<T> {
    DECODES.set(true);
    let decoded = catch_unwind(AssertUnwindSafe(attempt));
    DECODES.set(false);
    decoded
        .unwrap_or_else(|_| Err(Error::data(format!("{who} gave up on these bytes"))))
        // Reasons of theirs may have several lines.
        .map_err(|e| Error::data(e.to_string().split_whitespace().collect::<Vec<_>>().join(" ")))
}
