//! Results on stdout, and folders that results are written into.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::outside::harmless;

/// Writes a result to stdout as text, with a line end and without control characters that a
/// name may have brought in. That nobody reads any more is no failure; any other failure is one
/// (exit 5).
pub fn print(text: &str) -> Result<()> {
    write_out(&harmless(text).to_string())
}

fn write_out(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Error::device(format!("cannot write the result to stdout: {e}")))
        }
        _ => Ok(()),
    }
}

/// Writes a result to stdout as one JSON object.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::device(format!("cannot write the result as JSON: {e}")))?;
    write_out(&text)
}

/// Lines with aligned columns, two spaces apart; numbers are right-aligned.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|c| width(c).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| {
            if is_number(cell) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        out += line.trim_end();
        out.push('\n');
    }
    out
}

/// A number, perhaps with a unit: `85293`, `4.09 G`.
fn is_number(cell: &str) -> bool {
    let mut words = cell.split(' ');
    let digit = |w: &str| w.starts_with(|c: char| c.is_ascii_digit());
    words.next().is_some_and(digit) && !words.any(digit)
}

/// Makes sure that `--out` may be written: it must not exist or be an empty folder, unless it
/// may be overwritten. A folder is only deleted where it holds a file named `marker`, by which
/// one of ours is known; a plain file is left for the writer to replace. Exit 2 otherwise.
pub fn prepare_out(out: &Path, overwrite: bool, marker: &str) -> Result<()> {
    let free = match fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_none(),
        Err(e) => e.kind() == ErrorKind::NotFound,
    };
    if free {
        return Ok(());
    }
    if !overwrite {
        return Err(Error::usage(format!(
            "--out {} exists: expected a new name; give another one, or --overwrite to replace it",
            out.display()
        )));
    }
    if !out.is_dir() {
        return Ok(());
    }
    if !out.join(marker).exists() {
        return Err(Error::usage(format!(
            "--out {} was not made by this verb (it holds no {marker}), so --overwrite will not \
             delete it; give another name",
            out.display()
        )));
    }
    fs::remove_dir_all(out).map_err(|e| Error::write(out, e))
}

/// Exit 2 where the file exists and may not be replaced, or is a folder.
pub fn prepare_file(out: &Path, overwrite: bool) -> Result<()> {
    let what = match out.exists() {
        true if out.is_dir() => "is a folder: expected a file's name",
        true if !overwrite => "exists: give another name, or --overwrite to replace it",
        _ => return Ok(()),
    };
    Err(Error::usage(format!("--out {} {what}", out.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_folders_are_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        prepare_out(&out, false, "mark").unwrap();
        fs::create_dir(&out).unwrap();
        prepare_out(&out, false, "mark").unwrap();
        fs::write(out.join("thesis.txt"), "x").unwrap();
        for overwrite in [false, true] {
            assert_eq!(prepare_out(&out, overwrite, "mark").unwrap_err().exit_code(), 2);
        }
        fs::write(out.join("mark"), "").unwrap();
        prepare_out(&out, true, "mark").unwrap();
        assert!(!out.exists());
        fs::write(&out, "a file").unwrap();
        assert!(prepare_out(&out, false, "mark").is_err());
        prepare_out(&out, true, "mark").unwrap();
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [["a", "1"], ["bcd", "20"]].map(|r| r.map(String::from).to_vec());
        assert_eq!(table(&rows), "a     1\nbcd  20\n");
    }
}
