//! All plain files of an archive, whatever they hold.

use std::io::{self, Read};
use std::path::Path;

use tar::{Archive, Entries};

use super::watched::{BETWEEN_BYTES, Watched};
use super::{BLOCK_BYTES, cut_short, is_tar};
use crate::data::codec::Codec;
use crate::data::limits::Limits;
use crate::data::ranges::{Ranges, Unpacked};
use crate::error::{Error, Result};
use crate::signals;

/// Tells `note` the plain files of an archive in its order: name, where the bytes begin, and how many
/// they are. Gives what they lie in: the archive itself or, of a compressed one, a temporary file
/// without a name. None where the file, which begins with `head`, is no archive.
///
/// # Errors
/// Those of `note`; an archive that is damaged or unpacks to more than the limit.
pub(in crate::data) fn plain_files(
    path: &Path,
    head: &[u8],
    limits: &Limits,
    mut note: impl FnMut(String, (u64, u64)) -> Result<()>,
) -> Result<Option<Ranges>> {
    if is_tar(head) {
        let ranges = Ranges::open(path, &mut 0)?;
        let bad = |e: io::Error| cut_short(path, &e);
        let mut archive = Archive::new(ranges.reader().map_err(bad)?);
        archive.set_ignore_zeros(true);
        for entry in archive.entries_with_seek().map_err(bad)? {
            let entry = entry.map_err(bad)?;
            if entry.header().entry_type().is_file() {
                let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
                note(name, (entry.raw_file_position(), entry.size()))?;
            }
        }
        return Ok(Some(ranges));
    }
    let Some(codec) = Codec::of(head) else { return Ok(None) };
    // zstd's first block may end behind the head, which then says nothing.
    let is_one = codec == Codec::Zstd || is_tar(&codec.peek(head, BLOCK_BYTES as u64, limits));
    if is_one { unpack(path, codec, limits, note).map(Some) } else { Ok(None) }
}

fn unpack(
    path: &Path,
    codec: Codec,
    limits: &Limits,
    mut note: impl FnMut(String, (u64, u64)) -> Result<()>,
) -> Result<Ranges> {
    let mut unpacked = Unpacked::new()?;
    let decoder = codec.open(path, limits).map_err(|e| Error::read(path, e))?;
    let watched = Watched::new(decoder, limits.unpacked_bytes);
    let watch = watched.watch.clone();
    let broken = |e: io::Error| watch.broken(path, limits, &e);
    let mut archive = Archive::new(watched);
    archive.set_ignore_zeros(true);
    let mut entries: Entries<_> = archive.entries().map_err(broken)?;
    let mut unread = 0;
    loop {
        watch.between.set(Some(BETWEEN_BYTES.saturating_add(unread)));
        signals::go_on()?;
        let entry = entries.next();
        watch.between.set(None);
        let Some(entry) = entry else { return unpacked.ranges(path) };
        let mut entry = entry.map_err(broken)?;
        // What is no plain file is passed over with the next header.
        unread = entry.header().entry_size().unwrap_or(0);
        if !entry.header().entry_type().is_file() {
            continue;
        }
        unread = 0;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let (offset, size) = (unpacked.len(), entry.size());
        let mut piece = [0; 32 << 10];
        while let n @ 1.. = entry.read(&mut piece).map_err(broken)? {
            unpacked.append(&piece[..n])?;
        }
        if unpacked.len() - offset < size {
            return Err(cut_short(path, &format!("it ends inside {name:?}")));
        }
        note(name, (offset, size))?;
    }
}
