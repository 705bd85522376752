//! Text lists: a path a line, relative to the list; a label may follow.

use std::path::PathBuf;

use super::image::Format;
use super::index::{Coding, Entry, Group, NO_LABEL, Store};
use super::limits::FILE_BYTES;
use super::scan::Scan;
use crate::error::{Error, Result};
use crate::outside::{printable, read_at_most};

/// Adds the images that the scan's file lists, in its order.
pub(super) fn scan(scan: &mut Scan) -> Result<()> {
    let path = scan.path.clone();
    let bytes = read_at_most(&path, scan.limits().file_bytes, FILE_BYTES);
    let bytes = bytes.map_err(|e| Error::read(&path, e))?;
    let text = String::from_utf8(bytes).map_err(|e| Error::read(&path, e))?;
    let root = path.parent().map(PathBuf::from).unwrap_or_default();
    let lines = || text.lines().map(str::trim_end).filter(|line| !line.is_empty());
    if let Some(first) = lines().next() {
        let (name, _) = split_label(first);
        let there = root.join(name);
        if !there.is_file() {
            return Err(Error::data(format!(
                "{} looks like a text list of paths, but its first line names {}, which is not \
                 there: expected a path a line, relative to the list's folder",
                printable(&path),
                printable(&there)
            )));
        }
    }
    let store = scan.index.add_store(Store::Folder(root));
    for line in lines() {
        let (name, label) = split_label(line);
        if !scan.wants(name) {
            continue;
        }
        scan.expect_room(1)?;
        let entry = Entry { store, label: NO_LABEL, offset: 0, len: 0, coding: Coding::File };
        match label {
            Some(label) => scan.push_as(name, Group::Named(label.to_owned()), entry),
            None => scan.push(name, entry),
        }
    }
    Ok(())
}

/// A line's path and label: what follows a tab, or a number after a space and an image's name.
fn split_label(line: &str) -> (&str, Option<&str>) {
    if let Some((name, label)) = line.rsplit_once('\t') {
        return (name, Some(label.trim()));
    }
    match line.rsplit_once(' ') {
        Some((name, label))
            if label.bytes().all(|b| b.is_ascii_digit())
                && !label.is_empty()
                && Format::is_image_name(name) =>
        {
            (name, Some(label))
        }
        _ => (line, None),
    }
}

#[cfg(test)]
mod tests {
    use super::split_label;

    #[test]
    fn labels_follow_a_tab_or_a_space() {
        assert_eq!(split_label("a b/c 1.jpg"), ("a b/c 1.jpg", None));
        assert_eq!(split_label("a b/c.jpg 17"), ("a b/c.jpg", Some("17")));
        assert_eq!(split_label("a b/c 17"), ("a b/c 17", None));
        assert_eq!(split_label("x.png\tblack cat"), ("x.png", Some("black cat")));
    }
}
