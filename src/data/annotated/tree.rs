//! A folder, or a tar archive, as names with `/` between folders.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::title;
use crate::data::Image;
use crate::data::archive::plain_files;
use crate::data::limits::{FILE_BYTES, IMAGES, Limits, Memory};
use crate::data::ranges::Ranges;
use crate::data::source::head_of;
use crate::error::{Error, Result};
use crate::outside::{printable, read_at_most};

/// Files below a folder of a directory or an archive.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    path: PathBuf,
    /// The folder within, empty or with `/` at its end.
    prefix: String,
    /// Names of all files in order, and where they lie in an archive.
    members: Arc<BTreeMap<String, (u64, u64)>>,
    archive: Option<Arc<Ranges>>,
    memory: Arc<Memory>,
}

/// Folders within folders, at most.
const DEPTH: usize = 8;

impl Tree {
    /// Looks through a folder or archive.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let memory = Memory::of_process()?;
        let kind = fs::metadata(path).map_err(|e| {
            Error::data(format!(
                "cannot read {}: {e}; expected a folder or a tar archive",
                printable(path)
            ))
        })?;
        let mut members = BTreeMap::new();
        let archive = match kind.is_dir() {
            true => {
                walk(path, "", DEPTH, memory.limits.images, &mut members)?;
                None
            }
            false => Some(Arc::new(index(path, &memory.limits, &mut members)?)),
        };
        let prefix = String::new();
        Ok(Self { path: path.to_path_buf(), prefix, members: members.into(), archive, memory })
    }

    /// The folder within that holds one of the `expected` folders: as long as it holds none of them
    /// but a single folder, that one is meant.
    pub(super) fn holding(mut self, expected: &[&str]) -> Result<Self> {
        while !expected.iter().any(|folder| self.has_folder(folder)) {
            match self.only_folder() {
                Some(folder) => self.prefix += &format!("{folder}/"),
                None => return Err(self.without(expected)),
            }
        }
        Ok(self)
    }

    fn without(&self, expected: &[&str]) -> Error {
        let folders: Vec<String> =
            self.folders("").iter().take(8).map(|f| format!("{f}/")).collect();
        let found = match folders.is_empty() {
            true => "no folders".to_owned(),
            false => folders.join(", "),
        };
        Error::data(format!(
            "{}: expected a folder {}; found {found}; docs/dense.md lists the layouts",
            title(&self.path),
            expected.iter().map(|f| format!("{f}/")).collect::<Vec<_>>().join(" or ")
        ))
    }

    /// Names of all files below a folder, in order, as seen from the tree.
    pub(super) fn files(&self, folder: &str) -> Vec<String> {
        let folder = match folder {
            "" => self.prefix.clone(),
            folder => format!("{}{folder}/", self.prefix),
        };
        let names = self.members.range(folder.clone()..).map(|(name, _)| name);
        let within = names.take_while(|name| name.starts_with(&folder));
        within.map(|name| name[self.prefix.len()..].to_owned()).collect()
    }

    /// Whether there are files below a folder.
    pub(super) fn has_folder(&self, folder: &str) -> bool {
        let folder = format!("{}{folder}/", self.prefix);
        let first = self.members.range(folder.clone()..).next();
        first.is_some_and(|(name, _)| name.starts_with(&folder))
    }

    pub(super) fn has_file(&self, name: &str) -> bool {
        self.members.contains_key(&format!("{}{name}", self.prefix))
    }

    /// Names of the folders directly in a folder.
    pub(super) fn folders(&self, folder: &str) -> Vec<String> {
        let from = if folder.is_empty() { 0 } else { folder.len() + 1 };
        let files = self.files(folder);
        let mut names: Vec<String> = files
            .iter()
            .filter_map(|name| name[from..].split_once('/'))
            .map(|(first, _)| first.to_owned())
            .collect();
        names.dedup();
        names
    }

    fn only_folder(&self) -> Option<String> {
        let files = self.files("");
        let (first, _) = files.first()?.split_once('/')?;
        files
            .iter()
            .all(|name| name.split_once('/').is_some_and(|(f, _)| f == first))
            .then(|| first.into())
    }

    /// The only file directly in a folder whose name ends so.
    pub(super) fn only_file(&self, folder: &str, ending: &str) -> Result<String> {
        let files = self.files(folder);
        let mut named = files.into_iter().filter(|name| name.ends_with(ending));
        match (named.next(), named.next()) {
            (Some(name), None) => Ok(name),
            (first, second) => Err(Error::data(format!(
                "{}: expected one file *{ending}, found {}; name the split, as in {}#val2017, or the \
                 file itself",
                self.title_of(folder),
                match (first, second) {
                    (Some(a), Some(b)) => format!("several ({a}, {b})"),
                    _ => "none".into(),
                },
                title(&self.path)
            ))),
        }
    }

    /// The innermost folder that holds all of `files`, as a source of images names it: `PATH`, or
    /// `PATH#FOLDER`.
    pub(super) fn folder_of<'a>(&self, files: impl Iterator<Item = &'a str>) -> String {
        let folder = |file: &'a str| file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let shared = |a: &'a str, b: &'a str| -> &'a str {
            let same = a.split('/').zip(b.split('/')).take_while(|(a, b)| a == b);
            let len = same.map(|(part, _)| part.len() + 1).sum::<usize>();
            &a[..len.saturating_sub(1)]
        };
        let within = files.map(folder).reduce(shared).unwrap_or_default();
        let within = format!("{}{within}", self.prefix);
        let path = self.path.display();
        match within.trim_end_matches('/') {
            "" => path.to_string(),
            within => format!("{path}#{within}"),
        }
    }

    /// What a file or folder is called in messages.
    pub(super) fn title_of(&self, name: &str) -> String {
        let within = format!("{}{name}", self.prefix);
        match within.trim_end_matches('/') {
            "" => title(&self.path),
            within => title(&self.path.join(within)),
        }
    }

    /// The image in a file. If `size` says its height and width, the image has that size, rotated as
    /// EXIF asks for or, if only that fits, as it is stored.
    ///
    /// # Errors
    /// With the file: what cannot be read, is damaged, or has another size.
    pub(super) fn image(&self, name: &str, size: Option<(u32, u32)>) -> Result<Image> {
        let memory = &self.memory;
        let size = size.map(|(height, width)| (width as usize, height as usize));
        let _encoded = memory.encoded.take(self.bytes(name).min(memory.limits.file_bytes))?;
        let bytes = self.read(name)?;
        let mut permit = None;
        let mut admit = |bytes: u64| {
            permit = None;
            permit = Some(memory.decoded.take(bytes)?);
            Ok(())
        };
        Image::decode_as_annotated(&bytes, size, &memory.limits, 0, &mut admit)
            .map_err(|e| e.context(self.title_of(name)))
    }

    /// How many bytes a file has; 0 where there is none.
    pub(super) fn bytes(&self, name: &str) -> u64 {
        let name = format!("{}{name}", self.prefix);
        match &self.archive {
            None => fs::metadata(self.path.join(name)).map_or(0, |file| file.len()),
            Some(_) => self.members.get(&name).map_or(0, |(_, len)| *len),
        }
    }

    /// The bytes of a file.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>> {
        let limit = self.memory.limits.file_bytes;
        let whole = format!("{}{name}", self.prefix);
        let Some(archive) = &self.archive else {
            let path = self.path.join(&whole);
            return read_at_most(&path, limit, FILE_BYTES).map_err(|e| Error::read(&path, e));
        };
        let bad = |e: &dyn std::fmt::Display| {
            Error::data(format!("cannot read {}: {e}", self.title_of(name)))
        };
        let (offset, len) =
            *self.members.get(&whole).ok_or_else(|| bad(&"the archive has no such file"))?;
        if len > limit {
            let text = format!("expected at most {limit} bytes ({FILE_BYTES}), found {len}");
            return Err(bad(&text));
        }
        if offset.saturating_add(len) > archive.len() {
            return Err(bad(&"the archive is cut short within it; copy it again"));
        }
        let mut bytes = vec![0; len as usize];
        archive.read_at(offset, &mut bytes).map_err(|e| bad(&e))?;
        Ok(bytes)
    }
}

/// That there are too many files, where there are.
fn expect_room(path: &Path, found: usize, most: u64) -> Result<()> {
    match found as u64 >= most {
        false => Ok(()),
        true => Err(Error::data(format!(
            "{}: expected at most {most} files, found more; set {IMAGES} higher",
            title(path)
        ))),
    }
}

/// Notes the files below a directory.
fn walk(
    path: &Path,
    prefix: &str,
    depth: usize,
    most: u64,
    into: &mut BTreeMap<String, (u64, u64)>,
) -> Result<()> {
    let bad = |e| Error::read(path, e);
    for entry in fs::read_dir(path).map_err(bad)? {
        let entry = entry.map_err(bad)?;
        let name = entry.file_name();
        // Names that are no text are none that annotations could say.
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
        let name = format!("{prefix}{name}");
        // Links to folders are followed, but not for ever.
        if entry.path().is_dir() {
            if depth > 0 {
                walk(&entry.path(), &format!("{name}/"), depth - 1, most, into)?;
            }
        } else {
            expect_room(path, into.len(), most)?;
            into.insert(name, (0, 0));
        }
    }
    Ok(())
}

/// Notes the files of an archive.
fn index(path: &Path, limits: &Limits, into: &mut BTreeMap<String, (u64, u64)>) -> Result<Ranges> {
    let note = |name: String, place| {
        let name = name.trim_start_matches("./");
        // macOS's archives have a second file `._name` for each.
        if !name.rsplit('/').next().unwrap_or(name).starts_with('.') {
            expect_room(path, into.len(), limits.images)?;
            into.insert(name.to_owned(), place);
        }
        Ok(())
    };
    plain_files(path, &head_of(path)?, limits, note)?.ok_or_else(|| {
        Error::data(format!(
            "{}: expected annotations in COCO's JSON, a folder or a tar archive (plain, .zst or .gz); \
             found another file",
            title(path)
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_files_is_the_innermost() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["set/train/a/1.png", "set/train/b/2.png", "set/trains/3.png"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let tree = Tree::open(dir.path()).unwrap();
        let found = |files: &[&str]| {
            let folder = tree.folder_of(files.iter().copied());
            folder.strip_prefix(dir.path().to_str().unwrap()).unwrap().to_owned()
        };
        assert_eq!(found(&["set/train/a/1.png"]), "#set/train/a");
        assert_eq!(found(&["set/train/a/1.png", "set/train/b/2.png"]), "#set/train");
        assert_eq!(found(&["set/train/a/1.png", "set/trains/3.png"]), "#set");
        assert_eq!(found(&["1.png", "set/train/a/1.png"]), "");
        let within = tree.clone().holding(&["train"]).unwrap();
        assert!(within.folder_of(["train/a/1.png"].into_iter()).ends_with("#set/train/a"));
    }
}
