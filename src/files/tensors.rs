//! Safetensors files: written with their own header, read by the safetensors crate.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};

use super::{read_large, write_atomic};
use crate::error::{Error, Result};

/// Named values with their dimensions, f32.
pub type Named = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// A tensor of a file: name, dimensions, values.
pub type Entry = (String, Vec<usize>, Vec<f32>);

/// A tensor of a file that holds more than one type of numbers.
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its dimensions; none of a scalar.
    pub shape: Vec<usize>,
    /// Its values.
    pub numbers: Numbers,
}

/// Numbers of one type.
pub enum Numbers {
    /// Floating-point numbers.
    F32(Vec<f32>),
    /// Counters.
    I64(Vec<i64>),
}

/// Writes a safetensors file of f32 tensors; `format=pt` is added to the metadata. The same
/// tensors and metadata give the same bytes.
pub fn write_safetensors(
    path: &Path,
    tensors: &[Entry],
    metadata: &[(&str, String)],
) -> Result<()> {
    let tensors = tensors.iter().map(|(name, shape, values)| {
        (name.as_str(), Dtype::F32, &shape[..], bytemuck::cast_slice(values))
    });
    write(path, &tensors.collect::<Vec<_>>(), metadata)
}

/// The same for tensors of several types, in the order in which they are given.
pub fn write_columns(path: &Path, columns: &[Column], metadata: &[(&str, String)]) -> Result<()> {
    let tensors = columns.iter().map(|Column { name, shape, numbers }| {
        let (dtype, bytes) = match numbers {
            Numbers::F32(values) => (Dtype::F32, bytemuck::cast_slice(values)),
            Numbers::I64(values) => (Dtype::I64, bytemuck::cast_slice(values)),
        };
        (name.as_str(), dtype, &shape[..], bytes)
    });
    write(path, &tensors.collect::<Vec<_>>(), metadata)
}

/// Writes tensors: name, type, dimensions, bytes.
fn write(
    path: &Path,
    tensors: &[(&str, Dtype, &[usize], &[u8])],
    metadata: &[(&str, String)],
) -> Result<()> {
    let mut header = Header::default();
    for (name, dtype, shape, _) in tensors {
        header.push(name, *dtype, shape);
    }
    let header = header.bytes(metadata, 0);
    write_atomic(path, |out| {
        out.write_all(&header)?;
        tensors.iter().try_for_each(|(_, _, _, bytes)| out.write_all(bytes))
    })
}

/// What stands before the values in a safetensors file: names, types and shapes of tensors whose
/// values follow one another. The safetensors crate writes metadata in an order that changes from
/// run to run, and wants all values in memory.
#[derive(Clone, Debug, Default)]
pub struct Header {
    tensors: Map<String, Value>,
    end_bytes: u64,
}

impl Header {
    /// Adds a tensor and returns where its values begin, in bytes from the end of the header.
    pub fn push(&mut self, name: &str, dtype: Dtype, shape: &[usize]) -> u64 {
        let start = self.end_bytes;
        let elems = shape.iter().map(|&d| d as u64).product::<u64>();
        self.end_bytes += elems * dtype.bitsize() as u64 / 8;
        let entry = json!({
            "dtype": dtype, "shape": shape, "data_offsets": [start, self.end_bytes],
        });
        self.tensors.insert(name.into(), entry);
        start
    }

    /// Bytes of all values.
    pub fn values_bytes(&self) -> u64 {
        self.end_bytes
    }

    /// The first bytes of the file: the header's length and the header, padded with blanks to a
    /// multiple of 8 bytes so that the values are aligned, and to `least` bytes in all.
    pub fn bytes(&self, metadata: &[(&str, String)], least: usize) -> Vec<u8> {
        let metadata: BTreeMap<&str, &str> =
            metadata.iter().map(|(k, v)| (*k, v.as_str())).chain([("format", "pt")]).collect();
        let mut header = Map::from_iter([("__metadata__".to_owned(), json!(metadata))]);
        header.extend(self.tensors.clone());
        let mut text = Value::Object(header).to_string().into_bytes();
        text.resize((8 + text.len()).max(least).next_multiple_of(8) - 8, b' ');
        [&(text.len() as u64).to_le_bytes()[..], &text].concat()
    }
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
}
