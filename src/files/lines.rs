//! Files of a JSON value a line, which grow by whole lines until somebody ends the process.

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::outside::open_regular;

/// Bytes of a line at most; what is longer is no line of ours.
const LONGEST_LINE: u64 = 1 << 20;

/// Reads a file line by line, with their ends; none where there is no file.
///
/// # Errors
/// Those of reading, and of `line`.
pub fn for_each_line(
    path: &Path,
    mut line: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut reader = match open_regular(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        file => BufReader::new(file?),
    };
    let mut bytes = Vec::new();
    while reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes)? > 0 {
        line(&bytes)?;
        bytes.clear();
    }
    Ok(())
}

/// The lines of a file that hold a `T`, and how many others there are; the last line does not
/// count, since it may be half written. No file is no lines.
///
/// # Errors
/// [`crate::Kind::Data`] where the file cannot be read.
pub fn json_lines<T: DeserializeOwned>(path: &Path) -> Result<(Vec<T>, usize)> {
    let (mut good, mut bad, mut last_is_bad) = (Vec::new(), 0, false);
    for_each_line(path, |line| {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        bad += usize::from(last_is_bad);
        let value = serde_json::from_slice(line);
        last_is_bad = value.is_err();
        good.extend(value.ok());
        Ok(())
    })
    .map_err(|e| Error::read(path, e))?;
    Ok((good, bad))
}

/// The lines of a text that have an end, with it: one that was being written when its process ended
/// has none.
pub fn whole_lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|&b| b == b'\n').filter(|line| line.ends_with(b"\n"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::Value;

    use super::*;

    #[test]
    fn a_torn_last_line_is_no_fault_but_others_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.jsonl");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            let (lines, bad) = json_lines::<Value>(&path).unwrap();
            (lines.len(), bad)
        };
        assert_eq!(read("{\"step\":1}\n{\"step\":2,\"lo"), (1, 0));
        assert_eq!(read("{\"step\":1,\"lr\":null}\nrubbish\n\n{\"step\":2}\n"), (2, 1));
        assert_eq!(read(""), (0, 0));
        assert_eq!(json_lines::<Value>(&dir.path().join("none")).unwrap().0.len(), 0);
        assert_eq!(whole_lines(b"{}\n{}\n{").collect::<Vec<_>>(), [b"{}\n", b"{}\n"]);
    }
}
