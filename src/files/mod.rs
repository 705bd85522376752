//! Files that are complete or absent: everything is written aside, flushed to the disk and
//! renamed. On top of that safetensors, [`sealed`] JSON, [`owned`] folders and [`staged`] ones.

pub mod disk;
mod lines;
pub mod owned;
pub mod sealed;
pub mod staged;
mod tensors;

use std::fs::{File, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

pub use self::lines::{for_each_line, json_lines, whole_lines};
pub use self::tensors::{
    Column, Entry, Header, Named, Numbers, read_safetensors, read_weights, write_columns,
    write_safetensors,
};
use crate::error::{Error, Result};
use crate::outside;

/// Name of the file with an exported net's weights, in the export's folder.
pub const EXPORTED_WEIGHTS: &str = "model.safetensors";

/// Writes a file whole: into a hidden file beside it, fsynced, then renamed. On failure whatever
/// was there before is still there.
pub fn write_atomic(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    write_atomic_file(path, |file| {
        let mut out = BufWriter::new(file);
        write(&mut out).and_then(|()| out.flush()).map_err(|e| Error::write(path, disk_hint(&e)))
    })
}

/// As [`write_atomic`], for a file that is written at several places.
pub fn write_atomic_file(path: &Path, write: impl FnOnce(&File) -> Result<()>) -> Result<()> {
    let fail = |e: std::io::Error| Error::write(path, disk_hint(&e));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A new name every time, so that no file or link of somebody else's is touched. It is removed
    // again where anything fails.
    let part = tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .suffix(PART)
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(fail)?;
    write(part.as_file())?;
    disk::sync(part.as_file(), path).map_err(fail)?;
    disk::rename(part.path(), path).map_err(fail)?;
    // Nothing is left under the old name.
    let _ = part.into_temp_path().keep();
    Ok(())
}

const PART: &str = ".part";

/// Whether a name is that of a file or folder that was being written.
pub fn is_part(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(PART)
}

/// An I/O error in words, with advice where the disk is full.
pub fn disk_hint(e: &std::io::Error) -> String {
    match e.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            format!("{e}; free some space and run again")
        }
        std::io::ErrorKind::FileTooLarge => {
            format!("{e}; raise the limit on a file's size (ulimit -f) and run again")
        }
        _ => e.to_string(),
    }
}

/// Writes text whole.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    write_atomic(path, |out| out.write_all(text.as_bytes()))
}

/// Writes a value as indented JSON.
pub fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::write(path, e))?;
    write_text(path, &(text + "\n"))
}

/// Bytes of a file of numbers at most.
const LARGE_BYTES: u64 = 16 << 30;
/// Bytes of any other file of ours at most.
const TEXT_BYTES: u64 = 1 << 30;

/// Reads a file of ours, or one that claims to be: it must be a regular file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    outside::read_at_most(path, TEXT_BYTES, "the most that such a file has")
        .map_err(|e| Error::read(path, e))
}

/// Reads a file of ours as text.
pub fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read(path)?).map_err(|e| Error::read(path, e))
}

/// Reads a file of ours that holds numbers.
pub fn read_large(path: &Path) -> Result<Vec<u8>> {
    outside::read_at_most(path, LARGE_BYTES, "the most that such a file has")
        .map_err(|e| Error::read(path, e))
}

/// The BLAKE3 of a file, in hexadecimal.
///
/// # Errors
/// [`crate::Kind::Data`] where it cannot be read.
pub fn hash(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut file = outside::open_regular(path).map_err(|e| Error::read(path, e))?;
    std::io::copy(&mut file, &mut hasher).map_err(|e| Error::read(path, e))?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Reads a JSON file.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = read_text(path)?;
    serde_json::from_str(&text)
        .map_err(|e| Error::data(format!("{} is not what it should be: {e}", path.display())))
}

/// Makes a folder and those above it.
pub fn create_dir(path: &Path) -> Result<()> {
    disk::create_dir_all(path).map_err(|e| Error::write(path, disk_hint(&e)))
}

/// Makes renames in a folder last.
pub fn sync_dir(path: &Path) -> Result<()> {
    disk::sync_dir(path).map_err(|e| Error::write(path, e))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_failed_write_keeps_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        write_text(&path, "old").unwrap();
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let err = write_atomic(&path, |_| Err(full())).unwrap_err();
        assert!(err.to_string().contains("free some space"), "{err}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    }
}
