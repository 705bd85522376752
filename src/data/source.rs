//! Recognises what a path holds, by its content, and adds its images to an index.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::image::Format;
use super::index::{Coding, Entry, Group, Index, NO_LABEL, Refusal, Store};
use super::limits::{IMAGES, Limits, Memory};
use super::ranges::Ranges;
use super::{archive, cifar, folder, list, pack, unsupported};
use crate::error::{Error, Result};
use crate::outside::{open_regular, printable};

/// Adds the images of `PATH` or `PATH#folder`.
pub(super) fn scan(source: &str, index: &mut Index, memory: &Memory) -> Result<()> {
    let (path, wanted) = split_fragment(source);
    let folders = BTreeSet::new();
    let mut scan = Scan { index, memory, path: path.clone(), wanted, folders, added: 0 };
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

/// One source while its images are being added.
pub(super) struct Scan<'a> {
    pub index: &'a mut Index,
    memory: &'a Memory,
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
        let (memory, folders) = (self.memory, BTreeSet::new());
        Scan { index: self.index, memory, path, wanted, folders, added: 0 }
    }

    /// What reading may take.
    pub fn limits(&self) -> &Limits {
        &self.memory.limits
    }

    /// Takes over what a nested scan met.
    pub fn absorb(&mut self, folders: BTreeSet<String>, added: usize) {
        self.folders.extend(folders);
        self.added += added;
    }

    /// What was met so far: first folders, number of images added.
    pub fn into_met(self) -> (BTreeSet<String>, usize) {
        (self.folders, self.added)
    }

    /// Errors: `found` images besides those that were added are more than the limit.
    pub fn expect_room(&self, found: usize) -> Result<()> {
        let most = self.limits().images;
        if (self.index.entries.len() + found) as u64 <= most {
            return Ok(());
        }
        Err(Error::data(format!(
            "{}: expected at most {most} images in a data set, found more; give fewer at a time, \
             or set {IMAGES} higher",
            printable(&self.path)
        )))
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

    /// Adds an image that [`Scan::wants`]; its class comes from the folders it lies in.
    pub fn push(&mut self, name: &str, entry: Entry) {
        let inside = self.wanted.as_ref().and_then(|w| below(name, w)).unwrap_or(name);
        let folders = inside.rsplit_once('/').map_or("", |(folders, _)| folders);
        self.push_as(name, Group::Folders(folders.to_owned()), entry);
    }

    /// Adds an image whose class the source itself names.
    pub fn push_as(&mut self, name: &str, group: Group, entry: Entry) {
        self.index.push(name, group, entry);
        self.added += 1;
    }

    /// Adds members of a file, found in any order.
    pub fn push_members(&mut self, ranges: Ranges, mut found: Vec<Member>) -> Result<()> {
        found.sort_by(|a, b| (&a.name, a.offset).cmp(&(&b.name, b.offset)));
        let store = self.index.stores.len() as u32;
        for m in &found {
            let (len, coding) = match &m.content {
                Content::Image { len } => (*len, Coding::File),
                Content::Refused(refusal) => (0, Coding::Refused(*refusal)),
                Content::Records(records) => {
                    self.push_records(records, &m.name, store, m.offset, &[])?;
                    continue;
                }
            };
            self.push(&m.name, Entry { store, label: NO_LABEL, offset: m.offset, len, coding });
        }
        self.index.add_store(Store::Ranges(ranges));
        Ok(())
    }

    /// Adds the records of a CIFAR file that lies at `start` of a store.
    pub fn push_records(
        &mut self,
        records: &cifar::Records,
        file_name: &str,
        store: u32,
        start: u64,
        classes: &[String],
    ) -> Result<()> {
        self.expect_room(records.labels.len())?;
        for record in 0..records.labels.len() {
            let name = cifar::record_name(file_name, record);
            if self.wants(&name) {
                let (entry, group) = cifar::entry(records, record, store, start, classes);
                self.push_as(&name, group, entry);
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        self.expect_room(0)?;
        match self.wanted {
            Some(wanted) if self.added == 0 => {
                let there: Vec<String> =
                    self.folders.iter().map(|folder| printable(folder).to_string()).collect();
                let there = if there.is_empty() { "no folders".into() } else { there.join(", ") };
                Err(Error::data(format!(
                    "{}#{}: no image in a folder {wanted:?}; there are: {there}",
                    printable(&self.path),
                    printable(&wanted)
                )))
            }
            _ => Ok(()),
        }
    }
}

/// A member of a file: its name, and where it lies.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub name: String,
    pub offset: u64,
    pub content: Content,
}

/// What a member is.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// An encoded image.
    Image { len: u32 },
    /// An image that cannot be read.
    Refused(Refusal),
    /// CIFAR records.
    Records(cifar::Records),
}

/// `name` inside `folder`, if it lies there.
fn below<'a>(name: &'a str, folder: &str) -> Option<&'a str> {
    name.strip_prefix(folder)?.strip_prefix('/')
}

/// What a file's first bytes say it is.
fn scan_file(scan: &mut Scan) -> Result<()> {
    let path = scan.path.clone();
    let file = open_regular(&path).map_err(|e| Error::read(&path, e))?;
    let mut head = Vec::new();
    file.take(4096).read_to_end(&mut head).map_err(|e| Error::read(&path, e))?;
    if head.starts_with(pack::MAGIC) {
        return pack::scan(scan);
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
