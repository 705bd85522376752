//! Numbers that are computed once and read many times: in memory up to a limit, beyond it in a
//! file that has no name, so that it disappears with the program.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::device::host;
use crate::error::{Error, Result};
use crate::files::disk_hint;

/// Bytes of numbers that stay in memory.
pub const MEMORY_LIMIT_BYTES: usize = 1 << 30;

/// Numbers that are moved between file and memory at a time.
const BLOCK: usize = 1 << 20;

/// A list of f32 that grows at its end.
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

    /// Empty, with as much memory as half of what the process may still take; the rest goes to the
    /// system's folder for temporary files.
    pub fn for_features() -> Self {
        let half = host::available_bytes().map_or(MEMORY_LIMIT_BYTES, |bytes| bytes / 2);
        Self::new(&std::env::temp_dir(), half)
    }

    /// Takes memory for so many values at once, as far as there is some: growing by halves would take
    /// as much again.
    pub fn reserve(&mut self, elems: usize) {
        let most = self.limit_bytes / size_of::<f32>();
        self.memory.reserve_exact(elems.min(most).saturating_sub(self.memory.len()));
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

impl Store {
    /// The rows of `dim` values with these indices, one after the other.
    ///
    /// # Errors
    /// Those of the file.
    pub fn rows(&self, dim: usize, rows: &[usize]) -> Result<Vec<f32>> {
        let mut values = Vec::with_capacity(rows.len() * dim);
        for &row in rows {
            match self.memory.get(row * dim..(row + 1) * dim) {
                Some(row) => values.extend_from_slice(row),
                None => values.extend(self.read(row * dim..(row + 1) * dim)?),
            }
        }
        Ok(values)
    }

    /// All values in pieces of `elems`, the last one with what is left.
    pub fn pieces(&self, elems: usize) -> impl Iterator<Item = Result<Vec<f32>>> + '_ {
        let starts = (0..self.elems).step_by(elems.max(1));
        starts.map(move |start| self.read(start..(start + elems).min(self.elems)))
    }

    /// Changes every row of `dim` values in place. What was appended were whole rows.
    ///
    /// # Errors
    /// Those of the file.
    pub fn update(&mut self, dim: usize, change: impl Fn(&mut [f32]) + Sync) -> Result<()> {
        let dim = dim.max(1);
        self.memory.par_chunks_mut(dim).for_each(&change);
        let Some(file) = &self.file else { return Ok(()) };
        let block = (BLOCK / dim).max(1) * dim;
        for start in (self.memory.len()..self.elems).step_by(block) {
            let mut values = self.read(start..(start + block).min(self.elems))?;
            values.par_chunks_mut(dim).for_each(&change);
            let at = (start - self.memory.len()) * size_of::<f32>();
            file.write_all_at(bytemuck::cast_slice(&values), at as u64)
                .map_err(|e| failed("written", &e))?;
        }
        Ok(())
    }
}

impl From<Vec<f32>> for Store {
    fn from(memory: Vec<f32>) -> Self {
        let elems = memory.len();
        Self { memory, elems, ..Self::new(Path::new(""), usize::MAX) }
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
            assert_eq!(store.rows(1, &[6, 0, 3]).unwrap(), [7.0, 1.0, 4.0]);
            let pieces: Vec<Vec<f32>> = store.pieces(3).collect::<Result<_>>().unwrap();
            assert_eq!(pieces, [vec![1.0, 2.0, 3.0], vec![4.0, 5.0, 6.0], vec![7.0]]);
            store.update(1, |row| row[0] *= 2.0).unwrap();
            assert_eq!(store.read(1..5).unwrap(), [4.0, 6.0, 8.0, 10.0]);
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }
}
