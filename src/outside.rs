//! What comes from outside and is trusted with nothing: files that users name, and the names
//! themselves.
//!
//! Files are opened by [`open_regular`], which no pipe, device or socket can block, and read by
//! [`read_at_most`], which no size can surprise. Names go into text through [`printable`]; text
//! goes to a terminal or a log through [`harmless`].

use std::fmt::{self, Display, Write};
use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Opens a regular file, or a link to one, to read it. It never waits: a pipe that nobody writes
/// to is refused like everything else that is no regular file.
///
/// # Errors
/// Those of the system; [`io::ErrorKind::InvalidInput`] for what is no regular file, in words
/// that follow a path and a colon.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC)
        .open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!(
            "expected a regular file, found {}; what comes through a pipe must be written to a \
             file first",
            what(kind)
        ),
    ))
}

/// All bytes of a regular file, unless there are more than `limit` of them: then it is an error
/// that calls the limit `what`, before more than that is read.
///
/// # Errors
/// Those of [`open_regular`] and of reading; [`io::ErrorKind::FileTooLarge`].
pub fn read_at_most(path: &Path, limit: u64, what: impl Display) -> io::Result<Vec<u8>> {
    let file = open_regular(path)?;
    let len = file.metadata()?.len();
    let too_large = |bytes: &dyn Display| {
        let text = format!("expected at most {limit} bytes ({what}), found {bytes}");
        io::Error::new(io::ErrorKind::FileTooLarge, text)
    };
    if len > limit {
        return Err(too_large(&len));
    }
    let mut bytes = Vec::with_capacity(len as usize);
    // Some files are longer than they say, those of /proc for one.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(too_large(&"more")) } else { Ok(bytes) }
}

/// What a file that is no regular one is, with its article.
pub fn what(kind: FileType) -> &'static str {
    match kind {
        k if k.is_dir() => "a folder",
        k if k.is_fifo() => "a pipe (FIFO)",
        k if k.is_socket() => "a socket",
        k if k.is_char_device() || k.is_block_device() => "a device",
        k if k.is_symlink() => "a link to nothing",
        _ => "something else",
    }
}

/// A name (a path, a class, a word of the command line) as it may stand within a line of text:
/// control characters, line breaks and characters that change the direction of text are written
/// as `\n`, `\x1b` or `\u{202e}`, all others as they are.
pub fn printable(name: &(impl AsRef<Path> + ?Sized)) -> impl Display + '_ {
    Escaped { text: name.as_ref().to_string_lossy(), lines: false }
}

/// As [`printable`], for whole messages: line breaks stay, since messages mean them.
pub fn harmless(text: &str) -> impl Display + '_ {
    Escaped { text: text.into(), lines: true }
}

/// Words as a shell takes them.
pub fn in_shell(words: impl IntoIterator<Item = String>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,#+@%".contains(c);
    let quote = |word: String| match !word.is_empty() && word.chars().all(plain) {
        true => word,
        false => format!("'{}'", word.replace('\'', "'\\''")),
    };
    words.into_iter().map(quote).collect::<Vec<_>>().join(" ")
}

struct Escaped<'a> {
    text: std::borrow::Cow<'a, str>,
    /// Whether line breaks and tabs may stay.
    lines: bool,
}

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = &*self.text;
        while let Some(at) = rest.find(|c| self.escapes(c)) {
            f.write_str(&rest[..at])?;
            let mut chars = rest[at..].chars();
            match chars.next() {
                Some('\n') => f.write_str("\\n")?,
                Some('\r') => f.write_str("\\r")?,
                Some('\t') => f.write_str("\\t")?,
                Some(c) if (c as u32) < 0x100 => write!(f, "\\x{:02x}", c as u32)?,
                Some(c) => write!(f, "\\u{{{:x}}}", c as u32)?,
                None => {}
            }
            rest = chars.as_str();
        }
        f.write_str(rest)
    }
}

impl Escaped<'_> {
    fn escapes(&self, c: char) -> bool {
        match c {
            '\n' | '\t' => !self.lines,
            // Line and paragraph separators; marks, embeddings, overrides and isolates of
            // direction.
            '\u{2028}' | '\u{2029}' | '\u{61c}' | '\u{200e}' | '\u{200f}' => true,
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
            c => c.is_control(),
        }
    }
}

/// A writer that passes on [`harmless`] text only.
pub struct HarmlessWriter<W>(pub W);

impl<W: Write> Write for HarmlessWriter<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write!(self.0, "{}", harmless(text))
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn names_cannot_move_the_cursor_or_begin_a_line() {
        let name = "a\x1b[2J\nerror: b\u{202e}gnp.\u{9b}1m\t日本語 é\u{2068}";
        let shown = printable(name).to_string();
        assert_eq!(shown, r"a\x1b[2J\nerror: b\u{202e}gnp.\x9b1m\t日本語 é\u{2068}");
        assert_eq!(harmless("two\nlines\r\x07").to_string(), "two\nlines\\r\\x07");
        let mut out = String::new();
        HarmlessWriter(&mut out).write_str("\x1bx\n").unwrap();
        assert_eq!(out, "\\x1bx\n");
    }

    #[test]
    fn only_regular_files_are_opened_and_nothing_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        let name = CString::new(fifo.as_os_str().as_bytes()).unwrap();
        // SAFETY: the name ends with a zero byte.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&fifo, &link).unwrap();
        for path in [&fifo, &link, Path::new("/dev/zero"), dir.path()] {
            let e = read_at_most(path, 10, "a test").unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::InvalidInput, "{e}");
        }
        assert!(read_at_most(&fifo, 10, "a test").unwrap_err().to_string().contains("pipe"));
        let file = dir.path().join("file");
        fs::write(&file, "0123456789").unwrap();
        assert_eq!(read_at_most(&file, 10, "a test").unwrap(), b"0123456789");
        let e = read_at_most(&file, 9, "LIMIT").unwrap_err().to_string();
        assert!(e.contains("at most 9 bytes (LIMIT), found 10"), "{e}");
        let sparse = fs::File::create(&file).unwrap();
        sparse.set_len(1 << 40).unwrap();
        assert!(read_at_most(&file, 1 << 20, "LIMIT").is_err());
        // It says that it is empty.
        assert!(read_at_most(Path::new("/proc/self/status"), 3, "LIMIT").is_err());
    }
}
