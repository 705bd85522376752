//! What sources add images through while they are looked through.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::PathBuf;

use super::cifar;
use super::index::{Coding, Entry, Group, Index, NO_LABEL, Refusal, Store};
use super::limits::{IMAGES, Limits, Memory};
use super::ranges::{Ranges, Unpacked};
use crate::error::{Error, Result};
use crate::outside::printable;
use crate::signals;

/// One source while its images are being added.
pub(super) struct Scan<'a> {
    pub index: &'a mut Index,
    memory: &'a Memory,
    pub path: PathBuf,
    /// What the file is called within its source, with `/` between folders.
    pub name: String,
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
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        Self { index, memory, path, name, wanted, folders: BTreeSet::new(), added: 0 }
    }

    /// Another file of the same source, which is called `name` in it: a shard in a folder, under
    /// the same wish.
    pub(super) fn nested(&mut self, path: PathBuf, name: &str) -> Scan<'_> {
        let mut nested = Scan::new(self.index, self.memory, path, self.wanted.clone());
        name.clone_into(&mut nested.name);
        nested
    }

    /// What a reader of the scan's file gives, in a temporary file: where it lies, where it begins
    /// and how long it is. Errors: more than the limit.
    pub(super) fn unpack(&mut self, mut reader: impl Read) -> Result<(Ranges, u64, u64)> {
        let mut unpacked = match self.index.unpacked.take() {
            Some(unpacked) => unpacked,
            None => Unpacked::new()?,
        };
        let (from, left) = (unpacked.len(), unpacked.left(self.limits()));
        let mut piece = [0; 32 << 10];
        loop {
            signals::go_on()?;
            match reader.read(&mut piece) {
                Ok(0) => break,
                Ok(n) => unpacked.append(&piece[..n])?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::read(&self.path, e)),
            }
            if unpacked.len() - from > left {
                return Err(self.limits().unpacks_to_too_much(&self.path));
            }
        }
        let len = unpacked.len() - from;
        unpacked.count(len);
        let ranges = unpacked.ranges(&self.path)?;
        self.index.unpacked = Some(unpacked);
        Ok((ranges, from, len))
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

    /// Adds members of a file, in this order.
    pub(super) fn push_members(&mut self, ranges: Ranges, found: &[Member]) -> Result<()> {
        let store = self.index.stores.len() as u32;
        for m in found {
            let (len, coding) = match &m.content {
                Content::Image { len } => (*len, Coding::File),
                Content::Refused(refusal) => (0, Coding::Refused(*refusal)),
                Content::Records(records) => {
                    self.push_records(records, &m.name, store, m.offset, &[])?;
                    continue;
                }
            };
            let entry = Entry { store, label: NO_LABEL, offset: m.offset, len, coding };
            match &m.group {
                Some(group) => self.push_as(&m.name, group.clone(), entry),
                None => self.push(&m.name, entry),
            }
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
            let name = record_name(file_name, Some("train"), record);
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
    /// What its class is taken from, where not from its folders.
    pub group: Option<Group>,
}

impl Member {
    /// One whose class comes from its folders.
    pub(super) fn new(name: String, offset: u64, content: Content) -> Self {
        Self { name, offset, content, group: None }
    }
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

/// A record's place among its files: `train/data_batch_1.bin/00042`. The folder in between is what
/// `#folder` may name: the part of the data set that the file's name says it holds, else `part`.
pub(super) fn record_name(file: &str, part: Option<&str>, record: usize) -> String {
    let (folder, base) = match file.rsplit_once('/') {
        Some((folder, base)) => (format!("{folder}/"), base),
        None => (String::new(), file),
    };
    match part_of(base).or(part) {
        Some(part) => format!("{folder}{part}/{base}/{record:05}"),
        None => format!("{folder}{base}/{record:05}"),
    }
}

/// The part of a data set that a file holds, by the words of its name.
fn part_of(base: &str) -> Option<&str> {
    base.split(|c: char| !c.is_ascii_alphanumeric()).find_map(|word| match word {
        "t10k" => Some("test"),
        "train" | "test" | "val" | "valid" | "validation" => Some(word),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::record_name;

    #[test]
    fn records_lie_in_the_part_that_their_file_names() {
        let name = |file: &str| record_name(file, None, 7);
        assert_eq!(name("a/t10k-images-idx3-ubyte.gz"), "a/test/t10k-images-idx3-ubyte.gz/00007");
        assert_eq!(name("emnist-train-images"), "train/emnist-train-images/00007");
        assert_eq!(name("data/validation-0.parquet"), "data/validation/validation-0.parquet/00007");
        assert_eq!(name("latest.bin"), "latest.bin/00007");
        assert_eq!(
            record_name("data_batch_1.bin", Some("train"), 42),
            "train/data_batch_1.bin/00042"
        );
        assert_eq!(record_name("test_batch.bin", Some("train"), 0), "test/test_batch.bin/00000");
    }
}
