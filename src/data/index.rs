//! The list of a data set's images while it is being put together, and the rule that turns
//! folders into classes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use super::planes::Planes;
use super::ranges::{Ranges, Unpacked};
use super::unsupported::{self, Others, Unsupported};

/// Label of an image that has no class.
pub(super) const NO_LABEL: u32 = u32::MAX;

/// Where the bytes of images lie.
#[derive(Debug)]
pub(super) enum Store {
    /// Files below a folder, by their names.
    Folder(PathBuf),
    /// Ranges of a file, or of what was unpacked from it.
    Ranges(Ranges),
}

impl Store {
    /// What messages call image `name` of this store.
    pub(super) fn describe(&self, name: &str) -> String {
        match self {
            Store::Folder(root) => root.join(name).display().to_string(),
            Store::Ranges(ranges) => format!("{}: {name}", ranges.path.display()),
        }
    }
}

/// How the bytes of an image are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// An encoded image.
    File,
    /// An encoded image after [`CHECKSUM_BYTES`](super::dataset::CHECKSUM_BYTES) of its hash.
    Hashed,
    /// Planes of bytes without a header.
    Planes(Planes),
    /// Not at all: it counts as an image that cannot be read.
    Refused(Refusal),
}

/// Why an image cannot be read, as far as its source tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Refusal {
    /// A link inside an archive.
    Link,
    /// A member of an archive that is no plain file.
    NotPlain,
    /// A member of an archive, or a row of a table, that is larger than the limit.
    TooLarge,
    /// A row of a table without an image.
    NoBytes,
    /// A record of a CIFAR file.
    CutShort,
    /// A record of a CIFAR file.
    Label,
}

impl Refusal {
    /// In words.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Link => "it is a link to something that is not in the archive",
            Self::NotPlain => "expected a plain file in the archive, found another kind of member",
            Self::TooLarge => "it is larger than ENGINE_MAX_FILE_BYTES allows",
            Self::NoBytes => "its row holds no image: the column has no value there",
            Self::CutShort => {
                "its record is cut short: the file's length is no whole number of them"
            }
            Self::Label => "its label is out of range: the file may be damaged, or no CIFAR file",
        }
    }
}

/// One image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub store: u32,
    /// Index of the class, or [`NO_LABEL`].
    pub label: u32,
    /// Where its bytes begin in a store of ranges.
    pub offset: u64,
    /// How many they are.
    pub len: u32,
    pub coding: Coding,
}

/// Names, one after the other in one string.
#[derive(Debug, Default)]
pub(super) struct Names {
    text: String,
    ends: Vec<usize>,
}

impl Names {
    pub(super) fn push(&mut self, name: &str) {
        self.text.push_str(name);
        self.ends.push(self.text.len());
    }
    pub(super) fn get(&self, i: usize) -> &str {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.text[start..self.ends[i]]
    }
}

/// What an image's class is taken from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Group {
    /// The folders it lies in, below what `#name` asked for, joined by `/`.
    Folders(String),
    /// A class that the source itself names.
    Named(String),
    /// The source says that it has none.
    None,
}

/// Images found so far.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub stores: Vec<Store>,
    /// With the index of a group in place of the label.
    pub entries: Vec<Entry>,
    pub names: Names,
    groups: Vec<Group>,
    known: HashMap<Group, u32>,
    /// Files that are no images.
    pub others: Others,
    /// Files that are images in formats that are not read.
    pub unsupported: Unsupported,
    /// Sources and files that hold images, by kind.
    pub kinds: BTreeMap<&'static str, usize>,
    /// Files that end in `.bin` and are none of CIFAR's.
    pub bins: Others,
    /// Folders without an image in them or below them.
    pub empty_folders: Others,
    /// Where labels came from, where not from folders.
    pub labels_from: Vec<String>,
    /// What compressed archives are unpacked to.
    pub unpacked: Option<Unpacked>,
    /// Files that are kept open.
    pub kept_open: usize,
}

impl Index {
    /// Adds a store and returns its index.
    pub(super) fn add_store(&mut self, store: Store) -> u32 {
        self.stores.push(store);
        (self.stores.len() - 1) as u32
    }

    /// Counts a source, or a file that holds images.
    pub(super) fn note_kind(&mut self, kind: &'static str) {
        *self.kinds.entry(kind).or_default() += 1;
    }

    /// Counts a file that is not read, from its name and its first bytes.
    pub(super) fn pass_over(&mut self, name: &str, head: &[u8]) {
        match unsupported::format(name, head) {
            Some(format) => self.unsupported.note(format, name),
            None => self.others.note(name),
        }
    }

    /// Closes a file of which nothing is wanted.
    pub(super) fn give_back(&mut self, ranges: &Ranges) {
        self.kept_open -= usize::from(ranges.is_kept_open());
    }

    /// Adds an image; `entry.label` is set from `group`.
    pub(super) fn push(&mut self, name: &str, group: Group, mut entry: Entry) {
        entry.label = match self.known.get(&group) {
            Some(&g) => g,
            None => {
                let g = self.groups.len() as u32;
                self.groups.push(group.clone());
                self.known.insert(group, g);
                g
            }
        };
        self.entries.push(entry);
        self.names.push(name);
    }

    /// Turns groups into labels and returns the classes, sorted.
    pub(super) fn assign_classes(&mut self) -> Vec<String> {
        let class_of = classes_of(&self.groups);
        let distinct: BTreeSet<&String> = class_of.iter().flatten().collect();
        let mut classes: Vec<String> = distinct.into_iter().cloned().collect();
        let numbers: Result<Vec<u64>, _> = classes.iter().map(|c| c.parse()).collect();
        if let Ok(numbers) = numbers {
            // "10" after "9", where all classes are numbers.
            let mut pairs: Vec<(u64, String)> = numbers.into_iter().zip(classes).collect();
            pairs.sort();
            classes = pairs.into_iter().map(|(_, class)| class).collect();
        }
        let labels: HashMap<&str, u32> =
            classes.iter().enumerate().map(|(i, c)| (c.as_str(), i as u32)).collect();
        let label_of: Vec<u32> =
            class_of.iter().map(|c| c.as_ref().map_or(NO_LABEL, |c| labels[c.as_str()])).collect();
        for entry in &mut self.entries {
            entry.label = label_of[entry.label as usize];
        }
        classes
    }
}

/// The class of every group. For folders it is the first one below those that all images
/// share, and below `train`, `val` and `test` where nothing else lies beside them: so
/// `x/train/cat/1.jpg` and `x/test/cat/2.jpg` are both a `cat`.
fn classes_of(groups: &[Group]) -> Vec<Option<String>> {
    let mut folders: Vec<Vec<&str>> = groups
        .iter()
        .filter_map(|g| match g {
            Group::Folders(path) => Some(path.split('/').filter(|f| !f.is_empty()).collect()),
            _ => None,
        })
        .collect();
    while folders.iter().all(|f| f.len() >= 2) && !folders.is_empty() {
        let shared = folders.iter().all(|f| f[0] == folders[0][0]);
        if !shared && !folders.iter().all(|f| is_split(f[0])) {
            break;
        }
        for f in &mut folders {
            f.remove(0);
        }
    }
    let mut folders = folders.into_iter();
    groups
        .iter()
        .map(|g| match g {
            Group::Folders(_) => {
                folders.next().and_then(|f| f.first().map(|class| (*class).to_owned()))
            }
            Group::Named(class) => Some(class.clone()),
            Group::None => None,
        })
        .collect()
}

/// Whether a folder is called as a part of a data set is.
pub(super) fn is_split(folder: &str) -> bool {
    ["train", "training", "val", "valid", "validation", "test", "testing", "unlabeled"]
        .iter()
        .any(|s| folder.eq_ignore_ascii_case(s))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(folders: &[&str]) -> Vec<Option<String>> {
        let groups: Vec<Group> = folders.iter().map(|f| Group::Folders((*f).into())).collect();
        classes_of(&groups)
    }

    #[test]
    fn folders_become_classes() {
        let some = |names: &[&str]| names.iter().map(|n| Some((*n).to_owned())).collect::<Vec<_>>();
        assert_eq!(classes(&["cat", "dog/small"]), some(&["cat", "dog"]));
        assert_eq!(
            classes(&["x/train/cat", "x/test/cat", "x/test/dog"]),
            some(&["cat", "cat", "dog"])
        );
        assert_eq!(classes(&["set/cat", "set/dog"]), some(&["cat", "dog"]));
        assert_eq!(classes(&["cat"]), some(&["cat"]));
        assert_eq!(classes(&["", "cat"]), vec![None, Some("cat".to_owned())]);
        assert_eq!(classes(&[""]), vec![None]);
        assert!(classes(&[]).is_empty());
    }
}
