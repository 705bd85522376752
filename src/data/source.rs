//! Recognises what a path holds, by its content, and adds its images to an index.

use std::fs;
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::image::Format;
use super::index::{Coding, Entry, Group, Index, NO_LABEL, Store};
use super::limits::Memory;
use super::scan::Scan;
use super::{archive, cifar, folder, idx, list, packed, parquet, unsupported};
use crate::error::{Error, Result};
use crate::outside::{open_regular, printable};

/// Bytes of a file by which it is recognised.
const HEAD_BYTES: u64 = 4096;

/// A kind of file that holds many images.
pub(super) struct Container {
    /// What such a file is called.
    pub name: &'static str,
    /// Whether a file of a folder is one, as far as its name says. The last part of it is asked
    /// for.
    pub is_named: fn(&str) -> bool,
    /// Adds the images of the scan's file, of which the first bytes are given; says whether it is
    /// of this kind.
    pub add: fn(&mut Scan, &[u8]) -> Result<bool>,
    /// Whether images that lie beside it in a folder may be those that it holds.
    pub may_repeat: bool,
}

/// All of them. A new kind is a file with two functions, and a line here.
pub(super) static CONTAINERS: [Container; 5] = [
    Container { name: "packed file", is_named: |_| false, add: packed::add, may_repeat: true },
    Container {
        name: "tar archive",
        is_named: archive::is_named,
        add: archive::add,
        may_repeat: true,
    },
    Container {
        name: "Parquet file",
        is_named: parquet::is_named,
        add: parquet::add,
        may_repeat: true,
    },
    Container { name: "IDX file", is_named: idx::is_named, add: idx::add, may_repeat: false },
    Container { name: "CIFAR file", is_named: cifar::is_named, add: cifar::add, may_repeat: false },
];

/// What a path may be, in words.
const KINDS: &str = "a folder of images, a tar archive (plain, .zst or .gz), a Parquet file, CIFAR or IDX \
                     files, a text list of paths, or a file made by `engine data pack`";

/// Adds the images of `PATH` or `PATH#folder`.
pub(super) fn scan(source: &str, index: &mut Index, memory: &Memory) -> Result<()> {
    let (path, wanted) = split_fragment(source);
    let mut scan = Scan::new(index, memory, path.clone(), wanted);
    match Range::of(&path) {
        Some(range) => {
            for path in range.paths() {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let mut nested = scan.nested(path, &name);
                scan_path(&mut nested)?;
                let (folders, added) = nested.into_met();
                scan.absorb(folders, added);
            }
        }
        None => scan_path(&mut scan)?,
    }
    scan.finish()
}

fn scan_path(scan: &mut Scan) -> Result<()> {
    let kind = fs::metadata(&scan.path).map_err(|e| {
        Error::data(format!("cannot read {}: {e}; expected {KINDS}", printable(&scan.path)))
    })?;
    match kind.is_dir() {
        true => folder::scan(scan),
        false => scan_file(scan),
    }
}

/// Numbers in a path that braces stand for: `shard-{000..012}.tar`.
struct Range {
    before: String,
    after: String,
    numbers: RangeInclusive<u64>,
    /// Digits of a number, at least.
    digits: usize,
}

impl Range {
    /// None where a path has none, or where a file of that whole name exists.
    fn of(path: &Path) -> Option<Self> {
        let text = path.to_str().filter(|_| !path.exists())?;
        let (before, rest) = text.split_once('{')?;
        let (range, after) = rest.split_once('}')?;
        let (first, last) = range.split_once("..")?;
        let numbers = first.parse().ok()?..=last.parse().ok()?;
        let (before, after) = (before.to_owned(), after.to_owned());
        (!numbers.is_empty()).then_some(Self { before, after, numbers, digits: first.len() })
    }

    fn paths(self) -> impl Iterator<Item = PathBuf> {
        let Self { before, after, numbers, digits } = self;
        numbers.map(move |n| PathBuf::from(format!("{before}{n:0digits$}{after}")))
    }
}

/// `PATH#folder` in two, unless a file of that whole name exists.
pub(super) fn split_fragment(source: &str) -> (PathBuf, Option<String>) {
    if !Path::new(source).exists()
        && let Some((path, wanted)) = source.rsplit_once('#')
    {
        let wanted = wanted.trim_matches('/').to_owned();
        return (PathBuf::from(path), (!wanted.is_empty()).then_some(wanted));
    }
    (PathBuf::from(source), None)
}

/// The first bytes of a file.
pub(super) fn head_of(path: &Path) -> Result<Vec<u8>> {
    let bad = |e| Error::read(path, e);
    let mut head = Vec::new();
    open_regular(path).map_err(bad)?.take(HEAD_BYTES).read_to_end(&mut head).map_err(bad)?;
    Ok(head)
}

/// That a file is of no kind that is read.
pub(super) fn unknown(path: &Path) -> Error {
    Error::data(format!(
        "{} is none of: {KINDS}, an image; if it is an archive it may be cut short",
        printable(path)
    ))
}

/// What a file's first bytes say it is.
fn scan_file(scan: &mut Scan) -> Result<()> {
    let path = scan.path.clone();
    let head = head_of(&path)?;
    for container in &CONTAINERS {
        if (container.add)(scan, &head)? {
            scan.index.note_kind(container.name);
            return Ok(());
        }
    }
    if Format::sniff(&head).is_some() {
        scan.index.note_kind("image");
        return single(scan, &path);
    }
    if let Some(format) = unsupported::format(&scan.name, &head) {
        let name = scan.name.clone();
        scan.index.unsupported.note(format, &name);
        return Ok(());
    }
    if !head.is_empty() && !head.contains(&0) && is_text(&head) {
        scan.index.note_kind("list");
        return list::scan(scan);
    }
    Err(unknown(&path))
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
