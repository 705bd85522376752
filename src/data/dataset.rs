//! A data set: an index over pictures that lie in folders, archives and packed files.

use std::borrow::Cow;
use std::fmt;
use std::fs;

use super::image::{Format, Image};
use super::index::{Coding, Entry, Index, NO_LABEL, Names, Others, Store};
use super::{cifar, source};
use crate::error::{Error, Result};

/// Bytes of the hash before every picture of a packed file.
pub(super) const CHECKSUM_BYTES: usize = 16;

/// Pictures, numbered from 0, with their names and, where there are any, their classes.
///
/// Only the index is held in memory (about 100 bytes a picture); the pictures stay where they
/// are, read from their files or from mapped archives. It can be shared between threads. A
/// file that somebody shortens while it is mapped ends the process (SIGBUS), as with every
/// program that maps files.
pub struct Dataset {
    stores: Vec<Store>,
    entries: Vec<Entry>,
    names: Names,
    classes: Vec<String>,
    others: Others,
    title: String,
}

impl Dataset {
    /// Opens one or more sources as one data set. Each is recognised by its content:
    ///
    /// - a folder of pictures (at any depth), of CIFAR binary files, or of tar shards;
    /// - a text file with a path a line, relative to that file; a label may follow after a
    ///   tab, or after a space where it is a number;
    /// - a tar archive, plain or compressed with zstd;
    /// - CIFAR-10 or CIFAR-100 binary files, also inside an archive;
    /// - a file made by [`pack`](super::pack);
    /// - a single picture.
    ///
    /// `PATH#train` takes the folder `train` inside a source only. Pictures are in the order of
    /// their names, except in lists and packed files, which have an order of their own.
    ///
    /// Plain archives are mapped. Compressed ones are unpacked once, when opened: the pictures
    /// asked for go to an unnamed file in the system's folder for temporary files (`TMPDIR`),
    /// which vanishes with the process; no more of it is in memory than the system likes.
    ///
    /// Errors ([`Kind::Data`](crate::Kind::Data)): nothing there, not a known kind of source,
    /// an archive that is cut short, no picture found.
    pub fn open(paths: &[String]) -> Result<Dataset> {
        let mut index = Index::default();
        for path in paths {
            source::scan(path, &mut index)?;
        }
        let title = paths.join(" ");
        if index.entries.is_empty() {
            return Err(Error::data(nothing_found(&title, &index.others)));
        }
        let classes = index.assign_classes();
        let Index { stores, entries, names, others, .. } = index;
        if others.count > 0 {
            tracing::info!(
                "{title}: {} other files are no pictures (such as {})",
                others.count,
                others.example
            );
        }
        Ok(Dataset { stores, entries, names, classes, others, title })
    }

    /// Number of pictures; never 0.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none, which [`Dataset::open`] refuses.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The sources it was opened from.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Names of the classes, sorted (as numbers where all are); empty where pictures lie in no
    /// folders and nothing else names a class.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Number of files that were met and are no pictures.
    pub fn other_files(&self) -> usize {
        self.others.count
    }

    /// Index of picture `i`'s class in [`Dataset::classes`].
    pub fn label(&self, i: usize) -> Option<usize> {
        let label = self.entries[i].label;
        (label != NO_LABEL).then_some(label as usize)
    }

    /// Numbers the classes as `classes` does (those of the training set, say), so that labels
    /// of both sets mean the same. Errors: a class that `classes` lacks.
    pub fn relabel(&mut self, classes: &[String]) -> Result<()> {
        let mut new_label = Vec::with_capacity(self.classes.len());
        for class in &self.classes {
            let found = classes.iter().position(|c| c == class).ok_or_else(|| {
                Error::data(format!(
                    "{} holds class {class:?}, which the other pictures lack (they have {}): use \
                     the same classes in both",
                    self.title,
                    shorten(classes)
                ))
            })?;
            new_label.push(found as u32);
        }
        for entry in self.entries.iter_mut().filter(|e| e.label != NO_LABEL) {
            entry.label = new_label[entry.label as usize];
        }
        self.classes = classes.to_vec();
        Ok(())
    }

    /// Picture `i`'s path inside its source.
    pub fn name(&self, i: usize) -> String {
        self.names.get(i).to_owned()
    }

    /// What messages call picture `i`: its source and its name.
    pub fn describe(&self, i: usize) -> String {
        self.stores[self.entries[i].store as usize].describe(self.names.get(i))
    }

    /// Picture `i`, decoded. Errors ([`Kind::Data`](crate::Kind::Data)) name the picture and say
    /// why it cannot be read.
    pub fn load(&self, i: usize) -> Result<Image> {
        let image = self.bytes(i).and_then(|bytes| self.decode(i, &bytes));
        image.map_err(|e| e.context(self.describe(i)))
    }

    /// Picture `i` from its bytes. Errors say the reason only.
    pub(super) fn decode(&self, i: usize, bytes: &[u8]) -> Result<Image> {
        match self.entries[i].coding {
            Coding::Cifar => Ok(cifar::image(bytes)),
            Coding::File | Coding::Hashed => Image::decode(bytes),
        }
    }

    /// The bytes of picture `i` as they are stored. For packed files they are held against
    /// their checksum. Errors say the reason only.
    pub fn bytes(&self, i: usize) -> Result<Cow<'_, [u8]>> {
        let entry = &self.entries[i];
        match &self.stores[entry.store as usize] {
            Store::Folder(root) => {
                let path = root.join(self.names.get(i));
                fs::read(&path).map(Cow::Owned).map_err(|e| Error::data(e.to_string()))
            }
            Store::Mapped { map, .. } => {
                let (start, len) = (entry.offset as usize, entry.len as usize);
                let bytes = &map[start..start + len];
                if entry.coding == Coding::Hashed {
                    let expected = &map[start - CHECKSUM_BYTES..start];
                    if blake3::hash(bytes).as_bytes()[..CHECKSUM_BYTES] != *expected {
                        return Err(Error::data("its bytes differ from its checksum"));
                    }
                }
                Ok(Cow::Borrowed(bytes))
            }
        }
    }

    /// How picture `i` is stored, from its bytes; `None` where they are no picture.
    pub fn format(&self, i: usize, bytes: &[u8]) -> Option<Format> {
        match self.entries[i].coding {
            Coding::Cifar => Some(Format::Cifar),
            Coding::File | Coding::Hashed => Format::sniff(bytes),
        }
    }
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Dataset({}: {} pictures, {} classes)",
            self.title,
            self.len(),
            self.classes.len()
        )
    }
}

fn nothing_found(title: &str, others: &Others) -> String {
    let found = match others.count {
        0 => "found nothing".to_owned(),
        n => format!("found {n} other files (such as {})", others.example),
    };
    format!("no picture in {title}: expected JPEG, PNG, GIF, WebP, BMP or PNM files, {found}")
}

fn shorten(classes: &[String]) -> String {
    match classes {
        [] => "none".to_owned(),
        few if few.len() <= 8 => few.join(", "),
        many => format!("{}, … {} in all", many[..8].join(", "), many.len()),
    }
}
