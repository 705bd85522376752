//! Recognises what a path holds, by its content, and adds its pictures to an index.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::image::Format;
use super::index::{Coding, Entry, Group, Index, NO_LABEL, Store};
use super::{archive, cifar, folder, list, pack};
use crate::error::{Error, Result};

/// Adds the pictures of `PATH` or `PATH#folder`.
pub(super) fn scan(source: &str, index: &mut Index) -> Result<()> {
    let (path, wanted) = split_fragment(source);
    let mut scan = Scan { index, path: path.clone(), wanted, folders: BTreeSet::new(), added: 0 };
    let kind = fs::metadata(&path).map_err(|e| {
        Error::data(format!(
            "cannot read {}: {e}; expected a folder of pictures, a tar or tar.zst archive, CIFAR \
             binary files, a text list of paths, or a file made by `engine data pack`",
            path.display()
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

/// One source while its pictures are being added.
pub(super) struct Scan<'a> {
    pub index: &'a mut Index,
    pub path: PathBuf,
    /// The folder asked for by `#folder`, without slashes at its ends.
    pub wanted: Option<String>,
    /// First folders met, for the message that says what `#` could have named.
    folders: BTreeSet<String>,
    added: usize,
}

impl Scan<'_> {
    /// Another file of the same source: a shard in a folder, under the same wish.
    pub fn nested(&mut self, path: PathBuf) -> Scan<'_> {
        let wanted = self.wanted.clone();
        Scan { index: self.index, path, wanted, folders: BTreeSet::new(), added: 0 }
    }

    /// Takes over what a nested scan met.
    pub fn absorb(&mut self, folders: BTreeSet<String>, added: usize) {
        self.folders.extend(folders);
        self.added += added;
    }

    /// What was met so far: first folders, number of pictures added.
    pub fn into_met(self) -> (BTreeSet<String>, usize) {
        (self.folders, self.added)
    }

    /// Whether `name` lies in the folder asked for.
    pub fn wants(&mut self, name: &str) -> bool {
        let Some(wanted) = &self.wanted else { return true };
        if let Some((first, _)) = name.split_once('/')
            && self.folders.len() < 12
        {
            self.folders.insert(first.to_owned());
        }
        below(name, wanted).is_some()
    }

    /// Adds a picture that [`Scan::wants`]; its class comes from the folders it lies in.
    pub fn push(&mut self, name: &str, entry: Entry) {
        let inside = self.wanted.as_ref().and_then(|w| below(name, w)).unwrap_or(name);
        let folders = inside.rsplit_once('/').map_or("", |(folders, _)| folders);
        self.push_as(name, Group::Folders(folders.to_owned()), entry);
    }

    /// Adds a picture whose class the source itself names.
    pub fn push_as(&mut self, name: &str, group: Group, entry: Entry) {
        self.index.push(name, group, entry);
        self.added += 1;
    }

    /// Adds pictures of a mapped file: their names, offsets and lengths, in any order.
    pub fn push_mapped(&mut self, map: Mmap, mut found: Vec<Member>) {
        found.sort();
        let path = self.path.clone();
        let next = self.index.stores.len() as u32;
        for m in &found {
            match m.cifar {
                None => {
                    let (offset, len) = (m.offset, m.len);
                    let coding = Coding::File;
                    self.push(&m.name, Entry { store: next, label: NO_LABEL, offset, len, coding });
                }
                Some(kind) => {
                    let file = &map[m.offset as usize..][..m.len as usize];
                    self.push_records(kind, &m.name, file, next, m.offset, &[]);
                }
            }
        }
        self.index.add_store(Store::Mapped { path, map });
    }

    /// Adds the records of a CIFAR file that lies at `start` of a store.
    pub fn push_records(
        &mut self,
        kind: cifar::Kind,
        file_name: &str,
        file: &[u8],
        store: u32,
        start: u64,
        classes: &[String],
    ) {
        for record in 0..file.len() / kind.record_bytes() {
            let name = cifar::record_name(file_name, record);
            if self.wants(&name) {
                let (entry, group) = cifar::entry(kind, file, record, store, start, classes);
                self.push_as(&name, group, entry);
            }
        }
    }

    fn finish(self) -> Result<()> {
        match self.wanted {
            Some(wanted) if self.added == 0 => {
                let there: Vec<&str> = self.folders.iter().map(String::as_str).collect();
                let there = if there.is_empty() { "no folders".into() } else { there.join(", ") };
                Err(Error::data(format!(
                    "{}#{wanted}: no picture in a folder {wanted:?}; there are: {there}",
                    self.path.display()
                )))
            }
            _ => Ok(()),
        }
    }
}

/// A picture, or a file of CIFAR records, inside a mapped file.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Member {
    pub name: String,
    pub offset: u64,
    pub len: u32,
    pub cifar: Option<cifar::Kind>,
}

/// `name` inside `folder`, if it lies there.
fn below<'a>(name: &'a str, folder: &str) -> Option<&'a str> {
    name.strip_prefix(folder)?.strip_prefix('/')
}

/// Maps a file to read it.
pub(super) fn map(file: &File, path: &Path) -> Result<Mmap> {
    // SAFETY: the map is only read; a file shortened by somebody else while it is mapped ends
    // the process, as the documentation of `Dataset` says, but breaks no rule of memory here.
    unsafe { Mmap::map(file) }.map_err(|e| match e.kind() {
        std::io::ErrorKind::OutOfMemory => Error::memory(format!(
            "{} cannot be mapped: {e}; raise ulimit -v, or give the images as files in folders",
            path.display()
        )),
        _ => Error::read(path, e),
    })
}

/// What a file's first bytes say it is.
fn scan_file(scan: &mut Scan) -> Result<()> {
    let path = scan.path.clone();
    let mut file = File::open(&path).map_err(|e| Error::read(&path, e))?;
    let mut head = Vec::new();
    file.by_ref().take(4096).read_to_end(&mut head).map_err(|e| Error::read(&path, e))?;
    if head.starts_with(pack::MAGIC) {
        return pack::scan(scan);
    }
    if head.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) {
        return archive::scan_zstd(scan);
    }
    if archive::is_tar(&head) {
        return archive::scan_tar(scan);
    }
    if head.starts_with(&[0x1F, 0x8B]) {
        return Err(Error::data(format!(
            "{} is compressed with gzip, whose contents cannot be reached one by one: unpack it \
             (gunzip) to a plain .tar, or compress it with zstd",
            path.display()
        )));
    }
    if Format::sniff(&head).is_some() {
        return single(scan, &path);
    }
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    if name.ends_with(".bin") {
        let map = map(&file, &path)?;
        if let Some(kind) = cifar::recognise(&name, &map) {
            return folder::push_cifar_file(scan, &path, &name, kind, map);
        }
    }
    if !head.is_empty() && !head.contains(&0) && is_text(&head) {
        return list::scan(scan);
    }
    Err(Error::data(format!(
        "{} is none of: tar or tar.zst archive, CIFAR binary file, text list of paths, file made \
         by `engine data pack`, picture; if it is an archive it may be cut short",
        path.display()
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
        return Err(Error::data(format!("{}: its name is not UTF-8", path.display())));
    };
    let store = scan.index.add_store(Store::Folder(folder.to_path_buf()));
    let entry = Entry { store, label: NO_LABEL, offset: 0, len: 0, coding: Coding::File };
    scan.push_as(name, Group::None, entry);
    Ok(())
}
