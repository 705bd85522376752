//! Results on stdout, as wide as the terminal is, and files that results are written into.

use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::Path;

use serde::Serialize;
use textwrap::{Options, WordSplitter};

use crate::error::{Error, Result};
use crate::outside::harmless;

/// Columns of a line of prose, at most: longer ones are hard to read.
pub const PROSE: usize = 100;

/// Columns of the terminal that a stream is; none where it is a file or a pipe, where lines are as
/// long as they come.
pub fn columns(stream: impl AsFd) -> Option<usize> {
    let (width, _) = terminal_size::terminal_size_of(stream)?;
    // A terminal that does not know its size says 0.
    Some(usize::from(width.0)).filter(|columns| *columns > 0)
}

/// Breaks lines between words so that none is longer than `columns`, where a word is not; what
/// follows a break is indented by two more spaces than the line. Lines that begin with a space
/// (commands, say) stay as they are, and rows of tables, whose columns are two spaces apart.
pub fn wrap(text: &str, columns: usize) -> String {
    let line = |line: &str| match line.starts_with(' ') || line.contains("  ") {
        true => line.to_owned(),
        false => fill(line, columns, "", "  "),
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// A line broken between words, behind `first` and, after breaks, `rest`.
pub fn fill(line: &str, columns: usize, first: &str, rest: &str) -> String {
    // Hyphens are part of names: architectures have some.
    let options = Options::new(columns)
        .word_splitter(WordSplitter::NoHyphenation)
        .break_words(false)
        .initial_indent(first)
        .subsequent_indent(rest);
    textwrap::fill(line, options)
}

/// Writes a result to stdout as text, with a line end and without control characters that a
/// name may have brought in; on a terminal, long lines are broken between words. It is no error
/// if the reader has gone; any other failure is one (exit 5).
pub fn print(text: &str) -> Result<()> {
    let text = harmless(text).to_string();
    match columns(std::io::stdout()) {
        Some(columns) => write_out(&wrap(&text, columns.min(PROSE))),
        None => write_out(&text),
    }
}

/// As [`print()`], for text that is a file's: its lines are never broken.
pub fn print_file(text: &str) -> Result<()> {
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

/// A [`table`] that fits stdout's terminal: where it is wider, columns named in `may_go` are left
/// out, the first of them first, and a line says so.
pub fn fitting_table(rows: &[Vec<String>], may_go: &[&str]) -> String {
    table_within(rows, columns(std::io::stdout()), may_go)
}

fn table_within(rows: &[Vec<String>], columns: Option<usize>, may_go: &[&str]) -> String {
    let mut rows = rows.to_vec();
    let mut gone = Vec::new();
    for name in may_go {
        if columns.is_none_or(|columns| width(&rows) <= columns) {
            break;
        }
        if let Some(at) = rows.first().and_then(|head| head.iter().position(|cell| cell == name)) {
            rows.iter_mut().filter(|row| at < row.len()).for_each(|row| drop(row.remove(at)));
            gone.push(*name);
        }
    }
    let mut out = table(&rows);
    if !gone.is_empty() {
        out += &format!("(not shown on a terminal this narrow: {})\n", gone.join(", "));
    }
    out
}

/// Width of each column; headings have none.
fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cells = |c: usize| rows.iter().filter(|r| r.len() > 1).filter_map(move |r| r.get(c));
    let width = |c: usize| cells(c).map(|s| s.chars().count()).max();
    (0..columns).map(|c| width(c).unwrap_or(0)).collect()
}

fn width(rows: &[Vec<String>]) -> usize {
    let widths = widths(rows);
    widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1)
}

/// Rows with aligned columns, two spaces apart; numbers are right-aligned. A row of one cell is a
/// heading of those below it, however long it is.
pub fn table(rows: &[Vec<String>]) -> String {
    let widths = widths(rows);
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

/// Names with their values in a second column, which stdout's terminal may break into several
/// lines.
pub fn facts<N: AsRef<str>>(rows: &[(N, String)]) -> String {
    facts_within(rows, columns(std::io::stdout()))
}

fn facts_within<N: AsRef<str>>(rows: &[(N, String)], columns: Option<usize>) -> String {
    let width = rows.iter().map(|(name, _)| name.as_ref().chars().count()).max().unwrap_or(0) + 2;
    let row = |(name, value): &(N, String)| {
        let first = format!("{:<width$}", name.as_ref());
        match columns {
            // Of nothing, not even the indent would be left.
            Some(columns) if !value.is_empty() => {
                fill(value, columns.min(PROSE), &first, &" ".repeat(width))
            }
            _ => first + value,
        }
    };
    rows.iter().map(|pair| row(pair).trim_end().to_owned() + "\n").collect()
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

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect()
    }

    #[test]
    fn columns_are_aligned() {
        assert_eq!(table(&rows(&[&["a", "1"], &["bcd", "20"]])), "a     1\nbcd  20\n");
        let headed = rows(&[&["", "n"], &["a heading"], &["a", "1"]]);
        assert_eq!(table(&headed), "   n\na heading\na  1\n");
    }

    #[test]
    fn a_table_that_is_too_wide_loses_columns_and_says_so() {
        let all = rows(&[&["net", "macs", "score"], &["s8-w8", "7.12 M", "0.5"]]);
        let whole = "net    macs    score\ns8-w8  7.12 M    0.5\n";
        let may_go = ["absent", "score", "macs"];
        assert_eq!(table_within(&all, None, &may_go), whole);
        assert_eq!(table_within(&all, Some(20), &may_go), whole);
        let narrow = "net    macs\ns8-w8  7.12 M\n(not shown on a terminal this narrow: score)\n";
        assert_eq!(table_within(&all, Some(19), &may_go), narrow);
        assert_eq!(table_within(&all, Some(3), &may_go).lines().nth(1), Some("s8-w8"));
        // Columns that may not go stay, however narrow it is.
        assert_eq!(table_within(&all, Some(3), &[]), whole);
    }

    #[test]
    fn lines_break_between_words() {
        let text = "one s64-w80.160-d4 two\n  a command that is long";
        assert_eq!(wrap(text, 12), "one\n  s64-w80.160-d4\n  two\n  a command that is long");
        assert_eq!(wrap(text, 80), text);
        let row = "s64-w80.160  0.98  a row of a table";
        assert_eq!(wrap(row, 12), row);
        let rows = [("ab", "one two three".to_owned()), ("c", String::new())];
        assert_eq!(facts_within(&rows, Some(11)), "ab  one two\n    three\nc\n");
        assert_eq!(facts_within(&rows, None), "ab  one two three\nc\n");
    }
}
