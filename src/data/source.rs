//! Recognises what a path holds, by its content, and adds its images to an index.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::image::Format;
use super::index::{Coding, Entry, Group, Index, NO_LABEL, Store};
use super::limits::Memory;
use super::scan::Scan;
use super::{archive, folder, list, packed, unsupported};
use crate::error::{Error, Result};
use crate::outside::{open_regular, printable};

/// Adds the images of `PATH` or `PATH#folder`.
pub(super) fn scan(source: &str, index: &mut Index, memory: &Memory) -> Result<()> {
    let (path, wanted) = split_fragment(source);
    let mut scan = Scan::new(index, memory, path.clone(), wanted);
    let kind = fs::metadata(&path).map_err(|e| {
        Error::data(format!(
            "cannot read {}: {e}; expected a folder of images, a tar or tar.zst archive, CIFAR \
             binary files, a text list of paths, or a file made by `engine data pack`",
            printable(&path)
        ))
    })?;
    if kind.is_dir() {
        folder::scan(&mut scan)?;
    } else {
        scan_file(&mut scan)?;
    }
    scan.finish()
}

/// `PATH#folder` in two, unless a file of that whole name exists.
fn split_fragment(source: &str) -> (PathBuf, Option<String>) {
    if !Path::new(source).exists()
        && let Some((path, wanted)) = source.rsplit_once('#')
    {
        let wanted = wanted.trim_matches('/').to_owned();
        return (PathBuf::from(path), (!wanted.is_empty()).then_some(wanted));
    }
    (PathBuf::from(source), None)
}

/// What a file's first bytes say it is.
fn scan_file(scan: &mut Scan) -> Result<()> {
    let path = scan.path.clone();
    let file = open_regular(&path).map_err(|e| Error::read(&path, e))?;
    let mut head = Vec::new();
    file.take(4096).read_to_end(&mut head).map_err(|e| Error::read(&path, e))?;
    if head.starts_with(packed::MAGIC) {
        return packed::scan(scan);
    }
    if head.starts_with(&archive::ZSTD) {
        return archive::scan_zstd(scan);
    }
    if archive::is_tar(&head) {
        return archive::scan_tar(scan);
    }
    if head.starts_with(&[0x1F, 0x8B]) {
        return Err(Error::data(format!(
            "{} is compressed with gzip, whose contents cannot be reached one by one: unpack it \
             (gunzip) to a plain .tar, or compress it with zstd",
            printable(&path)
        )));
    }
    if Format::sniff(&head).is_some() {
        return single(scan, &path);
    }
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    if folder::push_cifar_file(scan, &path, &name)? {
        return Ok(());
    }
    if let Some(format) = unsupported::format(&name, &head) {
        scan.index.unsupported.note(format, &name);
        return Ok(());
    }
    if !head.is_empty() && !head.contains(&0) && is_text(&head) {
        return list::scan(scan);
    }
    Err(Error::data(format!(
        "{} is none of: tar or tar.zst archive, CIFAR binary file, text list of paths, file made \
         by `engine data pack`, image; if it is an archive it may be cut short",
        printable(&path)
    )))
}

fn is_text(head: &[u8]) -> bool {
    match std::str::from_utf8(head) {
        Ok(_) => true,
        // The last character may be cut in two.
        Err(e) => e.valid_up_to() + 4 > head.len() && e.error_len().is_none(),
    }
}

fn single(scan: &mut Scan, path: &Path) -> Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return Err(Error::data(format!("{}: its name is not UTF-8", printable(&path))));
    };
    let store = scan.index.add_store(Store::Folder(folder.to_path_buf()));
    let entry = Entry { store, label: NO_LABEL, offset: 0, len: 0, coding: Coding::File };
    scan.push_as(name, Group::None, entry);
    Ok(())
}
