//! Tests of a net during training, beside the one at the end. A test runs between two steps and only
//! reads the weights. What it draws is a function of the seed and of nothing that training draws, so
//! weights are the same bit for bit with and without.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::objective::Objective;
use crate::config::Config;
use crate::cx::Cx;
use crate::error::{Error, Result};
use crate::files::disk;

/// Tests a net as it stands after so many steps, and writes all that was found into [`file()`].
pub type Test<'a> = dyn Fn(&Cx, &dyn Objective, &Config, u64) -> Result<Found> + 'a;

/// What a test found.
pub struct Found {
    /// The numbers that say most, for `metrics.jsonl`.
    pub numbers: Map<String, Value>,
    /// The same in words, for the log.
    pub line: String,
}

const START: &str = "step-";
const END: &str = ".json";

/// The result of the test after so many steps, in a run's folder.
pub fn file(run: &Path, step: u64) -> PathBuf {
    run.join("eval").join(format!("{START}{step:08}{END}"))
}

/// Removes the results of tests after more than `step` steps: a run that goes on from there makes them
/// again.
///
/// # Errors
/// Files that cannot be removed.
pub(super) fn forget_after(run: &Path, step: u64) -> Result<()> {
    let dir = run.join("eval");
    let entries = match fs::read_dir(&dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|e| Error::read(&dir, e))?,
    };
    for entry in entries {
        let path = entry.map_err(|e| Error::read(&dir, e))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_prefix(START)?.strip_suffix(END));
        if number.and_then(|number| number.parse::<u64>().ok()).is_some_and(|of| of > step) {
            disk::remove_file(&path).map_err(|e| Error::write(&path, e))?;
        }
    }
    Ok(())
}
