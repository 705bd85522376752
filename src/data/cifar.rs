//! CIFAR-10 and CIFAR-100 binary files: records of a label (two for CIFAR-100: coarse, fine)
//! and three planes of 32×32 bytes.

use std::io::{self, ErrorKind};

use super::index::{Coding, Entry, Group, NO_LABEL, Refusal, Store};
use super::planes::{PlaneKind, Planes};
use super::ranges::Ranges;
use super::scan::Scan;
use crate::error::{Error, Result};
use crate::outside::read_at_most;

const PLANES: Planes = Planes { width: 32, height: 32, kind: PlaneKind::Rgb };
const IMAGE_BYTES: usize = 3 * 32 * 32;

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
    pub(super) fn record_bytes(self) -> usize {
        self.label_bytes() + IMAGE_BYTES
    }
    /// The file with the classes' names that lies beside the data.
    pub(super) fn names_file(self) -> &'static str {
        match self {
            Kind::Cifar10 => "batches.meta.txt",
            Kind::Cifar100 => "fine_label_names.txt",
        }
    }
}

/// The longest file of classes' names: a million of them.
const NAMES_BYTES: u64 = 64 << 20;

/// Whether a file of a folder is called as CIFAR's files are.
pub(super) fn is_named(base: &str) -> bool {
    base.ends_with(".bin")
}

/// Adds a CIFAR file's records, with the classes' names that lie beside it; says whether it is such
/// a file.
pub(super) fn add(scan: &mut Scan, _head: &[u8]) -> Result<bool> {
    let (path, name) = (scan.path.clone(), scan.name.clone());
    if !is_named(&name) {
        return Ok(false);
    }
    let ranges = Ranges::open(&path, &mut scan.index.kept_open)?;
    let records = recognise(&name, ranges.len(), &ranges, 0);
    let Some(records) = records.map_err(|e| Error::read(&path, e))? else {
        scan.index.give_back(&ranges);
        return Ok(false);
    };
    let beside = path.with_file_name(records.kind.names_file());
    let classes: Vec<String> = match read_at_most(&beside, NAMES_BYTES, "names of classes") {
        Ok(text) => {
            let text = String::from_utf8_lossy(&text);
            text.lines().filter(|l| !l.is_empty()).map(str::to_owned).collect()
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(Error::read(&beside, e)),
    };
    let store = scan.index.stores.len() as u32;
    scan.push_records(&records, &name, store, 0, &classes)?;
    scan.index.add_store(Store::Ranges(ranges));
    Ok(true)
}

/// The records of a file, as far as its labels tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Records {
    pub kind: Kind,
    /// The label of every record that is whole, or why there is none; and one that is cut short,
    /// where the file ends within a record.
    pub labels: Vec<std::result::Result<u8, Refusal>>,
}

/// Records that are looked at before all are, at most.
const SAMPLE: u64 = 64;

/// What a file's name, length and labels say: whether it holds CIFAR records. It begins at
/// `start` of a store and has `len` bytes.
///
/// - A file of a whole number of records with labels in range holds them, whatever it is called.
/// - One that is called as CIFAR's files are holds records, whatever is wrong with it, and so
///   does one where nine in ten labels are in range. What is wrong are records that cannot be
///   read.
pub(super) fn recognise(
    name: &str,
    len: u64,
    store: &Ranges,
    start: u64,
) -> io::Result<Option<Records>> {
    let base = name.rsplit('/').next().unwrap_or_default();
    if !base.ends_with(".bin") {
        return Ok(None);
    }
    let batch = base.starts_with("data_batch_") || base.starts_with("test_batch");
    let named = batch || ["train.bin", "test.bin"].contains(&base);
    let mut best: Option<(f64, Records)> = None;
    for kind in [Kind::Cifar10, Kind::Cifar100] {
        let count = len / kind.record_bytes() as u64;
        let sample = labels(kind, count.min(SAMPLE), store, start)?;
        if !named && (count == 0 || share(&sample) < 0.9) {
            continue;
        }
        let mut labels = labels(kind, count, store, start)?;
        let share = share(&labels);
        let whole = count > 0 && len.is_multiple_of(kind.record_bytes() as u64);
        if whole && share == 1.0 {
            return Ok(Some(Records { kind, labels }));
        }
        if !whole {
            labels.push(Err(Refusal::CutShort));
        }
        // Where labels do not decide, the name does.
        let share = share + if batch == (kind == Kind::Cifar10) { 1e-9 } else { 0.0 };
        let plausible = named || (count > 1 && share >= 0.9);
        if plausible && best.as_ref().is_none_or(|(s, _)| share > *s) {
            best = Some((share, Records { kind, labels }));
        }
    }
    Ok(best.map(|(_, records)| records))
}

/// Share of labels that are in range.
fn share(labels: &[std::result::Result<u8, Refusal>]) -> f64 {
    labels.iter().filter(|l| l.is_ok()).count() as f64 / labels.len().max(1) as f64
}

/// The labels of the first `count` records.
fn labels(
    kind: Kind,
    count: u64,
    store: &Ranges,
    start: u64,
) -> io::Result<Vec<std::result::Result<u8, Refusal>>> {
    let label = |i: u64| {
        let mut bytes = [0; 2];
        let bytes = &mut bytes[..kind.label_bytes()];
        store.read_at(start + i * kind.record_bytes() as u64, bytes)?;
        Ok(match *bytes {
            [label] if label < 10 => Ok(label),
            [coarse, label] if coarse < 20 && label < 100 => Ok(label),
            _ => Err(Refusal::Label),
        })
    };
    (0..count).map(label).collect()
}

/// The entry and the class of record `record` of a file that begins at `start` of a store.
pub(super) fn entry(
    records: &Records,
    record: usize,
    store: u32,
    start: u64,
    names: &[String],
) -> (Entry, Group) {
    let kind = records.kind;
    let offset = start + (record * kind.record_bytes() + kind.label_bytes()) as u64;
    let mut entry = Entry {
        store,
        label: NO_LABEL,
        offset,
        len: IMAGE_BYTES as u32,
        coding: Coding::Planes(PLANES),
    };
    match records.labels[record] {
        Ok(label) => {
            let class = names.get(usize::from(label)).cloned();
            let class = class.unwrap_or_else(|| match kind {
                Kind::Cifar10 => CIFAR10[usize::from(label)].to_owned(),
                Kind::Cifar100 => format!("{label:02}"),
            });
            (entry, Group::Named(class))
        }
        Err(refusal) => {
            entry.coding = Coding::Refused(refusal);
            (entry, Group::None)
        }
    }
}
