//! Numbers that are computed once and read many times: in memory up to a limit, beyond it in a
//! file that has no name, so that it disappears with the program.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files::disk_hint;

/// Bytes of numbers that stay in memory.
pub const MEMORY_LIMIT_BYTES: usize = 1 << 30;

/// An append-only list of f32.
pub struct Store {
    dir: PathBuf,
    limit_bytes: usize,
    memory: Vec<f32>,
    /// What is beyond the limit.
    file: Option<File>,
    elems: usize,
}

impl Store {
    /// An empty store. What does not fit into `limit_bytes` of memory goes to a file in `dir` that
    /// has no name.
    pub fn new(dir: &Path, limit_bytes: usize) -> Self {
        Self { dir: dir.into(), limit_bytes, memory: Vec::new(), file: None, elems: 0 }
    }

    /// Number of values.
    pub fn elems(&self) -> usize {
        self.elems
    }

    /// Appends values and says where they are.
    pub fn push(&mut self, values: &[f32]) -> Result<Range<usize>> {
        let start = self.elems;
        let in_memory = self.file.is_none()
            && size_of_val(values) + size_of_val(&self.memory[..]) <= self.limit_bytes;
        if in_memory {
            self.memory.extend_from_slice(values);
        } else {
            let at = (start - self.memory.len()) * size_of::<f32>();
            let file = match &self.file {
                Some(file) => file,
                None => self.file.insert(unnamed(&self.dir)?),
            };
            file.write_all_at(bytemuck::cast_slice(values), at as u64)
                .map_err(|e| failed("written", &e))?;
        }
        self.elems += values.len();
        Ok(start..self.elems)
    }

    /// Values that were appended before. Panics where `range` was not.
    pub fn read(&self, range: Range<usize>) -> Result<Vec<f32>> {
        assert!(range.end <= self.elems, "{range:?} of {}", self.elems);
        let split = self.memory.len().clamp(range.start, range.end);
        let mut values = vec![0.0; range.len()];
        let (in_memory, in_file) = values.split_at_mut(split - range.start);
        if !in_memory.is_empty() {
            in_memory.copy_from_slice(&self.memory[range.start..split]);
        }
        if let Some(file) = self.file.as_ref().filter(|_| !in_file.is_empty()) {
            let at = (split - self.memory.len()) * size_of::<f32>();
            file.read_exact_at(bytemuck::cast_slice_mut(in_file), at as u64)
                .map_err(|e| failed("read", &e))?;
        }
        Ok(values)
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
        // Nothing fits; the first alone; both.
        for limit_bytes in [0, 3 * 4, 1 << 20] {
            let mut store = Store::new(dir.path(), limit_bytes);
            let first = store.push(&[1.0, 2.0, 3.0]).unwrap();
            let second = store.push(&[4.0, 5.0, 6.0, 7.0]).unwrap();
            assert_eq!(store.read(second).unwrap(), [4.0, 5.0, 6.0, 7.0]);
            assert_eq!(store.read(first).unwrap(), [1.0, 2.0, 3.0]);
            assert_eq!(store.read(1..6).unwrap(), [2.0, 3.0, 4.0, 5.0, 6.0]);
            assert_eq!(store.elems(), 7);
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }
}
