//! A data set: an index over images that lie in folders, archives and packed files.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use super::image::{FORMATS, Format, Image};
use super::index::{Coding, Entry, Index, NO_LABEL, Names, Store};
use super::limits::{FILE_BYTES, Limits, Memory, Permit};
use super::packed::CHECKSUM_BYTES;
use super::unsupported::{ADVICE, Others, Unsupported};
use super::{cifar, source};
use crate::error::{Error, Result};
use crate::outside::{printable, read_at_most};

/// A data set of at most so many encoded bytes enters its digest as a whole.
const DIGEST_WHOLE_BYTES: u64 = 64 << 20;
/// Images of a larger one whose bytes enter.
const DIGEST_SAMPLE: usize = 512;

/// Images, numbered from 0, with their names and, where there are any, their classes.
///
/// Only the index is held in memory (about 100 bytes an image); the images stay where they
/// are and are read from there. It can be shared between threads. Where somebody shortens or
/// removes a file meanwhile, its images cannot be read, which is an error like any other.
pub struct Dataset {
    memory: Arc<Memory>,
    /// Shared with the sets of some of its images ([`Dataset::only`]).
    stores: Arc<Vec<Store>>,
    entries: Vec<Entry>,
    names: Names,
    classes: Vec<String>,
    others: Others,
    unsupported: Unsupported,
    title: String,
    /// Whether it was said that images of 16 bits a channel become images of 8.
    said_sixteen_bit: AtomicBool,
}

impl Dataset {
    /// Opens one or more sources as one data set. Each is recognised by its content:
    ///
    /// - a folder of images (at any depth), of CIFAR binary files, or of tar shards;
    /// - a text file with a path a line, relative to that file; a label may follow after a
    ///   tab, or after a space where it is a number;
    /// - a tar archive, plain or compressed with zstd;
    /// - CIFAR-10 or CIFAR-100 binary files, also inside an archive;
    /// - a file made by [`pack`](super::pack);
    /// - a single image.
    ///
    /// `PATH#train` takes the folder `train` inside a source only. Images are in the order of
    /// their names, except in lists and packed files, which have an order of their own.
    ///
    /// Plain archives are read where they lie. Compressed ones are unpacked once, when opened:
    /// the images asked for go to an unnamed file in the system's folder for temporary files
    /// (`TMPDIR`), which vanishes with the process.
    ///
    /// All of this within the [`Limits`] that the environment sets; all data sets that are
    /// opened so share their memory.
    ///
    /// Errors ([`Kind::Data`](crate::Kind::Data)): nothing there, not a known kind of source,
    /// an archive that is cut short or beyond a limit, no image found; a variable of the
    /// environment that sets no limit ([`Kind::Usage`](crate::Kind::Usage)).
    pub fn open(paths: &[String]) -> Result<Dataset> {
        Self::open_in(paths, Memory::of_process()?)
    }

    /// [`Dataset::open`] under limits of its own.
    pub fn open_within(paths: &[String], limits: Limits) -> Result<Dataset> {
        Self::open_in(paths, Memory::under(limits))
    }

    fn open_in(paths: &[String], memory: Arc<Memory>) -> Result<Dataset> {
        let mut index = Index::default();
        for path in paths {
            source::scan(path, &mut index, &memory)?;
        }
        let title = paths.join(" ");
        let Others { count: bins, example: bin } = &index.bins;
        if *bins > 0 {
            tracing::warn!(
                "{}: {bins} .bin files are no CIFAR files (such as {}): expected records of 3073 \
                 or 3074 bytes that begin with a label",
                printable(&title),
                printable(bin)
            );
            index.others.add(&index.bins);
        }
        if index.entries.is_empty() {
            return Err(Error::data(nothing_found(&title, &index)));
        }
        let classes = index.assign_classes();
        let Index { stores, entries, names, others, unsupported, .. } = index;
        if others.count > 0 {
            tracing::info!(
                "{}: {} other files are no images (such as {})",
                printable(&title),
                others.count,
                printable(&others.example)
            );
        }
        if !unsupported.is_empty() {
            tracing::warn!("{}: left out {}; {ADVICE}", printable(&title), unsupported.describe());
        }
        let said_sixteen_bit = AtomicBool::new(false);
        Ok(Dataset {
            memory,
            stores: Arc::new(stores),
            entries,
            names,
            classes,
            others,
            unsupported,
            title,
            said_sixteen_bit,
        })
    }

    /// Number of images; never 0.
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

    /// Names of the classes, sorted (as numbers where all are); empty where images lie in no
    /// folders and nothing else names a class.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Number of files that were met and are no images.
    pub fn other_files(&self) -> usize {
        self.others.count
    }

    /// Number of files met that are images in formats that are not read, by format.
    pub fn unsupported_formats(&self) -> BTreeMap<&'static str, usize> {
        self.unsupported.counts()
    }

    /// Index of image `i`'s class in [`Dataset::classes`].
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
                    "{} holds class {class:?}, which the other images lack (they have {}): use \
                     the same classes in both",
                    printable(&self.title),
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

    /// The images with these indices, as a data set with the same classes. Panics where there is no
    /// such image.
    pub fn only(&self, indices: &[usize]) -> Self {
        let mut names = Names::default();
        indices.iter().for_each(|&i| names.push(self.names.get(i)));
        Self {
            memory: self.memory.clone(),
            stores: self.stores.clone(),
            entries: indices.iter().map(|&i| self.entries[i]).collect(),
            names,
            classes: self.classes.clone(),
            others: Others::default(),
            unsupported: Unsupported::default(),
            title: self.title.clone(),
            said_sixteen_bit: AtomicBool::new(self.said_sixteen_bit.load(Ordering::Relaxed)),
        }
    }

    /// Whether image `i` is a record of a CIFAR file, which has a number and no name of its own.
    pub fn is_record(&self, i: usize) -> bool {
        self.entries[i].coding == Coding::Cifar
    }

    /// Image `i`'s path inside its source.
    pub fn name(&self, i: usize) -> String {
        self.names.get(i).to_owned()
    }

    /// What messages call image `i`: its source and its name, as they are.
    pub fn describe(&self, i: usize) -> String {
        self.stores[self.entries[i].store as usize].describe(self.names.get(i))
    }

    /// Image `i`, decoded. Errors ([`Kind::Data`](crate::Kind::Data)) name the image and say
    /// why it cannot be read.
    pub fn load(&self, i: usize) -> Result<Image> {
        self.hold(i).map(|loaded| loaded.into_parts().0)
    }

    /// [`Dataset::load`]; the image counts among those in memory as long as it is held. Whoever
    /// holds one must not ask for another, which might wait for it.
    pub(super) fn hold(&self, i: usize) -> Result<Loaded> {
        let loaded = self.encoded(i).and_then(|encoded| self.decode(i, &encoded.bytes, 0));
        loaded.map_err(|e| e.context(printable(&self.describe(i))))
    }

    /// Image `i` from its bytes, with memory for `beside` bytes a pixel of the caller's. Errors
    /// say the reason only.
    pub(super) fn decode(&self, i: usize, bytes: &[u8], beside: u64) -> Result<Loaded> {
        let memory = &self.memory;
        let mut permit = None;
        let mut admit = |bytes: u64| {
            permit = None;
            permit = Some(memory.decoded.take(bytes)?);
            Ok(())
        };
        let image = match self.entries[i].coding {
            Coding::Cifar => cifar::image(bytes),
            _ => Image::decode_within(bytes, &memory.limits, beside, &mut admit)?,
        };
        let sixteen_bit = self.format(i, bytes).is_some_and(|format| format.is_sixteen_bit(bytes));
        if sixteen_bit && !self.said_sixteen_bit.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "{}: images of 16 bits a channel (such as {}) are rounded to 8 bits",
                printable(&self.title),
                printable(self.names.get(i))
            );
        }
        if let Some(permit) = &mut permit {
            permit.shrink(image.bytes() * (3 + beside) / 3);
        }
        Ok(Loaded { image, permit })
    }

    /// The bytes of image `i` as they are stored. For packed files they are held against
    /// their checksum. Errors say the reason only.
    pub fn bytes(&self, i: usize) -> Result<Vec<u8>> {
        self.encoded(i).map(|encoded| encoded.bytes)
    }

    /// [`Dataset::bytes`]; they count among those in memory as long as they are held.
    pub(super) fn encoded(&self, i: usize) -> Result<Encoded> {
        let bad = |e: std::io::Error| Error::data(e.to_string());
        let entry = &self.entries[i];
        if let Coding::Refused(refusal) = entry.coding {
            return Err(Error::data(refusal.reason()));
        }
        let most = self.memory.limits.file_bytes;
        match &self.stores[entry.store as usize] {
            Store::Folder(_) => {
                let path = self.stores[entry.store as usize].describe(self.names.get(i));
                let len = std::fs::metadata(&path).map_err(bad)?.len();
                // What is longer is refused in better words, and what grows meanwhile at `most`.
                let permit = self.memory.encoded.take(len.min(most))?;
                let bytes = read_at_most(path.as_ref(), most, FILE_BYTES).map_err(bad)?;
                Ok(Encoded { bytes, _permit: permit })
            }
            Store::Ranges(ranges) => {
                let hash = if entry.coding == Coding::Hashed { CHECKSUM_BYTES } else { 0 };
                let len = u64::from(entry.len);
                if len > most {
                    return Err(Error::data(format!(
                        "expected at most {most} bytes ({FILE_BYTES}), found {len}"
                    )));
                }
                let permit = self.memory.encoded.take(len)?;
                let mut expected = [0; CHECKSUM_BYTES];
                let mut bytes = vec![0; entry.len as usize];
                let start = entry.offset - hash as u64;
                ranges.read_at(start, &mut expected[..hash]).map_err(bad)?;
                ranges.read_at(entry.offset, &mut bytes).map_err(bad)?;
                if hash > 0 && blake3::hash(&bytes).as_bytes()[..CHECKSUM_BYTES] != expected {
                    return Err(Error::data("its bytes differ from its checksum"));
                }
                Ok(Encoded { bytes, _permit: permit })
            }
        }
    }

    /// Length of image `i` as it is stored; 0 where it cannot be told.
    fn encoded_len(&self, i: usize) -> u64 {
        match &self.stores[self.entries[i].store as usize] {
            Store::Folder(root) => {
                std::fs::metadata(root.join(self.names.get(i))).map_or(0, |m| m.len())
            }
            Store::Ranges(_) => self.entries[i].len.into(),
        }
    }

    /// BLAKE3, in hexadecimal, of what the data set holds: the number of its images, their
    /// names in order, and their bytes: all where they have at most 64 MiB together, else those
    /// of 512 images spread evenly. Names are those inside their sources, so a folder that was
    /// moved has the same. An image that cannot be read enters as such. Reads on the current
    /// thread pool; the result does not depend on the number of threads.
    ///
    /// # Errors
    /// None today: the signature leaves room for sources that can fail as a whole.
    pub fn digest(&self) -> Result<String> {
        let mut all = 0;
        let whole = (0..self.len()).all(|i| {
            all += self.encoded_len(i);
            all <= DIGEST_WHOLE_BYTES
        });
        let count = if whole { self.len() } else { self.len().min(DIGEST_SAMPLE) };
        let mut hasher = blake3::Hasher::new();
        let mut number = |n: usize, bytes: &[u8]| {
            hasher.update(&(n as u64).to_le_bytes());
            hasher.update(bytes);
        };
        number(self.len(), &[]);
        for i in 0..self.len() {
            let name = self.names.get(i);
            number(name.len(), name.as_bytes());
        }
        number(count, &[]);
        let hash = |k: usize| {
            let i = k * self.len() / count;
            self.encoded(i).ok().map(|encoded| *blake3::hash(&encoded.bytes).as_bytes())
        };
        let hashes: Vec<Option<[u8; 32]>> = (0..count).into_par_iter().map(hash).collect();
        for hash in hashes {
            match hash {
                Some(hash) => number(1, &hash),
                None => number(0, &[]),
            }
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// What reading it may take.
    pub(super) fn limits(&self) -> &Limits {
        &self.memory.limits
    }

    /// How image `i` is stored, from its bytes; `None` where they are no image.
    pub fn format(&self, i: usize, bytes: &[u8]) -> Option<Format> {
        match self.entries[i].coding {
            Coding::Cifar => Some(Format::Cifar),
            _ => Format::sniff(bytes),
        }
    }
}

/// The bytes of an image as they are stored.
#[derive(Debug)]
pub(super) struct Encoded {
    pub bytes: Vec<u8>,
    _permit: Permit,
}

/// A decoded image and the memory that it counts as.
#[derive(Debug)]
pub(super) struct Loaded {
    image: Image,
    permit: Option<Permit>,
}

impl Loaded {
    /// The image, and what must be dropped when it no longer counts; none where it is too small
    /// to be counted.
    pub(super) fn into_parts(self) -> (Image, Option<Permit>) {
        (self.image, self.permit)
    }
}

impl Deref for Loaded {
    type Target = Image;
    fn deref(&self) -> &Image {
        &self.image
    }
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dataset({}: {} images, {} classes)", self.title, self.len(), self.classes.len())
    }
}

fn nothing_found(title: &str, index: &Index) -> String {
    let others = &index.others;
    let others = (others.count > 0)
        .then(|| format!("{} other files (such as {})", others.count, printable(&others.example)));
    let unsupported = (!index.unsupported.is_empty())
        .then(|| format!("{}; {ADVICE}", index.unsupported.describe()));
    let found: Vec<String> = others.into_iter().chain(unsupported).collect();
    let found = if found.is_empty() { "nothing".to_owned() } else { found.join(" and ") };
    format!("no image in {}: expected {FORMATS} files, found {found}", printable(title))
}

fn shorten(classes: &[String]) -> String {
    let shown: Vec<String> = classes.iter().take(8).map(|c| printable(c).to_string()).collect();
    match classes.len() {
        0 => "none".to_owned(),
        n if n <= 8 => shown.join(", "),
        n => format!("{}, … {n} in all", shown.join(", ")),
    }
}
