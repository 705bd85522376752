//! Files that hold many images, of which ranges are read: never mapped, so that a file which
//! somebody shortens is an error and not a signal.

use std::fs::{File, Metadata};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::limits::Limits;
use crate::error::{Error, Result};
use crate::outside::{open_regular, printable};

/// Files that a data set keeps open, at most: systems allow 1024 or more. Of further ones each
/// image opens its own.
const KEPT_OPEN: usize = 256;

/// A file of which ranges are read, by any number of threads.
#[derive(Debug)]
pub(super) struct Ranges {
    /// The file, as the user named it.
    pub path: PathBuf,
    file: Kept,
    len: u64,
}

#[derive(Debug)]
enum Kept {
    Open(Arc<File>),
    Closed(Identity),
}

/// What tells that a file is still the one that was looked at.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
}

impl Identity {
    fn of(m: &Metadata) -> Self {
        let modified = (m.mtime(), m.mtime_nsec());
        Self { device: m.dev(), inode: m.ino(), len: m.len(), modified }
    }
}

impl Ranges {
    /// Opens a file. `kept_open` counts the files that its data set keeps open.
    pub(super) fn open(path: &Path, kept_open: &mut usize) -> Result<Self> {
        let bad = |e| Error::read(path, e);
        let file = open_regular(path).map_err(bad)?;
        let metadata = file.metadata().map_err(bad)?;
        let file = if *kept_open < KEPT_OPEN {
            *kept_open += 1;
            Kept::Open(Arc::new(file))
        } else {
            Kept::Closed(Identity::of(&metadata))
        };
        Ok(Self { path: path.to_path_buf(), file, len: metadata.len() })
    }

    /// Length of the file when it was opened.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Whether it counts among the files that are kept open.
    pub(super) fn is_kept_open(&self) -> bool {
        matches!(self.file, Kept::Open(_))
    }

    /// Fills `into` from the bytes at `offset`.
    pub(super) fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let read = match &self.file {
            Kept::Open(file) => file.read_exact_at(into, offset),
            Kept::Closed(identity) => {
                let file = open_regular(&self.path)?;
                if Identity::of(&file.metadata()?) != *identity {
                    return Err(io::Error::other("the file has changed since it was opened"));
                }
                file.read_exact_at(into, offset)
            }
        };
        read.map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::new(
                e.kind(),
                "the file ends before it: it has become shorter since it was opened",
            ),
            _ => e,
        })
    }

    /// A reader of the whole file that seeks forwards without losing what it has buffered.
    pub(super) fn reader(&self) -> io::Result<Forwards<File>> {
        Ok(Forwards(io::BufReader::with_capacity(16 << 10, open_regular(&self.path)?)))
    }
}

/// A buffered reader whose relative seeks keep the buffer.
pub(super) struct Forwards<R>(io::BufReader<R>);

impl<R: Read> Read for Forwards<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl<R: Read + Seek> Seek for Forwards<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match to {
            SeekFrom::Current(by) => {
                self.0.seek_relative(by)?;
                self.0.stream_position()
            }
            to => self.0.seek(to),
        }
    }
}

/// The unnamed file that all compressed archives of a data set are unpacked to.
#[derive(Debug)]
pub(super) struct Unpacked {
    out: BufWriter<File>,
    file: Arc<File>,
    len: u64,
    /// Bytes that came out of archives, whether they were kept or not.
    seen: u64,
}

impl Unpacked {
    pub(super) fn new() -> Result<Self> {
        let file = tempfile::tempfile().map_err(|e| Self::bad(&e))?;
        let out = file.try_clone().map_err(|e| Self::bad(&e))?;
        let out = BufWriter::with_capacity(1 << 20, out);
        Ok(Self { out, file: Arc::new(file), len: 0, seen: 0 })
    }

    /// Where the next bytes will lie.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.len += bytes.len() as u64;
        self.out.write_all(bytes).map_err(|e| Self::bad(&e))
    }

    /// Forgets what was appended from `len` on.
    pub(super) fn cut(&mut self, len: u64) -> Result<()> {
        self.len = len;
        self.out.seek(SeekFrom::Start(len)).map(|_| ()).map_err(|e| Self::bad(&e))
    }

    /// All of it so far, as what an archive at `path` holds.
    pub(super) fn ranges(&mut self, path: &Path) -> Result<Ranges> {
        self.out.flush().map_err(|e| Self::bad(&e))?;
        Ok(Ranges { path: path.to_path_buf(), file: Kept::Open(self.file.clone()), len: self.len })
    }

    /// Bytes that archives may still become.
    pub(super) fn left(&self, limits: &Limits) -> u64 {
        limits.unpacked_bytes.saturating_sub(self.seen)
    }

    /// Counts bytes that came out of an archive.
    pub(super) fn count(&mut self, bytes: u64) {
        self.seen = self.seen.saturating_add(bytes);
    }

    fn bad(e: &io::Error) -> Error {
        Error::device(format!(
            "cannot unpack to a temporary file in {}: {e}; set TMPDIR to a folder with room, or \
             unpack the archive to a plain .tar yourself",
            printable(&std::env::temp_dir())
        ))
    }
}
