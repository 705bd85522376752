//! Folders: of images, and of files that hold many images.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::image::Format;
use super::index::{Coding, Entry, NO_LABEL, Store};
use super::labels::Labels;
use super::scan::Scan;
use super::source::{CONTAINERS, Container, head_of, unknown};
use super::{cifar, idx, table};
use crate::error::{Error, Result};
use crate::outside::{open_regular, printable};
use crate::signals;

/// Files of a folder, by kind; names are relative to the source, with `/` between folders.
#[derive(Default)]
struct Found {
    images: Vec<String>,
    /// Files that hold many images, as far as their names say, and which kind each is.
    containers: Vec<(String, &'static Container)>,
    /// Tables that may hold labels.
    tables: Vec<String>,
    /// Files of labels, which count among others where no images need them.
    labels: Vec<String>,
}

/// Adds everything below the scan's folder.
pub(super) fn scan(scan: &mut Scan) -> Result<()> {
    let root = scan.path.clone();
    // Only the folder asked for is walked, where it is one (CIFAR's `train` is not).
    let inside = scan.wanted.clone().filter(|w| root.join(w).is_dir()).unwrap_or_default();
    let mut found = Found::default();
    walk(scan, &root.join(&inside), &inside, &mut Vec::new(), &mut found)?;
    found.images.sort_unstable();
    found.containers.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let store = scan.index.add_store(Store::Folder(root.clone()));
    let mut labels = Labels::of(scan, &found.tables, &inside)?;
    let mut files = 0;
    for name in &found.images {
        if scan.wants(name) {
            let entry = Entry { store, label: NO_LABEL, offset: 0, len: 0, coding: Coding::File };
            match labels.take(name) {
                Some(group) => scan.push_as(name, group, entry),
                None => scan.push(name, entry),
            }
            files += 1;
        }
    }
    labels.say_what_is_left(scan);
    if files > 0 {
        scan.index.note_kind("folder");
    }
    let (archives, records): (Vec<_>, Vec<_>) =
        found.containers.into_iter().partition(|(_, container)| container.may_repeat);
    let mut with_labels = false;
    for (name, container) in &records {
        if add(scan, &root, name, container)? {
            files += 1;
            with_labels |= idx::is_named(name);
        } else if cifar::is_named(name) {
            scan.index.bins.note(name);
        } else {
            scan.index.others.note(name);
        }
    }
    if !with_labels {
        found.labels.iter().for_each(|name| scan.index.others.note(name));
    }
    if let (Some((first, _)), true) = (archives.first(), files > 0) {
        // The archives may hold other images or the same once more: nobody can tell.
        return Err(Error::data(format!(
            "{} holds both {files} images, CIFAR or IDX files and {} archives (such as {}): \
             expected one of the two; name the archives themselves (PATH/*.tar), name a folder \
             inside, or move one of the two elsewhere",
            printable(&root),
            archives.len(),
            printable(first)
        )));
    }
    for (name, container) in &archives {
        if !add(scan, &root, name, container)? {
            return Err(unknown(&root.join(name)));
        }
    }
    Ok(())
}

/// Adds the images of a file; says whether it is of the kind that its name says.
fn add(scan: &mut Scan, root: &Path, name: &str, container: &Container) -> Result<bool> {
    let path = root.join(name);
    let head = head_of(&path)?;
    let mut nested = scan.nested(path, name);
    let is_one = (container.add)(&mut nested, &head)?;
    let (folders, added) = nested.into_met();
    scan.absorb(folders, added);
    if is_one {
        scan.index.note_kind(container.name);
    }
    Ok(is_one)
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
    let held = found.images.len() + found.containers.len();
    let mut has_folders = false;
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
            has_folders |= !relative.rsplit('/').next().is_some_and(|base| base.starts_with('.'));
            walk(scan, &path, &relative, above, found)?;
        } else {
            sort_file(scan, &path, relative, found);
            scan.expect_room(found.images.len() + found.containers.len())?;
        }
    }
    above.pop();
    if held == found.images.len() + found.containers.len() && !has_folders {
        scan.index.empty_folders.note(if relative.is_empty() { "." } else { relative });
    }
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
    } else if let Some(container) = CONTAINERS.iter().find(|c| (c.is_named)(base)) {
        found.containers.push((name, container));
    } else if table::BESIDE.contains(&base) {
        found.tables.push(name);
    } else if idx::is_labels(base) {
        found.labels.push(name);
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
