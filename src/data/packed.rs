//! Packed files: one file with the images' encoded bytes, their labels and names, of which
//! ranges are read. Made by [`pack`](super::pack).
//!
//! ```text
//! magic (8 bytes)
//! for every image: first 16 bytes of its BLAKE3, its bytes
//! index: count u64, classes u64, then (length u32, UTF-8) for every class,
//!        then for every image offset u64, length u32, label u32 (all ones: none),
//!        end of its name u64; then the names, one after the other
//! length of the index u64, BLAKE3 of the index (32 bytes), magic (8 bytes)
//! ```
//! All numbers are little-endian. A file that is cut short lacks the magic at its end.

use super::index::{Coding, Entry, Group, NO_LABEL, Store};
use super::limits::FILE_BYTES;
use super::ranges::Ranges;
use super::scan::Scan;
use crate::error::{Error, Result};
use crate::outside::printable;

/// First and last bytes of a packed file.
pub(super) const MAGIC: &[u8; 8] = b"engpack\x01";
/// Bytes of the hash before every image.
pub(super) const CHECKSUM_BYTES: usize = 16;
/// Bytes behind the index.
pub(super) const FOOTER_BYTES: usize = 8 + 32 + 8;

/// Adds the images of a packed file; says whether it is one.
pub(super) fn add(scan: &mut Scan, head: &[u8]) -> Result<bool> {
    if !head.starts_with(MAGIC) {
        return Ok(false);
    }
    let path = scan.path.clone();
    let ranges = Ranges::open(&path, &mut scan.index.kept_open)?;
    let store = scan.index.stores.len() as u32;
    read_index(scan, &ranges, store).map_err(|what| {
        Error::data(format!(
            "{} is not a whole packed file: {what}; copy it again, or pack the images again",
            printable(&path)
        ))
    })?;
    scan.index.add_store(Store::Ranges(ranges));
    Ok(true)
}

fn read_index(scan: &mut Scan, file: &Ranges, store: u32) -> Result<(), String> {
    const SHORT: &str = "its index ends too early";
    let read = |at, into: &mut [u8]| file.read_at(at, into).map_err(|e| e.to_string());
    let mut footer = [0; FOOTER_BYTES];
    let footer_at = file.len().checked_sub(FOOTER_BYTES as u64).ok_or(SHORT)?;
    read(footer_at, &mut footer)?;
    let body = footer.strip_suffix(MAGIC).ok_or("its end is missing")?;
    let (len, hash) = body.split_first_chunk::<8>().ok_or(SHORT)?;
    let len = u64::from_le_bytes(*len);
    let images_end = footer_at.checked_sub(len).ok_or(SHORT)?;
    let most = scan.limits().file_bytes;
    if len > most {
        return Err(format!("its index has {len} bytes, more than the {most} of {FILE_BYTES}"));
    }
    let mut index = vec![0; len as usize];
    read(images_end, &mut index)?;
    if blake3::hash(&index).as_bytes() != hash {
        return Err("its index differs from its checksum".into());
    }
    let mut fields = Fields(&index);
    let count = fields.u64().ok_or(SHORT)? as usize;
    let mut classes = Vec::new();
    for _ in 0..fields.u64().ok_or(SHORT)? {
        let len = fields.u32().ok_or(SHORT)? as usize;
        classes.push(fields.text(len).ok_or(SHORT)?);
    }
    let rows = fields.take(count.checked_mul(24).ok_or(SHORT)?).ok_or(SHORT)?;
    let names = std::str::from_utf8(fields.0).map_err(|_| "its names are not UTF-8")?;
    let mut name_start = 0;
    for row in rows.chunks_exact(24) {
        let mut row = Fields(row);
        let offset = row.u64().ok_or(SHORT)?;
        let (len, label) = (row.u32().ok_or(SHORT)?, row.u32().ok_or(SHORT)?);
        let name_end = row.u64().ok_or(SHORT)? as usize;
        let name = names.get(name_start..name_end).ok_or("a name is out of place")?;
        name_start = name_end;
        let inside = offset.checked_add(u64::from(len)).is_some_and(|e| e <= images_end);
        if offset < (MAGIC.len() + CHECKSUM_BYTES) as u64 || !inside {
            return Err("an image is out of place".into());
        }
        if scan.wants(name) {
            let group = match classes.get(label as usize) {
                Some(class) => Group::Named((*class).to_owned()),
                None => Group::None,
            };
            let entry = Entry { store, label: NO_LABEL, offset, len, coding: Coding::Hashed };
            scan.push_as(name, group, entry);
        }
    }
    Ok(())
}

/// Reads fields one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }
    fn u64(&mut self) -> Option<u64> {
        let bytes = self.take(8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }
    fn u32(&mut self) -> Option<u32> {
        let bytes = self.take(4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }
    fn text(&mut self, n: usize) -> Option<&'a str> {
        std::str::from_utf8(self.take(n)?).ok()
    }
}
