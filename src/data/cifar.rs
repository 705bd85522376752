//! CIFAR-10 and CIFAR-100 binary files: records of a label (two for CIFAR-100: coarse, fine)
//! and three planes of 32×32 bytes.

use super::image::Image;
use super::index::{Coding, Entry, Group, NO_LABEL};

const SIDE: usize = 32;
const PLANE_BYTES: usize = SIDE * SIDE;
const PICTURE_BYTES: usize = 3 * PLANE_BYTES;

const CIFAR10: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Which of the two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Cifar10,
    Cifar100,
}

impl Kind {
    fn label_bytes(self) -> usize {
        match self {
            Kind::Cifar10 => 1,
            Kind::Cifar100 => 2,
        }
    }
    /// Bytes of a record.
    pub fn record_bytes(self) -> usize {
        self.label_bytes() + PICTURE_BYTES
    }
    /// The file with the classes' names that lies beside the data.
    pub fn names_file(self) -> &'static str {
        match self {
            Kind::Cifar10 => "batches.meta.txt",
            Kind::Cifar100 => "fine_label_names.txt",
        }
    }
}

/// Whether a file's name and bytes are those of CIFAR records: the length is a whole number of
/// them and every label is in range.
pub(super) fn recognise(name: &str, bytes: &[u8]) -> Option<Kind> {
    if !name.ends_with(".bin") {
        return None;
    }
    let fits = |kind: Kind, in_range: fn(&[u8]) -> bool| {
        let record = kind.record_bytes();
        !bytes.is_empty()
            && bytes.len().is_multiple_of(record)
            && bytes.chunks_exact(record).all(in_range)
    };
    if fits(Kind::Cifar10, |r| r[0] < 10) {
        Some(Kind::Cifar10)
    } else if fits(Kind::Cifar100, |r| r[0] < 20 && r[1] < 100) {
        Some(Kind::Cifar100)
    } else {
        None
    }
}

/// A record's place among its files: `train/data_batch_1.bin/00042`.
pub(super) fn record_name(file: &str, record: usize) -> String {
    let (folder, base) = match file.rsplit_once('/') {
        Some((folder, base)) => (format!("{folder}/"), base),
        None => (String::new(), file),
    };
    let split = if base.starts_with("test") { "test" } else { "train" };
    format!("{folder}{split}/{base}/{record:05}")
}

/// The entry and the class of record `record` of a file that begins at `start` of a store.
pub(super) fn entry(
    kind: Kind,
    file: &[u8],
    record: usize,
    store: u32,
    start: u64,
    names: &[String],
) -> (Entry, Group) {
    let first = record * kind.record_bytes();
    let label = usize::from(file[first + kind.label_bytes() - 1]);
    let class = names.get(label).cloned().unwrap_or_else(|| match kind {
        Kind::Cifar10 => CIFAR10[label].to_owned(),
        Kind::Cifar100 => format!("{label:02}"),
    });
    let offset = start + (first + kind.label_bytes()) as u64;
    let entry =
        Entry { store, label: NO_LABEL, offset, len: PICTURE_BYTES as u32, coding: Coding::Cifar };
    (entry, Group::Named(class))
}

/// Planes to pixels.
pub(super) fn image(planes: &[u8]) -> Image {
    let mut rgb = vec![0; PICTURE_BYTES];
    for (i, pixel) in rgb.chunks_exact_mut(3).enumerate() {
        for (c, value) in pixel.iter_mut().enumerate() {
            *value = planes[c * PLANE_BYTES + i];
        }
    }
    Image { width: SIDE, height: SIDE, rgb }
}
