//! Folders that results are written into: each carries a mark, belongs to one process at a time,
//! and loses nothing but what engine itself has written there.
//!
//! The mark is the file [`MARK`], which holds the folder's kind and is locked while a process
//! writes into the folder. Whatever a [`Kind`] does not list is somebody else's and stays.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::{disk, disk_hint, is_part};
use crate::error::{Error, Result};

/// The file by which our folders are known.
pub const MARK: &str = ".engine";
/// There while a folder's files are being removed: what is left of them is no result.
const CLEARING: &str = ".engine-clearing";

/// What a kind of folder is called and what it holds.
#[derive(Debug)]
pub struct Kind {
    /// What the mark says, and messages too: `run`, `search`, ….
    pub name: &'static str,
    /// Lists of files that are ours, relative to the folder. `*` stands for any part of a name.
    pub ours: &'static [&'static [&'static str]],
    /// What the flags for a folder that holds results are, in words.
    pub flags: &'static str,
    /// Whether an unmarked folder holds such results of an earlier version.
    pub is_older: fn(&Path) -> bool,
}

/// What may happen to results that are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Nothing: they are in the way.
    Refuse,
    /// They are removed by [`Owned::clear`] (`--overwrite`).
    Replace,
    /// They are continued (`--resume`).
    Continue,
}

/// A folder that belongs to this process until it is dropped.
#[derive(Debug)]
pub struct Owned {
    root: PathBuf,
    pub(super) kind: &'static Kind,
    existing: Existing,
    /// Whether the folder was made.
    is_new: bool,
    /// Whether the folder held nothing before.
    was_empty: bool,
    cleared: AtomicBool,
    mark: File,
}

impl Owned {
    /// Takes a folder: makes it where it is missing, marks it and locks it. Nothing that it holds
    /// is changed. What was made disappears again when this is dropped and nothing was written.
    ///
    /// # Errors
    /// [`crate::Kind::Usage`] where results are in the way, the folder is not of this kind, or
    /// another process writes into it; [`crate::Kind::Device`] where the disk refuses.
    pub fn claim(root: &Path, kind: &'static Kind, existing: Existing) -> Result<Self> {
        // Refuses before anything is made, and again when nobody else can change the folder.
        look(root, kind, existing)?;
        let is_new = !root.exists();
        disk::create_dir_all(root).map_err(|e| Error::write(root, disk_hint(&e)))?;
        let mark = lock(root)?;
        let was_empty = look(root, kind, existing)?;
        let mut owned = Self {
            root: root.to_path_buf(),
            kind,
            existing,
            is_new,
            was_empty,
            cleared: AtomicBool::new(false),
            mark,
        };
        owned.write_mark()?;
        if root.join(CLEARING).exists() {
            owned.remove_ours()?;
            owned.was_empty = true;
        }
        owned.sweep(root, "")?;
        Ok(owned)
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the folder held nothing when it was taken.
    pub fn was_empty(&self) -> bool {
        self.was_empty
    }

    /// Removes the results that are there, once, where they may be replaced: when all that new ones
    /// need is ready. A process that is killed meanwhile leaves a folder that the next one clears.
    ///
    /// # Errors
    /// [`crate::Kind::Usage`] where another process writes into a folder inside.
    pub fn clear(&self) -> Result<()> {
        if self.existing != Existing::Replace
            || self.was_empty
            || self.cleared.swap(true, Ordering::Relaxed)
        {
            return Ok(());
        }
        // Kept until the end, so that nobody begins to write there.
        let _inside = self.lock_inside(&self.root)?;
        let clearing = self.root.join(CLEARING);
        let note = disk::append(&clearing).and_then(|file| disk::sync(&file, &clearing));
        note.map_err(|e| Error::write(&clearing, disk_hint(&e)))?;
        self.remove_ours()
    }

    /// Writes the kind into a mark that is new. In place, as the lock is this file's.
    fn write_mark(&self) -> Result<()> {
        let path = self.root.join(MARK);
        let failed = |e: io::Error| Error::write(&path, disk_hint(&e));
        if kind_of(&self.root).as_deref() == Some(self.kind.name) {
            return Ok(());
        }
        disk::set_len(&self.mark, &path, 0).map_err(failed)?;
        let text = format!("{}\n", self.kind.name);
        disk::write_all(&self.mark, &path, text.as_bytes()).map_err(failed)
    }

    pub(super) fn remove_ours(&self) -> Result<()> {
        self.remove_in(&self.root, "").map_err(|(path, e)| Error::write(&path, disk_hint(&e)))?;
        let clearing = self.root.join(CLEARING);
        disk::remove_file(&clearing).map_err(|e| Error::write(&clearing, disk_hint(&e)))
    }

    fn remove_in(&self, dir: &Path, relative: &str) -> Result<(), (PathBuf, io::Error)> {
        let failed = |e: io::Error| (dir.to_path_buf(), e);
        for entry in fs::read_dir(dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let (path, inside) = (entry.path(), below(relative, &name));
            if entry.file_type().map_err(failed)?.is_dir() {
                if self.kind.reaches_into(&inside) {
                    self.remove_in(&path, &inside)?;
                    // Stays where it holds something else.
                    let _ = disk::remove_dir(&path);
                }
            } else if self.kind.owns(&inside) && inside != MARK && inside != CLEARING {
                disk::remove_file(&path).map_err(|e| (path, e))?;
            }
        }
        Ok(())
    }

    /// The marks of folders inside, locked.
    fn lock_inside(&self, dir: &Path) -> Result<Vec<File>> {
        let mut locked = Vec::new();
        for entry in fs::read_dir(dir).map_err(|e| Error::read(dir, e))? {
            let path = entry.map_err(|e| Error::read(dir, e))?.path();
            if path.is_dir() && !path.is_symlink() {
                if path.join(MARK).is_file() {
                    locked.push(lock(&path)?);
                }
                locked.extend(self.lock_inside(&path)?);
            }
        }
        Ok(locked)
    }

    /// Removes what a killed process was writing, here and in folders inside that hold files of
    /// ours. Those that carry a mark are swept by the next owner.
    fn sweep(&self, dir: &Path, relative: &str) -> Result<()> {
        let failed = |e: io::Error| Error::write(dir, disk_hint(&e));
        for entry in fs::read_dir(dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let (path, inside) = (entry.path(), below(relative, &name));
            let is_dir = entry.file_type().map_err(failed)?.is_dir();
            match (is_part(&name), is_dir) {
                (true, true) => disk::remove_dir_all(&path).map_err(failed)?,
                (true, false) => disk::remove_file(&path).map_err(failed)?,
                (false, true) if self.kind.reaches_into(&inside) && !path.join(MARK).exists() => {
                    self.sweep(&path, &inside)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let nothing = || contents(&self.root).is_ok_and(|names| names.is_empty());
        if self.was_empty && nothing() {
            // A folder that cannot be removed is as good as one that can: it is free.
            let _ = disk::remove_file(&self.root.join(MARK));
            if self.is_new {
                let _ = disk::remove_dir(&self.root);
            }
        }
    }
}

impl Kind {
    /// Whether a file of this name, relative to the folder, is ours.
    pub(crate) fn owns(&self, relative: &str) -> bool {
        let name = relative.rsplit('/').next().unwrap_or(relative);
        let folder = relative.strip_suffix(name).unwrap_or_default().trim_end_matches('/');
        relative == MARK
            || relative == CLEARING
            || self.patterns().any(|pattern| fits(pattern, relative))
            || (is_part(name) && (folder.is_empty() || self.reaches_into(folder)))
    }

    /// Whether a folder of this name, relative to ours, may hold files of ours.
    fn reaches_into(&self, folder: &str) -> bool {
        self.patterns().any(|pattern| {
            let ends = pattern.match_indices('/').map(|(end, _)| end);
            ends.into_iter().any(|end| fits(&pattern[..end], folder))
        })
    }

    fn patterns(&self) -> impl Iterator<Item = &'static str> {
        self.ours.iter().flat_map(|list| list.iter().copied())
    }
}

/// Whether a path fits a pattern, part by part.
fn fits(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) => {
                let fits = match pattern.split_once('*') {
                    Some((start, end)) => {
                        part.len() >= start.len() + end.len()
                            && part.starts_with(start)
                            && part.ends_with(end)
                    }
                    None => pattern == part,
                };
                if !fits {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

fn below(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Names in a folder that count: neither the mark nor what a killed process was writing. None
/// where there is no folder.
pub(super) fn contents(root: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(root) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names = names.collect::<io::Result<Vec<String>>>()?;
    Ok(names.into_iter().filter(|name| name != MARK && !is_part(name)).collect())
}

pub(super) fn others_in(
    dir: &Path,
    relative: &str,
    kind: &Kind,
    others: &mut Vec<String>,
) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(|e| Error::read(dir, e))? {
        let entry = entry.map_err(|e| Error::read(dir, e))?;
        let name = below(relative, &entry.file_name().to_string_lossy());
        let is_dir = entry.file_type().map_err(|e| Error::read(dir, e))?.is_dir();
        if is_dir && kind.reaches_into(&name) {
            others_in(&entry.path(), &name, kind, others)?;
        } else if is_dir || !kind.owns(&name) {
            others.push(name);
        }
    }
    Ok(())
}

/// What a folder's mark says; none where there is no mark, or an empty one.
fn kind_of(root: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(root.join(MARK)).ok()?.take(64).read_to_string(&mut text).ok()?;
    text.split_whitespace().next().map(str::to_owned)
}

/// Whether a folder holds nothing; exit 2 where what it holds is in the way.
pub(super) fn look(root: &Path, kind: &Kind, existing: Existing) -> Result<bool> {
    let out = root.display();
    if root.exists() && !root.is_dir() {
        return Err(Error::usage(format!(
            "--out {out} is not a folder: give the folder of {}, or a new name",
            a(kind.name)
        )));
    }
    let names = contents(root).map_err(|e| Error::read(root, e))?;
    if names.is_empty() {
        return Ok(true);
    }
    let marked = kind_of(root);
    let name = kind.name;
    match existing {
        Existing::Refuse => Err(Error::usage(format!(
            "{out} exists: expected a new folder, found {}; give {}, or another --out",
            some_of(&names),
            kind.flags
        ))),
        Existing::Replace if marked.as_deref() == Some(name) => Ok(false),
        Existing::Replace => Err(Error::usage(format!(
            "{out} is not {} that engine made ({}), so --overwrite deletes nothing in it; give \
             another --out, or delete it yourself",
            a(name),
            match &marked {
                Some(other) => format!("it holds {}", a(other)),
                None => format!("it has no {MARK}"),
            }
        ))),
        Existing::Continue => {
            let other = marked.as_deref().is_some_and(|m| m != name);
            let ours = |n: &&String| kind.owns(n) || kind.reaches_into(n);
            let in_the_way = marked.is_none() && !(kind.is_older)(root);
            match names.iter().find(ours) {
                _ if other => Err(Error::usage(format!(
                    "{out} holds {}, not {} to go on with: give another --out",
                    a(&marked.unwrap_or_default()),
                    a(name)
                ))),
                Some(found) if in_the_way => Err(Error::usage(format!(
                    "{out} holds no {name} to go on with, and {found} in it would be replaced: \
                     give another --out"
                ))),
                _ => Ok(false),
            }
        }
    }
}

/// A word with its article.
fn a(word: &str) -> String {
    let article = if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {word}")
}

pub(super) fn some_of(names: &[String]) -> String {
    let first = names.iter().min().map_or("", String::as_str);
    match names.len() {
        1 => format!("{first} in it"),
        n => format!("{first} and {} more in it", n - 1),
    }
}

/// Opens and locks a folder's mark.
fn lock(root: &Path) -> Result<File> {
    let path = root.join(MARK);
    let failed = |e: io::Error| Error::write(&path, disk_hint(&e));
    loop {
        let mark = match disk::append(&path) {
            // Its last owner has just removed the folder, which was empty.
            Err(e) if e.kind() == ErrorKind::NotFound => {
                disk::create_dir_all(root).map_err(failed)?;
                continue;
            }
            mark => mark.map_err(failed)?,
        };
        match mark.try_lock() {
            Err(TryLockError::WouldBlock) => {
                return Err(Error::usage(format!(
                    "another process writes into {}: stop it first (a run's pid is in \
                     status.json), or give another --out",
                    root.display()
                )));
            }
            // Some file systems have no locks.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        // The lock counts only if nobody removed the file in between.
        let same = |there: fs::Metadata| {
            mark.metadata().is_ok_and(|m| (m.dev(), m.ino()) == (there.dev(), there.ino()))
        };
        if fs::symlink_metadata(&path).is_ok_and(same) {
            return Ok(mark);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const KIND: Kind = Kind {
        name: "thing",
        ours: &[&["a.json", "parts/step-*/w.bin"], &["parts/last", "drawn/*/*.png"]],
        flags: "--overwrite to replace it",
        is_older: |root| root.join("parts").is_dir() && root.join("a.json").is_file(),
    };
    pub(in crate::files) static THING: Kind = KIND;
    static OTHER: Kind = Kind { name: "other", ..KIND };

    pub(in crate::files) fn put(root: &Path, names: &[&str]) {
        for name in names {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
    }

    fn claim(root: &Path, existing: Existing) -> Result<Owned> {
        Owned::claim(root, &THING, existing)
    }

    #[test]
    fn patterns() {
        for ours in ["a.json", "parts/step-12/w.bin", "parts/last", "drawn/a/c.png", MARK] {
            assert!(THING.owns(ours), "{ours}");
        }
        for other in
            ["b.json", "x/a.json", "parts/step-12/v.bin", "parts/x/w.bin", "parts", "drawn/c.png"]
        {
            assert!(!THING.owns(other), "{other}");
        }
        assert!(THING.owns("parts/.w.bin.17.part") && !THING.owns("x/.w.bin.17.part"));
        assert!(THING.reaches_into("drawn/a") && THING.reaches_into("drawn"));
        assert!(!THING.reaches_into("a.json") && !THING.reaches_into("drawn/a/b"));
    }

    #[test]
    fn a_folder_that_nothing_is_written_into_disappears() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("x/y");
        drop(claim(&root, Existing::Refuse).unwrap());
        assert!(!root.exists());
        let given = tempfile::tempdir().unwrap();
        drop(claim(given.path(), Existing::Refuse).unwrap());
        assert!(given.path().exists() && !given.path().join(MARK).exists());
        // What a killed process leaves is free.
        put(&root, &[MARK, ".w.bin.17.part"]);
        let owned = claim(&root, Existing::Refuse).unwrap();
        assert!(!root.join(".w.bin.17.part").exists());
        put(&root, &["a.json"]);
        drop(owned);
        assert!(root.join("a.json").exists());
        assert_eq!(kind_of(&root).as_deref(), Some("thing"));
    }

    #[test]
    fn only_ours_is_removed_and_only_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("x");
        let owned = claim(&root, Existing::Refuse).unwrap();
        let ours = ["a.json", "parts/step-1/w.bin", "parts/step-2/w.bin", "drawn/p/1.png"];
        put(&root, &ours);
        put(&root, &["thesis.txt", "parts/step-2/notes.txt"]);
        drop(owned);
        let said = claim(&root, Existing::Refuse).unwrap_err().to_string();
        assert!(said.contains("--overwrite"), "{said}");
        claim(&root, Existing::Continue).unwrap().clear().unwrap();
        assert!(root.join("a.json").exists());
        assert!(Owned::claim(&root, &OTHER, Existing::Replace).is_err());
        assert!(Owned::claim(&root, &OTHER, Existing::Continue).is_err());
        claim(&root, Existing::Replace).unwrap().clear().unwrap();
        assert!(!ours.iter().any(|name| root.join(name).exists()));
        assert!(root.join("thesis.txt").exists() && root.join("parts/step-2/notes.txt").exists());
        assert!(!root.join("parts/step-1").exists() && root.join(MARK).exists());
    }

    #[test]
    fn unmarked_folders_are_somebody_elses() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), &["a.json", "site/index.html"]);
        for existing in [Existing::Refuse, Existing::Replace, Existing::Continue] {
            assert_eq!(claim(dir.path(), existing).unwrap_err().exit_code(), 2, "{existing:?}");
        }
        assert!(!dir.path().join(MARK).exists());
        // Results of an earlier version are continued, and so are folders of other things.
        put(dir.path(), &["parts/last"]);
        claim(dir.path(), Existing::Continue).unwrap();
        let logs = tempfile::tempdir().unwrap();
        put(logs.path(), &["slurm.out"]);
        claim(logs.path(), Existing::Continue).unwrap();
    }

    #[test]
    fn clearing_that_was_killed_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("x");
        let owned = claim(&root, Existing::Refuse).unwrap();
        put(&root, &["a.json", CLEARING, "thesis.txt"]);
        drop(owned);
        let owned = claim(&root, Existing::Continue).unwrap();
        assert!(owned.was_empty() && !root.join("a.json").exists());
        assert!(root.join("thesis.txt").exists() && !root.join(CLEARING).exists());
    }
}
