//! Tar archives, plain (read where they lie) and compressed (unpacked once).

mod files;
mod links;
mod pass;
mod samples;
mod watched;

use std::path::Path;

use tar::Archive;

pub(super) use self::files::plain_files;
use self::links::gather;
use self::pass::{Pass, Place};
use self::watched::Watched;
use super::codec::Codec;
use super::ranges::{Ranges, Unpacked};
use super::scan::Scan;
use crate::error::{Error, Result};
use crate::outside::printable;

/// Whether a file of a folder is called as an archive is.
pub(super) fn is_named(base: &str) -> bool {
    [".tar", ".tar.zst", ".tar.gz", ".tgz"].iter().any(|ending| base.ends_with(ending))
}

/// Adds the images of an archive; says whether the scan's file is one.
pub(super) fn add(scan: &mut Scan, head: &[u8]) -> Result<bool> {
    let Some(codec) = Codec::of(head) else {
        let plain = is_tar(head);
        if plain {
            scan_tar(scan)?;
        }
        return Ok(plain);
    };
    let unpacked = codec.peek(head, BLOCK_BYTES as u64, scan.limits());
    // What is too short to be recognised is said to be cut short.
    let is_one = is_tar(&unpacked) || (unpacked.len() < BLOCK_BYTES && is_named(&scan.name));
    if is_one || codec == Codec::Zstd {
        scan_compressed(scan, codec)?;
        return Ok(true);
    }
    Ok(false)
}

/// A header's bytes.
const BLOCK_BYTES: usize = 512;

/// Whether a file begins with a tar header: its magic, or (old archives) its checksum.
fn is_tar(head: &[u8]) -> bool {
    let Some(block) = head.get(..BLOCK_BYTES) else { return false };
    if &block[257..262] == b"ustar" {
        return true;
    }
    let mut header = tar::Header::new_old();
    header.as_mut_bytes().copy_from_slice(block);
    let sum: u32 = block[..148].iter().chain(&block[156..]).map(|&b| u32::from(b)).sum();
    block[0] != 0 && header.cksum().is_ok_and(|c| c == sum + 8 * 32)
}

/// Adds the images of a plain archive.
fn scan_tar(scan: &mut Scan) -> Result<()> {
    let path = scan.path.clone();
    let ranges = Ranges::open(&path, &mut scan.index.kept_open)?;
    let found = gather(scan, |scan, targets| {
        let reader = ranges.reader().map_err(|e| Error::read(&path, e))?;
        let watched = Watched::new(reader, u64::MAX);
        let watch = watched.watch.clone();
        let mut archive = Archive::new(watched);
        // Archives that were joined have zeros between them.
        archive.set_ignore_zeros(true);
        let entries = archive.entries_with_seek().map_err(|e| cut_short(&path, &e))?;
        let mut pass = Pass { scan, watch, place: Place::Archive(&ranges), targets };
        let found = pass.run(entries)?;
        if targets.is_none() {
            warn_without_end(&path, ranges.len(), found.end);
        }
        Ok(found)
    })?;
    scan.push_members(ranges, &found)
}

/// Adds the images of a compressed archive: those that are wanted are unpacked to an unnamed
/// temporary file.
fn scan_compressed(scan: &mut Scan, codec: Codec) -> Result<()> {
    let path = scan.path.clone();
    let mut unpacked = match scan.index.unpacked.take() {
        Some(unpacked) => unpacked,
        None => Unpacked::new()?,
    };
    let limits = scan.limits().clone();
    let found = gather(scan, |scan, targets| {
        let bad = |e| Error::read(&path, e);
        let decoder = codec.open(&path, &limits).map_err(bad)?;
        // What was counted before is not counted when it is read again.
        let left = if targets.is_none() { unpacked.left(&limits) } else { limits.unpacked_bytes };
        let watched = Watched::new(decoder, left);
        let watch = watched.watch.clone();
        let mut archive = Archive::new(watched);
        archive.set_ignore_zeros(true);
        let entries = archive.entries().map_err(|e| cut_short(&path, &e))?;
        let place = Place::Unpacked(&mut unpacked);
        let found = Pass { scan, watch: watch.clone(), place, targets }.run(entries)?;
        if targets.is_none() {
            unpacked.count(watch.read.get());
            warn_without_end(&path, watch.read.get(), found.end);
        }
        Ok(found)
    })?;
    let ranges = unpacked.ranges(&path)?;
    scan.index.unpacked = Some(unpacked);
    scan.push_members(ranges, &found)
}

fn cut_short(path: &Path, e: &dyn std::fmt::Display) -> Error {
    Error::data(format!(
        "cannot read {} as a tar archive: {e}; it may be cut short or damaged: copy or make it \
         again",
        printable(path)
    ))
}

fn warn_without_end(path: &Path, len: u64, end: u64) {
    if len < end.next_multiple_of(512) + 512 {
        tracing::warn!("{} has no end marker: it may be cut short", printable(path));
    }
}
