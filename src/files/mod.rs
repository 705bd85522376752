//! Files that are complete or absent: everything is written aside, flushed to the disk and
//! renamed. On top of that safetensors, [`sealed`] JSON, [`owned`] folders and [`staged`] ones.

pub mod disk;
pub mod owned;
pub mod sealed;
pub mod staged;

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors};

use crate::error::{Error, Result};
use crate::outside;

/// Named values with their dimensions, f32.
pub type Named = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Name of the file with an exported net's weights, in the export's folder.
pub const EXPORTED_WEIGHTS: &str = "model.safetensors";

/// A tensor of a file: name, dimensions, values.
pub type Entry = (String, Vec<usize>, Vec<f32>);

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

/// Writes a safetensors file of f32 tensors; `format=pt` is added to the metadata. The same
/// tensors and metadata give the same bytes.
pub fn write_safetensors(
    path: &Path,
    tensors: &[Entry],
    metadata: &[(&str, String)],
) -> Result<()> {
    let shapes = tensors.iter().map(|(name, shape, _)| (name.as_str(), shape.as_slice()));
    let header = safetensors_header(shapes, metadata);
    write_atomic(path, |out| {
        out.write_all(&header)?;
        tensors.iter().try_for_each(|(_, _, values)| out.write_all(bytemuck::cast_slice(values)))
    })
}

/// What stands before the values in a safetensors file of f32 tensors: the header's length and
/// the header, padded so that the values are aligned. The safetensors crate writes metadata in
/// an order that changes from run to run, and wants all values in memory.
fn safetensors_header<'a>(
    tensors: impl Iterator<Item = (&'a str, &'a [usize])>,
    metadata: &[(&str, String)],
) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let meta: BTreeMap<&str, &str> =
        metadata.iter().map(|(k, v)| (*k, v.as_str())).chain([("format", "pt")]).collect();
    header.insert("__metadata__".into(), serde_json::json!(meta));
    let mut end = 0;
    for (name, shape) in tensors {
        let start = end;
        end += shape.iter().product::<usize>() * size_of::<f32>();
        let entry = serde_json::json!({
            "dtype": "F32", "shape": shape, "data_offsets": [start, end],
        });
        header.insert(name.into(), entry);
    }
    let mut text = serde_json::Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut text);
    bytes
}

/// Reads a safetensors file: its tensors (which must be f32) and its metadata.
pub fn read_safetensors(path: &Path) -> Result<(Named, HashMap<String, String>)> {
    let bytes = read_large(path)?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| not_whole(path, &e))?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let mut named = Named::new();
    for (name, view) in parse_safetensors(path, &bytes)?.iter() {
        if view.dtype() != Dtype::F32 {
            return Err(Error::data(format!(
                "{}: tensor {name:?} is {:?}, expected F32",
                path.display(),
                view.dtype()
            )));
        }
        let values = numbers(view.data(), f32::from_le_bytes);
        named.insert(name.to_owned(), (view.shape().to_vec(), values));
    }
    Ok((named, metadata))
}

/// Reads the weights of a safetensors file that another program may have made: tensors of
/// floating-point numbers of any usual width, as f32; and the names of all others.
pub fn read_weights(path: &Path) -> Result<(Named, Vec<String>)> {
    let bytes = read_large(path)?;
    let (mut named, mut others) = (Named::new(), Vec::new());
    for (name, view) in parse_safetensors(path, &bytes)?.iter() {
        let values = match view.dtype() {
            Dtype::F32 => numbers(view.data(), f32::from_le_bytes),
            Dtype::F64 => numbers(view.data(), |b| f64::from_le_bytes(b) as f32),
            Dtype::F16 => numbers(view.data(), |b| half::f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => numbers(view.data(), |b| half::bf16::from_le_bytes(b).to_f32()),
            _ => {
                others.push(name.to_owned());
                continue;
            }
        };
        named.insert(name.to_owned(), (view.shape().to_vec(), values));
    }
    others.sort_unstable();
    Ok((named, others))
}

fn parse_safetensors<'a>(path: &Path, bytes: &'a [u8]) -> Result<SafeTensors<'a>> {
    SafeTensors::deserialize(bytes).map_err(|e| not_whole(path, &e))
}

fn not_whole(path: &Path, e: &dyn std::fmt::Display) -> Error {
    Error::data(format!(
        "{} is not a whole safetensors file ({e}); it may be truncated: make or copy it again",
        path.display()
    ))
}

/// Numbers of `N` bytes each.
fn numbers<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.chunks_exact(N).map(|b| number(std::array::from_fn(|i| b[i]))).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn safetensors_round_trip_and_truncation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        let tensors = vec![("a".to_owned(), vec![2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0])];
        write_safetensors(&path, &tensors, &[("step", "7".into())]).unwrap();
        let (named, meta) = read_safetensors(&path).unwrap();
        assert_eq!(named["a"], (tensors[0].1.clone(), tensors[0].2.clone()));
        assert_eq!((meta["step"].as_str(), meta["format"].as_str()), ("7", "pt"));
        let bytes = fs::read(&path).unwrap();
        for cut in [0, 4, 20, bytes.len() - 1] {
            fs::write(&path, &bytes[..cut]).unwrap();
            assert_eq!(read_safetensors(&path).unwrap_err().kind(), crate::Kind::Data);
        }
    }

    #[test]
    fn weights_of_other_widths_are_read_as_f32() {
        use safetensors::tensor::TensorView;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        let (wide, narrow) = ((-1.5f64).to_le_bytes(), half::bf16::from_f32(0.25).to_le_bytes());
        let (half, count) = (half::f16::from_f32(2.5).to_le_bytes(), 7i64.to_le_bytes());
        let view = |dtype, bytes| TensorView::new(dtype, vec![1], bytes).unwrap();
        let tensors = [
            ("wide", view(Dtype::F64, &wide[..])),
            ("narrow", view(Dtype::BF16, &narrow[..])),
            ("half", view(Dtype::F16, &half[..])),
            ("count", view(Dtype::I64, &count[..])),
        ];
        safetensors::serialize_to_file(tensors, None, &path).unwrap();
        let (named, others) = read_weights(&path).unwrap();
        assert_eq!(others, ["count"]);
        let values = ["wide", "narrow", "half"].map(|name| named[name].1[0]);
        assert_eq!(values, [-1.5, 0.25, 2.5]);
        assert_eq!(read_safetensors(&path).unwrap_err().kind(), crate::Kind::Data);
        fs::write(&path, "{}").unwrap();
        assert_eq!(read_weights(&path).unwrap_err().kind(), crate::Kind::Data);
    }

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
