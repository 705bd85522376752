//! A data set: an index over images that lie in folders, archives and packed files.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::bands::{self, AnyImage, Bands};
use super::image::{FORMATS, Format, Image};
use super::index::{Coding, Entry, Index, NO_LABEL, Names, Store};
use super::limits::{FILE_BYTES, Limits, Memory};
use super::loaded::{Encoded, Loaded};
use super::packed::CHECKSUM_BYTES;
use super::said::Said;
use super::source;
use super::unsupported::{ADVICE, Others, Unsupported};
use crate::error::{Error, Result};
use crate::outside::{printable, read_at_most};

/// Images, numbered from 0, with their names and, where there are any, their classes.
///
/// Only the index is held in memory (about 100 bytes an image); the images stay where they
/// are and are read from there. It can be shared between threads. Where somebody shortens or
/// removes a file meanwhile, its images cannot be read, which is an error like any other.
pub struct Dataset {
    memory: Arc<Memory>,
    /// Shared with the sets of some of its images ([`Dataset::only`]).
    pub(super) stores: Arc<Vec<Store>>,
    pub(super) entries: Vec<Entry>,
    pub(super) names: Names,
    classes: Vec<String>,
    others: Others,
    unsupported: Unsupported,
    empty_folders: Others,
    labels_from: Vec<String>,
    kinds: BTreeMap<&'static str, usize>,
    title: String,
    said: Said,
}

impl Dataset {
    /// Opens one or more sources as one data set. Each is recognised by its content:
    ///
    /// - a folder of images (at any depth), or of files of the following kinds;
    /// - a text file with a path a line, relative to that file; a label may follow after a
    ///   tab, or after a space where it is a number;
    /// - a tar archive, plain or compressed with zstd or gzip;
    /// - CIFAR-10 or CIFAR-100 binary files, also inside an archive;
    /// - IDX files (MNIST's), plain or compressed with gzip, with their labels beside them;
    /// - a file made by [`pack`](super::pack);
    /// - a single image.
    ///
    /// `PATH#train` takes the folder `train` inside a source only. Images are in the order of
    /// their names, except in lists and packed files, which have an order of their own.
    ///
    /// Plain archives and IDX files are read where they lie. Compressed ones are unpacked once, when
    /// opened: the images asked for go to an unnamed file in the system's folder for temporary files
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
        let Index {
            stores,
            entries,
            names,
            others,
            unsupported,
            empty_folders,
            labels_from,
            kinds,
            ..
        } = index;
        if empty_folders.count > 0 {
            tracing::warn!(
                "{}: {} folders hold no image (such as {}), so they are no classes",
                printable(&title),
                empty_folders.count,
                printable(&empty_folders.example)
            );
        }
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
        Ok(Dataset {
            memory,
            stores: Arc::new(stores),
            entries,
            names,
            classes,
            others,
            unsupported,
            empty_folders,
            labels_from,
            kinds,
            title,
            said: Said::default(),
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

    /// Number of folders that hold no image, and so are no classes.
    pub fn empty_folders(&self) -> usize {
        self.empty_folders.count
    }

    /// Sources, and files that hold images, by kind.
    pub fn kinds(&self) -> &BTreeMap<&'static str, usize> {
        &self.kinds
    }

    /// Files that labels came from; none where they came from folders, or there are none.
    pub fn labels_from(&self) -> &[String] {
        &self.labels_from
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
            empty_folders: Others::default(),
            labels_from: self.labels_from.clone(),
            kinds: self.kinds.clone(),
            said: self.said.clone(),
        }
    }

    /// Whether image `i` is a record of a CIFAR or IDX file, which has a number and no name of its
    /// own.
    pub fn is_record(&self, i: usize) -> bool {
        matches!(self.entries[i].coding, Coding::Planes(_))
    }

    /// Image `i`'s path inside its source.
    pub fn name(&self, i: usize) -> String {
        self.names.get(i).to_owned()
    }

    /// What messages call image `i`: its source and its name, as they are.
    pub fn describe(&self, i: usize) -> String {
        self.stores[self.entries[i].store as usize].describe(self.names.get(i))
    }

    /// The file that image `i` is; none where it lies within one.
    pub fn file(&self, i: usize) -> Option<PathBuf> {
        match &self.stores[self.entries[i].store as usize] {
            Store::Folder(root) => Some(root.join(self.names.get(i))),
            Store::Ranges(_) => None,
        }
    }

    /// Image `i`, decoded to RGB. Errors ([`Kind::Data`](crate::Kind::Data)) name the image and say
    /// why it cannot be read.
    pub fn load(&self, i: usize) -> Result<Image> {
        let loaded = self.encoded(i).and_then(|encoded| self.decode(i, &encoded.bytes, 0));
        loaded.map(|loaded| loaded.into_parts().0).map_err(|e| self.naming(i, e))
    }

    /// Image `i`, decoded to so many channels. Errors as those of [`Dataset::load`].
    pub fn load_as(&self, i: usize, channels: usize) -> Result<AnyImage> {
        self.hold(i, channels).map(|loaded| loaded.into_parts().0)
    }

    /// [`Dataset::load_as`]; the image counts among those in memory as long as it is held. Do not ask
    /// for another while holding one: it might wait for the memory of the first.
    pub(super) fn hold(&self, i: usize, channels: usize) -> Result<Loaded<AnyImage>> {
        let loaded =
            self.encoded(i).and_then(|encoded| self.decode_as(i, &encoded.bytes, channels));
        loaded.map_err(|e| self.naming(i, e))
    }

    fn naming(&self, i: usize, e: Error) -> Error {
        e.context(printable(&self.describe(i)))
    }

    /// Image `i` from its bytes, as one of so many channels. Errors say the reason only.
    pub(super) fn decode_as(
        &self,
        i: usize,
        bytes: &[u8],
        channels: usize,
    ) -> Result<Loaded<AnyImage>> {
        if channels == 3 {
            let Loaded { image, permit } = self.decode(i, bytes, 0)?;
            return Ok(Loaded { image: AnyImage::Rgb(image), permit });
        }
        let memory = &self.memory;
        let mut permit = None;
        let bands = match self.entries[i].coding {
            Coding::Planes(_) if channels == 1 => {
                let Loaded { image, permit: held } = self.decode(i, bytes, 2)?;
                permit = held;
                bands::of_rgb(&image)
            }
            Coding::Planes(_) => {
                return Err(Error::data(format!(
                    "expected {channels} channels, found a record of grey or RGB bytes"
                )));
            }
            _ => {
                let mut admit = |bytes: u64| {
                    permit = None;
                    permit = Some(memory.decoded.take(bytes)?);
                    Ok(())
                };
                Bands::decode_within(bytes, channels, &memory.limits, &mut admit)?
            }
        };
        let image = AnyImage::Bands(bands);
        if let Some(permit) = &mut permit {
            permit.shrink(image.bytes());
        }
        Ok(Loaded { image, permit })
    }

    /// Image `i` from its bytes, with memory for `beside` bytes a pixel of the caller's. Errors
    /// say the reason only.
    pub(super) fn decode(&self, i: usize, bytes: &[u8], beside: u64) -> Result<Loaded<Image>> {
        let memory = &self.memory;
        let mut permit = None;
        let mut admit = |bytes: u64| {
            permit = None;
            permit = Some(memory.decoded.take(bytes)?);
            Ok(())
        };
        let image = match self.entries[i].coding {
            Coding::Planes(planes) => {
                admit(planes.pixels() as u64 * (3 + beside))?;
                planes.image(bytes)
            }
            _ => Image::decode_within(bytes, &memory.limits, beside, &mut admit)?,
        };
        if let Some(format) = self.format(i, bytes) {
            self.said.what_is_lost(&self.title, self.names.get(i), format, bytes);
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

    /// What reading it may take.
    pub(super) fn limits(&self) -> &Limits {
        &self.memory.limits
    }

    /// How image `i` is stored, from its bytes; `None` where they are no image.
    pub fn format(&self, i: usize, bytes: &[u8]) -> Option<Format> {
        match self.entries[i].coding {
            Coding::Planes(planes) => Some(planes.format()),
            _ => Format::sniff(bytes),
        }
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
