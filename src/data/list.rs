//! Lists: a path a line, relative to the list; a label may follow.

use std::path::{Path, PathBuf};

use super::image::Format;
use super::index::{Coding, Entry, Group, NO_LABEL, Store};
use super::limits::FILE_BYTES;
use super::scan::Scan;
use super::table::{self, Row};
use crate::error::{Error, Result};
use crate::outside::{printable, read_at_most};

/// Adds the images that the scan's file lists, in its order.
pub(super) fn scan(scan: &mut Scan) -> Result<()> {
    let path = scan.path.clone();
    let rows = if table::is_named(&scan.name) {
        table::read(&path, scan.limits())?.ok_or_else(|| {
            let expected = table::expected();
            Error::data(format!("{}: expected {expected}", printable(&path)))
        })?
    } else {
        lines(scan)?
    };
    let root = root_of(&path, &rows)?;
    let store = scan.index.add_store(Store::Folder(root));
    if rows.iter().any(|(_, label)| label.is_some()) {
        scan.index.labels_from.push(path.display().to_string());
    }
    for (name, label) in rows {
        if !scan.wants(&name) {
            continue;
        }
        scan.expect_room(1)?;
        let entry = Entry { store, label: NO_LABEL, offset: 0, len: 0, coding: Coding::File };
        match label {
            Some(label) => scan.push_as(&name, Group::Named(label), entry),
            None => scan.push(&name, entry),
        }
    }
    Ok(())
}

/// The lines of a text.
fn lines(scan: &Scan) -> Result<Vec<Row>> {
    let path = &scan.path;
    let bytes = read_at_most(path, scan.limits().file_bytes, FILE_BYTES);
    let bytes = bytes.map_err(|e| Error::read(path, e))?;
    let text = String::from_utf8(bytes).map_err(|e| Error::read(path, e))?;
    let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
    let row = |line| {
        let (name, label) = split_label(line);
        (name.to_owned(), label.map(str::to_owned))
    };
    Ok(lines.map(row).collect())
}

/// The folder that a list's paths are relative to: its own or, beside it, the one of its own name
/// without the ending (`train.csv`, `train/`). Errors: the first path is in neither.
fn root_of(list: &Path, rows: &[Row]) -> Result<PathBuf> {
    let own = list.parent().map(PathBuf::from).unwrap_or_default();
    let Some((first, _)) = rows.first() else { return Ok(own) };
    let named = list.with_extension("");
    for root in [&own, &named] {
        if root.join(first).is_file() {
            return Ok(root.clone());
        }
    }
    Err(Error::data(format!(
        "{} looks like a list of images, but its first line names {}, which is not there: expected \
         a path a line, relative to the list's folder or to {}",
        printable(list),
        printable(&own.join(first)),
        printable(&named)
    )))
}

/// A line's path and label: what follows a tab; a number after a space; and what follows a comma
/// or a space behind an image's name.
fn split_label(line: &str) -> (&str, Option<&str>) {
    if let Some((name, label)) = line.rsplit_once('\t') {
        return (name, Some(label.trim()));
    }
    for separator in [',', ' '] {
        if let Some((name, label)) = line.rsplit_once(separator)
            && Format::is_image_name(name)
            && !Format::is_image_name(label)
            && !label.trim().is_empty()
        {
            return (name, Some(label.trim()));
        }
    }
    (line, None)
}

#[cfg(test)]
mod tests {
    use super::split_label;

    #[test]
    fn labels_follow_a_tab_a_comma_or_a_space() {
        assert_eq!(split_label("a b/c 1.jpg"), ("a b/c 1.jpg", None));
        assert_eq!(split_label("a b/c.jpg 17"), ("a b/c.jpg", Some("17")));
        assert_eq!(split_label("a b/c.jpg cat"), ("a b/c.jpg", Some("cat")));
        assert_eq!(split_label("a.jpg b.jpg"), ("a.jpg b.jpg", None));
        assert_eq!(split_label("a b/c 17"), ("a b/c 17", None));
        assert_eq!(split_label("x.png\tblack cat"), ("x.png", Some("black cat")));
        assert_eq!(split_label("x, y.png,black cat"), ("x, y.png", Some("black cat")));
        assert_eq!(split_label("x.png,"), ("x.png,", None));
    }
}
