//! Tar archives, plain (mapped) and compressed with zstd (unpacked once).

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Cursor, Read, Write};
use std::path::Path;
use std::{cell::Cell, rc::Rc};

use tar::{Archive, Entry};

use super::image::Format;
use super::source::{self, Member, Scan};
use super::{cifar, index::Others};
use crate::error::{Error, Result};
use crate::signals;

/// A member larger than this is no picture.
const MAX_MEMBER_BYTES: u64 = 1 << 30;

/// Whether a file begins with a tar header: its magic, or (old archives) its checksum.
pub(super) fn is_tar(head: &[u8]) -> bool {
    let Some(block) = head.get(..512) else { return false };
    if &block[257..262] == b"ustar" {
        return true;
    }
    let mut header = tar::Header::new_old();
    header.as_mut_bytes().copy_from_slice(block);
    let sum: u32 = block[..148].iter().chain(&block[156..]).map(|&b| u32::from(b)).sum();
    block[0] != 0 && header.cksum().is_ok_and(|c| c == sum + 8 * 32)
}

/// Adds an archive of either kind.
pub(super) fn scan(scan: &mut Scan) -> Result<()> {
    let path = scan.path.clone();
    let mut head = [0; 4];
    let mut file = File::open(&path).map_err(|e| Error::read(&path, e))?;
    match file.read_exact(&mut head) {
        Ok(()) if head == [0x28, 0xB5, 0x2F, 0xFD] => scan_zstd(scan),
        Ok(()) => scan_tar(scan),
        Err(e) => Err(cut_short(&path, &e)),
    }
}

/// Adds the pictures of a plain archive, which is mapped.
pub(super) fn scan_tar(scan: &mut Scan) -> Result<()> {
    let path = scan.path.clone();
    let file = File::open(&path).map_err(|e| Error::read(&path, e))?;
    let map = source::map(&file, &path)?;
    let mut found = Vec::new();
    let mut end = 0;
    let mut archive = Archive::new(Cursor::new(&map[..]));
    // Archives that were joined have zeros between them.
    archive.set_ignore_zeros(true);
    for entry in archive.entries_with_seek().map_err(|e| cut_short(&path, &e))? {
        signals::go_on()?;
        let entry = entry.map_err(|e| cut_short(&path, &e))?;
        let (offset, len) = (entry.raw_file_position(), entry.size());
        if entry.header().entry_type().is_file() {
            let stop = offset.checked_add(len).filter(|&stop| stop <= map.len() as u64);
            let Some(stop) = stop else {
                let name = name_of(&entry);
                return Err(cut_short(&path, &format!("it ends inside {name:?}")));
            };
            end = stop;
            let bytes = &map[offset as usize..stop as usize];
            if let Some(name) = usable_name(scan, &entry) {
                found.extend(member(name, bytes, offset, &mut scan.index.others));
            }
        } else {
            note_link(scan, &entry);
            end = offset;
        }
    }
    warn_without_end(&path, map.len() as u64, end);
    scan.push_mapped(map, found);
    Ok(())
}

/// Adds the pictures of an archive compressed with zstd: those that are wanted are unpacked to
/// an unnamed temporary file.
pub(super) fn scan_zstd(scan: &mut Scan) -> Result<()> {
    let path = scan.path.clone();
    let file = File::open(&path).map_err(|e| Error::read(&path, e))?;
    let mut decoder = zstd::stream::read::Decoder::new(BufReader::new(file))
        .map_err(|e| Error::read(&path, e))?;
    decoder.window_log_max(31).map_err(|e| Error::read(&path, e))?;
    let read = Rc::new(Cell::new(0));
    let mut archive = Archive::new(Counted { inner: decoder, read: read.clone() });
    archive.set_ignore_zeros(true);
    let mut unpacked = Unpacked::new()?;
    let mut found = Vec::new();
    let mut end = 0;
    for entry in archive.entries().map_err(|e| cut_short(&path, &e))? {
        signals::go_on()?;
        let mut entry = entry.map_err(|e| cut_short(&path, &e))?;
        if !entry.header().entry_type().is_file() {
            note_link(scan, &entry);
            end = entry.raw_file_position();
            continue;
        }
        end = entry.raw_file_position() + entry.size();
        let Some(name) = usable_name(scan, &entry) else { continue };
        let mut bytes = Vec::new();
        entry.by_ref().take(16).read_to_end(&mut bytes).map_err(|e| cut_short(&path, &e))?;
        if may_be_picture(&name, &bytes) && entry.size() <= MAX_MEMBER_BYTES {
            entry.read_to_end(&mut bytes).map_err(|e| cut_short(&path, &e))?;
            if (bytes.len() as u64) < entry.size() {
                return Err(cut_short(&path, &format!("it ends inside {name:?}")));
            }
            let offset = unpacked.len;
            if let Some(member) = member(name, &bytes, offset, &mut scan.index.others) {
                unpacked.append(&bytes)?;
                found.push(member);
            }
        } else {
            scan.index.others.note(&name);
        }
    }
    warn_without_end(&path, read.get(), end);
    if let Some(file) = unpacked.finish()? {
        let map = source::map(&file, &path)?;
        scan.push_mapped(map, found);
    }
    Ok(())
}

fn cut_short(path: &Path, e: &dyn std::fmt::Display) -> Error {
    Error::data(format!(
        "cannot read {} as a tar archive: {e}; it may be cut short or damaged: copy or make it \
         again",
        path.display()
    ))
}

fn warn_without_end(path: &Path, len: u64, end: u64) {
    if len < end.next_multiple_of(512) + 512 {
        tracing::warn!("{} has no end marker: it may be cut short", path.display());
    }
}

fn name_of<R: Read>(entry: &Entry<R>) -> String {
    let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    name.trim_start_matches("./").trim_start_matches('/').to_owned()
}

/// The name of a file that may be taken, if it is in the folder asked for.
fn usable_name<R: Read>(scan: &mut Scan, entry: &Entry<R>) -> Option<String> {
    let name = name_of(entry);
    let base = name.rsplit('/').next().unwrap_or_default();
    if base.starts_with('.') {
        scan.index.others.note(&name);
        return None;
    }
    // Records of CIFAR files get the names of their folders later.
    (base.ends_with(".bin") || scan.wants(&name)).then_some(name)
}

fn note_link<R: Read>(scan: &mut Scan, entry: &Entry<R>) {
    let kind = entry.header().entry_type();
    if kind.is_symlink() || kind.is_hard_link() || kind.is_gnu_sparse() {
        scan.index.others.note(&name_of(entry));
    }
}

fn may_be_picture(name: &str, head: &[u8]) -> bool {
    Format::is_picture_name(name) || name.ends_with(".bin") || Format::sniff(head).is_some()
}

/// What a file inside an archive is to the index.
fn member(name: String, bytes: &[u8], offset: u64, others: &mut Others) -> Option<Member> {
    let len = u32::try_from(bytes.len()).ok();
    let cifar = cifar::recognise(&name, bytes);
    let picture = Format::is_picture_name(&name) || Format::sniff(bytes).is_some();
    match len {
        Some(len) if picture || cifar.is_some() => Some(Member { name, offset, len, cifar }),
        _ => {
            others.note(&name);
            None
        }
    }
}

/// A reader that knows how far it came.
struct Counted<R> {
    inner: R,
    read: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(into)?;
        self.read.set(self.read.get() + n as u64);
        Ok(n)
    }
}

/// The unnamed file that an archive is unpacked to.
struct Unpacked {
    out: BufWriter<File>,
    len: u64,
}

impl Unpacked {
    fn new() -> Result<Self> {
        let file = tempfile::tempfile().map_err(|e| Self::bad(&e))?;
        Ok(Self { out: BufWriter::with_capacity(1 << 20, file), len: 0 })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.len += bytes.len() as u64;
        self.out.write_all(bytes).map_err(|e| Self::bad(&e))
    }

    /// The file; `None` where nothing was written, which cannot be mapped.
    fn finish(self) -> Result<Option<File>> {
        let file = self.out.into_inner().map_err(|e| Self::bad(e.error()))?;
        Ok((self.len > 0).then_some(file))
    }

    fn bad(e: &io::Error) -> Error {
        Error::device(format!(
            "cannot unpack to a temporary file in {}: {e}; set TMPDIR to a folder with room, or \
             unpack the archive to a plain .tar yourself",
            std::env::temp_dir().display()
        ))
    }
}
