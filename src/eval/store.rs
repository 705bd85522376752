//! Numbers that are computed once and read many times: in memory while they are few, else in
//! a file that has no name, so that it disappears with the program.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::files::disk_hint;

/// Up to this size the numbers stay in memory.
pub const MEMORY_LIMIT_BYTES: usize = 1 << 30;

/// An append-only list of f32.
pub struct Store {
    place: Place,
    elems: usize,
}

enum Place {
    Memory(Vec<f32>),
    File(File),
}

impl Store {
    /// An empty store for about `elems` numbers: in a nameless file in `dir` where they take
    /// more than `limit_bytes`.
    pub fn new(dir: &Path, elems: usize, limit_bytes: usize) -> Result<Self> {
        let small = elems.saturating_mul(4) <= limit_bytes;
        let place = if small { Place::Memory(Vec::new()) } else { Place::File(unnamed(dir)?) };
        Ok(Self { place, elems: 0 })
    }

    /// Number of values.
    pub fn elems(&self) -> usize {
        self.elems
    }

    /// Appends values and says where they are.
    pub fn push(&mut self, values: &[f32]) -> Result<Range<usize>> {
        let start = self.elems;
        match &mut self.place {
            Place::Memory(all) => all.extend_from_slice(values),
            Place::File(file) => file
                .write_all_at(bytemuck::cast_slice(values), start as u64 * 4)
                .map_err(|e| failed("written", &e))?,
        }
        self.elems += values.len();
        Ok(start..self.elems)
    }

    /// Values that were appended before. Panics where `range` was not.
    pub fn read(&self, range: Range<usize>) -> Result<Vec<f32>> {
        assert!(range.end <= self.elems, "{range:?} of {}", self.elems);
        match &self.place {
            Place::Memory(all) => Ok(all[range].to_vec()),
            Place::File(file) => {
                let mut values = vec![0.0f32; range.len()];
                file.read_exact_at(bytemuck::cast_slice_mut(&mut values), range.start as u64 * 4)
                    .map_err(|e| failed("read", &e))?;
                Ok(values)
            }
        }
    }
}

/// A file in `dir` that has no name, so that nothing is left of it.
fn unnamed(dir: &Path) -> Result<File> {
    tempfile::tempfile_in(dir).map_err(|e| Error::write(dir, disk_hint(&e)))
}

fn failed(what: &str, e: &std::io::Error) -> Error {
    Error::device(format!("the temporary file of features could not be {what}: {}", disk_hint(e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_file_hold_the_same() {
        let dir = tempfile::tempdir().unwrap();
        for limit_bytes in [0, 1 << 20] {
            let mut store = Store::new(dir.path(), 7, limit_bytes).unwrap();
            let first = store.push(&[1.0, 2.0, 3.0]).unwrap();
            let second = store.push(&[4.0, 5.0, 6.0, 7.0]).unwrap();
            assert_eq!(store.read(second).unwrap(), [4.0, 5.0, 6.0, 7.0]);
            assert_eq!(store.read(first).unwrap(), [1.0, 2.0, 3.0]);
            assert_eq!(store.elems(), 7);
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }
}
