//! Folders: of images, of CIFAR binary files, of tar shards.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::image::Format;
use super::index::{Coding, Entry, NO_LABEL, Store};
use super::ranges::Ranges;
use super::scan::Scan;
use super::{archive, cifar};
use crate::error::{Error, Result};
use crate::outside::{open_regular, printable, read_at_most};

/// The longest file of classes' names: a million of them.
const NAMES_BYTES: u64 = 64 << 20;
use crate::signals;

/// Files of a folder, by kind; names are relative to the source, with `/` between folders.
#[derive(Default)]
struct Found {
    images: Vec<String>,
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
    found.images.sort_unstable();
    found.records.sort_unstable();
    found.shards.sort_unstable();
    let store = scan.index.add_store(Store::Folder(root.clone()));
    let mut files = 0;
    for name in &found.images {
        if scan.wants(name) {
            let entry = Entry { store, label: NO_LABEL, offset: 0, len: 0, coding: Coding::File };
            scan.push(name, entry);
            files += 1;
        }
    }
    for name in &found.records {
        if push_cifar_file(scan, &root.join(name), name)? {
            files += 1;
        } else {
            scan.index.bins.note(name);
        }
    }
    if let (Some(shard), true) = (found.shards.first(), files > 0) {
        // The archives may hold other images or the same once more: nobody can tell.
        return Err(Error::data(format!(
            "{} holds both {files} images or CIFAR files and {} tar archives (such as {}): \
             expected one of the two; name the archives themselves (PATH/*.tar), name a folder \
             inside, or move one of the two elsewhere",
            printable(&root),
            found.shards.len(),
            printable(shard)
        )));
    }
    for name in &found.shards {
        let mut shard = scan.nested(root.join(name));
        archive::scan(&mut shard)?;
        let (folders, added) = shard.into_met();
        scan.absorb(folders, added);
    }
    Ok(())
}

/// Adds a CIFAR file's records, with the classes' names that lie beside it; says whether it is
/// such a file.
pub(super) fn push_cifar_file(scan: &mut Scan, path: &Path, name: &str) -> Result<bool> {
    if !name.ends_with(".bin") {
        return Ok(false);
    }
    let ranges = Ranges::open(path, &mut scan.index.kept_open)?;
    let records = cifar::recognise(name, ranges.len(), &ranges, 0);
    let Some(records) = records.map_err(|e| Error::read(path, e))? else {
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
    scan.push_records(&records, name, store, 0, &classes)?;
    scan.index.add_store(Store::Ranges(ranges));
    Ok(true)
}

fn walk(
    scan: &mut Scan,
    folder: &Path,
    relative: &str,
    above: &mut Vec<PathBuf>,
    found: &mut Found,
) -> Result<()> {
    let bad = |e: std::io::Error| {
        Error::data(format!(
            "cannot read the folder {}: {e}; make it readable, move it out of {}, or name the \
             folders that you want",
            printable(folder),
            printable(&scan_root(folder, relative))
        ))
    };
    let real = fs::canonicalize(folder).map_err(bad)?;
    if above.contains(&real) {
        tracing::warn!("{} leads back to a folder above it; not followed", printable(folder));
        return Ok(());
    }
    let items = match fs::read_dir(folder) {
        // Of file systems' own, which only root may read.
        Err(e) if e.kind() == ErrorKind::PermissionDenied && relative == "lost+found" => {
            tracing::warn!("skipped {}: {e}", printable(folder));
            return Ok(());
        }
        items => items.map_err(bad)?,
    };
    above.push(real);
    for item in items {
        signals::go_on()?;
        let item = item.map_err(bad)?;
        let path = item.path();
        let name = item.file_name().into_string().unwrap_or_else(|name| {
            let place = printable(folder);
            tracing::warn!("{place}: {name:?} cannot be read, as it is not UTF-8; rename it");
            // Under this name there is nothing: it counts as an image that cannot be read.
            name.to_string_lossy().into_owned()
        });
        let relative = if relative.is_empty() { name } else { format!("{relative}/{name}") };
        let mut kind = item.file_type().map_err(bad)?;
        if kind.is_symlink() {
            // A link to nothing stays a name; an image of that name will be unreadable.
            kind = fs::metadata(&path).map_or(kind, |m| m.file_type());
        }
        if kind.is_dir() {
            walk(scan, &path, &relative, above, found)?;
        } else {
            sort_file(scan, &path, relative, found);
            scan.expect_room(found.images.len() + found.shards.len() + found.records.len())?;
        }
    }
    above.pop();
    Ok(())
}

/// The folder below which `folder` is called `relative`.
fn scan_root<'a>(folder: &'a Path, relative: &str) -> &'a Path {
    let depth = relative.split('/').filter(|part| !part.is_empty()).count();
    folder.ancestors().nth(depth).unwrap_or(folder)
}

fn sort_file(scan: &mut Scan, path: &Path, name: String, found: &mut Found) {
    let base = name.rsplit('/').next().unwrap_or_default();
    if base.starts_with('.') {
        scan.index.others.note(&name);
    } else if Format::is_image_name(base) {
        found.images.push(name);
    } else if base.ends_with(".tar") || base.ends_with(".tar.zst") {
        found.shards.push(name);
    } else if base.ends_with(".bin") {
        found.records.push(name);
    } else {
        let mut head = Vec::with_capacity(16);
        let read = open_regular(path).and_then(|file| file.take(16).read_to_end(&mut head));
        match read {
            Ok(_) if Format::sniff(&head).is_some() => found.images.push(name),
            Ok(_) => scan.index.pass_over(&name, &head),
            Err(e) => {
                tracing::warn!("skipped {}: {e}", printable(path));
                scan.index.others.note(&name);
            }
        }
    }
}
