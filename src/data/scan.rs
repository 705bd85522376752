//! What sources add images through while they are looked through.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::cifar;
use super::index::{Coding, Entry, Group, Index, NO_LABEL, Refusal, Store};
use super::limits::{IMAGES, Limits, Memory};
use super::ranges::Ranges;
use crate::error::{Error, Result};
use crate::outside::printable;

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

impl<'a> Scan<'a> {
    /// A source at `path`, of which the folder `wanted` is asked for.
    pub(super) fn new(
        index: &'a mut Index,
        memory: &'a Memory,
        path: PathBuf,
        wanted: Option<String>,
    ) -> Self {
        Self { index, memory, path, wanted, folders: BTreeSet::new(), added: 0 }
    }

    /// Another file of the same source: a shard in a folder, under the same wish.
    pub(super) fn nested(&mut self, path: PathBuf) -> Scan<'_> {
        Scan::new(self.index, self.memory, path, self.wanted.clone())
    }

    /// What reading may take.
    pub(super) fn limits(&self) -> &Limits {
        &self.memory.limits
    }

    /// Takes over what a nested scan met.
    pub(super) fn absorb(&mut self, folders: BTreeSet<String>, added: usize) {
        self.folders.extend(folders);
        self.added += added;
    }

    /// What was met so far: first folders, number of images added.
    pub(super) fn into_met(self) -> (BTreeSet<String>, usize) {
        (self.folders, self.added)
    }

    /// Errors: `found` images besides those that were added are more than the limit.
    pub(super) fn expect_room(&self, found: usize) -> Result<()> {
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
    pub(super) fn wants(&mut self, name: &str) -> bool {
        let Some(wanted) = &self.wanted else { return true };
        if let Some((first, _)) = name.split_once('/')
            && self.folders.len() < 12
        {
            self.folders.insert(first.to_owned());
        }
        below(name, wanted).is_some()
    }

    /// Adds an image that [`Scan::wants`]; its class comes from the folders it lies in.
    pub(super) fn push(&mut self, name: &str, entry: Entry) {
        let inside = self.wanted.as_ref().and_then(|w| below(name, w)).unwrap_or(name);
        let folders = inside.rsplit_once('/').map_or("", |(folders, _)| folders);
        self.push_as(name, Group::Folders(folders.to_owned()), entry);
    }

    /// Adds an image whose class the source itself names.
    pub(super) fn push_as(&mut self, name: &str, group: Group, entry: Entry) {
        self.index.push(name, group, entry);
        self.added += 1;
    }

    /// Adds members of a file, found in any order.
    pub(super) fn push_members(&mut self, ranges: Ranges, mut found: Vec<Member>) -> Result<()> {
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
    pub(super) fn push_records(
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

    /// Errors: too many images, or none where a folder was asked for.
    pub(super) fn finish(self) -> Result<()> {
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
