//! Results on stdout, and folders that results are written into.

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
    fn columns_are_aligned() {
        let rows = [["a", "1"], ["bcd", "20"]].map(|r| r.map(String::from).to_vec());
        assert_eq!(table(&rows), "a     1\nbcd  20\n");
    }
}
