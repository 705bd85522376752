//! Folders: of pictures, of CIFAR binary files, of tar shards.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::image::Format;
use super::index::{Coding, Entry, NO_LABEL, Store};
use super::source::{self, Scan};
use super::{archive, cifar};
use crate::error::{Error, Result};
use crate::signals;

/// Files of a folder, by kind; names are relative to the source, with `/` between folders.
#[derive(Default)]
struct Found {
    pictures: Vec<String>,
    shards: Vec<String>,
    records: Vec<String>,
}

/// Adds everything below the scan's folder.
pub(super) fn scan(scan: &mut Scan) -> Result<()> {
    let root = scan.path.clone();
    // Only the folder asked for is walked, where it is one (CIFAR's `train` is not).
    let inside = scan.wanted.clone().filter(|w| root.join(w).is_dir()).unwrap_or_default();
    let mut found = Found::default();
    let mut above = Vec::new();
    walk(scan, &root.join(&inside), &inside, &mut above, &mut found)?;
    found.pictures.sort_unstable();
    found.records.sort_unstable();
    found.shards.sort_unstable();
    let store = scan.index.add_store(Store::Folder(root.clone()));
    let mut any = false;
    for name in &found.pictures {
        if scan.wants(name) {
            let entry = Entry { store, label: NO_LABEL, offset: 0, len: 0, coding: Coding::File };
            scan.push(name, entry);
            any = true;
        }
    }
    for name in &found.records {
        let path = root.join(name);
        let file = File::open(&path).map_err(|e| Error::read(&path, e))?;
        let map = source::map(&file, &path)?;
        match cifar::recognise(name, &map) {
            Some(kind) => {
                push_cifar_file(scan, &path, name, kind, map)?;
                any = true;
            }
            None => scan.index.others.note(name),
        }
    }
    for name in &found.shards {
        if any {
            scan.index.others.note(name);
            continue;
        }
        let mut shard = scan.nested(root.join(name));
        archive::scan(&mut shard)?;
        let (folders, added) = shard.into_met();
        scan.absorb(folders, added);
    }
    Ok(())
}

/// Adds a CIFAR file's records, with the classes' names that lie beside it.
pub(super) fn push_cifar_file(
    scan: &mut Scan,
    path: &Path,
    name: &str,
    kind: cifar::Kind,
    map: Mmap,
) -> Result<()> {
    let beside = path.with_file_name(kind.names_file());
    let classes: Vec<String> = match fs::read_to_string(&beside) {
        Ok(text) => text.lines().filter(|l| !l.is_empty()).map(str::to_owned).collect(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(Error::read(&beside, e)),
    };
    let store = scan.index.stores.len() as u32;
    scan.push_records(kind, name, &map, store, 0, &classes);
    scan.index.add_store(Store::Mapped { path: path.to_path_buf(), map });
    Ok(())
}

fn walk(
    scan: &mut Scan,
    folder: &Path,
    relative: &str,
    above: &mut Vec<PathBuf>,
    found: &mut Found,
) -> Result<()> {
    let bad = |e: std::io::Error| Error::read(folder, e);
    let real = fs::canonicalize(folder).map_err(bad)?;
    if above.contains(&real) {
        tracing::warn!("{} leads back to a folder above it; not followed", folder.display());
        return Ok(());
    }
    above.push(real);
    for item in fs::read_dir(folder).map_err(bad)? {
        signals::go_on()?;
        let item = item.map_err(bad)?;
        let path = item.path();
        let name = item.file_name().into_string().unwrap_or_else(|name| {
            let place = folder.display();
            tracing::warn!("{place}: {name:?} cannot be read, as it is not UTF-8; rename it");
            // Under this name there is nothing: it counts as a picture that cannot be read.
            name.to_string_lossy().into_owned()
        });
        let relative = if relative.is_empty() { name } else { format!("{relative}/{name}") };
        let mut kind = item.file_type().map_err(bad)?;
        if kind.is_symlink() {
            // A link to nothing stays a name; a picture of that name will be unreadable.
            kind = fs::metadata(&path).map_or(kind, |m| m.file_type());
        }
        if kind.is_dir() {
            walk(scan, &path, &relative, above, found)?;
        } else {
            sort_file(scan, &path, relative, found)?;
        }
    }
    above.pop();
    Ok(())
}

fn sort_file(scan: &mut Scan, path: &Path, name: String, found: &mut Found) -> Result<()> {
    let base = name.rsplit('/').next().unwrap_or_default();
    if base.starts_with('.') {
        scan.index.others.note(&name);
    } else if Format::is_picture_name(base) {
        found.pictures.push(name);
    } else if base.ends_with(".tar") || base.ends_with(".tar.zst") {
        found.shards.push(name);
    } else if base.ends_with(".bin") {
        found.records.push(name);
    } else {
        let mut head = Vec::with_capacity(16);
        let file = File::open(path).map_err(|e| Error::read(path, e))?;
        file.take(16).read_to_end(&mut head).map_err(|e| Error::read(path, e))?;
        match Format::sniff(&head) {
            Some(_) => found.pictures.push(name),
            None => scan.index.others.note(&name),
        }
    }
    Ok(())
}
