//! Tables of images and their labels: CSV files, which are lists by themselves and give the labels
//! of a folder that they lie in.

use std::path::Path;

use csv::{ReaderBuilder, StringRecord};

use super::image::Format;
use super::limits::{FILE_BYTES, Limits};
use crate::error::{Error, Result};
use crate::outside::{printable, read_at_most};

/// Names of tables that give the labels of the folder they lie in.
pub(super) const BESIDE: [&str; 2] = ["labels.csv", "metadata.csv"];
/// Names of a column of paths, and of one of labels, in small letters.
const PATHS: [&str; 9] =
    ["path", "file_name", "filename", "file", "image", "image_path", "filepath", "img", "name"];
const LABELS: [&str; 6] = ["label", "class", "category", "target", "cls", "class_name"];

/// Whether a file is such a table, as far as its name says.
pub(super) fn is_named(name: &str) -> bool {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    ["csv", "tsv"].iter().any(|e| ending.eq_ignore_ascii_case(e))
}

/// A row: an image's path, and its label if it has one.
pub(super) type Row = (String, Option<String>);

/// Which columns hold what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Columns {
    path: usize,
    label: Option<usize>,
    /// Whether the first row names them.
    header: bool,
}

impl Columns {
    /// None where the first row neither names a column of paths nor holds the name of an image.
    fn of(first: &StringRecord) -> Option<Self> {
        let lower: Vec<String> = first.iter().map(|field| field.trim().to_lowercase()).collect();
        let find = |names: &[&str]| names.iter().find_map(|n| lower.iter().position(|f| f == n));
        if let Some(path) = find(&PATHS) {
            return Some(Self { path, label: find(&LABELS), header: true });
        }
        let path = lower.iter().position(|field| Format::is_image_name(field))?;
        // Of two columns the other one, of more nobody can tell which.
        let label = (lower.len() == 2).then_some(1 - path.min(1));
        Some(Self { path, label, header: false })
    }
}

/// The rows of a table, in their order; none where it has no column of paths. Errors: it cannot be
/// read, or is beyond the limit; a row without the column of paths.
pub(super) fn read(path: &Path, limits: &Limits) -> Result<Option<Vec<Row>>> {
    let bytes = read_at_most(path, limits.file_bytes, FILE_BYTES);
    let bytes = bytes.map_err(|e| Error::read(path, e))?;
    rows(&bytes, path.extension().is_some_and(|e| e.eq_ignore_ascii_case("tsv")))
        .map_err(|e| Error::data(format!("cannot read {} as a table: {e}", printable(path))))
}

fn rows(bytes: &[u8], tabs: bool) -> std::result::Result<Option<Vec<Row>>, String> {
    // What some editors write in front.
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let delimiter = if tabs { b'\t' } else { b',' };
    let mut reader = ReaderBuilder::new();
    let reader = reader.has_headers(false).flexible(true).delimiter(delimiter).from_reader(bytes);
    let (mut columns, mut rows) = (None::<Columns>, Vec::new());
    for record in reader.into_records() {
        let record = record.map_err(|e| e.to_string())?;
        let is_first = columns.is_none();
        let Some(found) = columns.or_else(|| Columns::of(&record)) else { return Ok(None) };
        columns = Some(found);
        if is_first && found.header {
            continue;
        }
        let line = record.position().map_or(0, csv::Position::line);
        let name = record.get(found.path).map(str::trim).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| format!("line {line} has no path"))?;
        let label = found.label.and_then(|column| record.get(column)).map(str::trim);
        rows.push((name.to_owned(), label.filter(|l| !l.is_empty()).map(str::to_owned)));
    }
    Ok(columns.map(|_| rows))
}

/// What a table is expected to be, in words.
pub(super) fn expected() -> String {
    format!(
        "a first line that names a column of paths ({}) and perhaps one of labels ({})",
        PATHS.join(", "),
        LABELS.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<Vec<Row>> {
        rows(text.as_bytes(), false).unwrap()
    }

    fn row(path: &str, label: Option<&str>) -> Row {
        (path.to_owned(), label.map(str::to_owned))
    }

    #[test]
    fn columns_are_found_by_header_or_by_names_of_images() {
        let expected = Some(vec![row("a.png", Some("cat")), row("b, c.png", None)]);
        assert_eq!(of("id,Label,file_name\n1,cat,a.png\n2,,\"b, c.png\"\n"), expected);
        assert_eq!(of("\u{feff}path,class\r\na.png,cat\r\n\"b, c.png\",\r\n"), expected);
        assert_eq!(of("a.png,cat\n\"b, c.png\",\n"), expected);
        assert_eq!(of("a.png\nb.png\n"), Some(vec![row("a.png", None), row("b.png", None)]));
        assert_eq!(of("x,y\n1,2\n"), None);
        assert_eq!(of(""), None);
        assert!(rows(b"path,label\n,cat\n", false).unwrap_err().contains("line 2"));
        assert_eq!(rows(b"path\tlabel\na\tb\n", true).unwrap(), Some(vec![row("a", Some("b"))]));
    }
}
