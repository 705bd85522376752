//! Labels of a folder's images that a table in the folder gives.

use std::collections::HashMap;

use super::index::Group;
use super::scan::Scan;
use super::table;
use crate::error::{Error, Result};
use crate::outside::printable;

/// What the tables of a folder say of its images.
#[derive(Default)]
pub(super) struct Labels {
    /// Folders that have a table, with a slash behind each, and what the table is called.
    folders: Vec<(String, String)>,
    of: HashMap<String, Option<String>>,
    /// Images below those folders that no table names.
    unnamed: usize,
}

impl Labels {
    /// From tables by their names inside the source, and from those above the folder `inside` that
    /// alone is looked through. Errors: `labels.csv` cannot be understood.
    pub(super) fn of(scan: &mut Scan, found: &[String], inside: &str) -> Result<Self> {
        let mut names = found.to_vec();
        let mut above = inside;
        while !above.is_empty() {
            above = above.rsplit_once('/').map_or("", |(above, _)| above);
            let folder = if above.is_empty() { String::new() } else { format!("{above}/") };
            let there = table::BESIDE.map(|base| format!("{folder}{base}"));
            names.extend(there.into_iter().filter(|name| scan.path.join(name).is_file()));
        }
        names.sort_unstable();
        let mut labels = Self::default();
        for name in names {
            labels.add(scan, &name)?;
        }
        Ok(labels)
    }

    fn add(&mut self, scan: &mut Scan, name: &str) -> Result<()> {
        let path = scan.path.join(name);
        let rows = table::read(&path, scan.limits())?;
        let rows = rows.filter(|rows| rows.iter().any(|(_, label)| label.is_some()));
        let Some(rows) = rows else {
            if name.ends_with(table::BESIDE[0]) {
                let (path, expected) = (printable(&path), table::expected());
                return Err(Error::data(format!("{path} gives no labels: expected {expected}")));
            }
            scan.index.others.note(name);
            return Ok(());
        };
        scan.expect_room(rows.len())?;
        let folder =
            name.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        for (image, label) in rows {
            let image = image.strip_prefix("./").unwrap_or(&image);
            self.of.insert(format!("{folder}{image}"), label);
        }
        self.folders.push((folder, name.to_owned()));
        scan.index.labels_from.push(path.display().to_string());
        Ok(())
    }

    /// What the class of an image is taken from; none where no table lies above it.
    pub(super) fn take(&mut self, image: &str) -> Option<Group> {
        if !self.folders.iter().any(|(folder, _)| image.starts_with(folder)) {
            return None;
        }
        let label = self.of.remove(image);
        self.unnamed += usize::from(label.is_none());
        Some(label.flatten().map_or(Group::None, Group::Named))
    }

    /// Warns of images without a line and, where all images were looked at, of lines without an
    /// image.
    pub(super) fn say_what_is_left(&self, scan: &Scan) {
        let Some((_, table)) = self.folders.first() else { return };
        let (path, table) = (printable(&scan.path), printable(table));
        if self.unnamed > 0 {
            tracing::warn!("{path}: {table} does not name {} images: no label", self.unnamed);
        }
        if let (Some(left), None) = (self.of.keys().min(), &scan.wanted) {
            tracing::warn!(
                "{path}: {table} names {} images that are not there (such as {})",
                self.of.len(),
                printable(left)
            );
        }
    }
}
