//! Features of pictures in a safetensors file, for use elsewhere. The file is written batch
//! by batch: it may be larger than memory.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::str::FromStr;

use serde_json::{Map, Value, json};

use super::pictures::{Batch, Pictures};
use super::progress::Progress;
use crate::data::{CorruptPolicy, allowed_corrupt};
use crate::device::Cx;
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::nn::{Feature, Subnet};
use crate::tensor::{Shape, Tensor, to_nchw};

/// What a file of embeddings can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// The pictures as the net saw them, normalised.
    X,
    /// A feature of the net.
    Feature(Feature),
}

impl Output {
    /// The name users write, which is the tensor's name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Output::X => "x",
            Output::Feature(feature) => feature.name(),
        }
    }
}

impl FromStr for Output {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        if s == "x" {
            return Ok(Output::X);
        }
        let feature = s.parse().map_err(|_| {
            Error::usage(format!("{s:?} is not a feature: expected x, z, c2, c3, c4, c5 or pool"))
        })?;
        Ok(Output::Feature(feature))
    }
}

/// A tensor of the file: name, dimensions in PyTorch's order, and where its values begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub output: Output,
    /// [N, C, H, W] or [N, D].
    pub shape: Vec<usize>,
    /// From the end of the header.
    offset_bytes: u64,
}

impl Entry {
    fn end_bytes(&self) -> u64 {
        self.offset_bytes + 4 * self.shape.iter().map(|&d| d as u64).product::<u64>()
    }
}

/// Computes `outputs` of all pictures and writes them to `out`: f32 tensors whose row i is the
/// picture that entry i of the metadata's `files` (a JSON list) names. Where a picture could not
/// be read, that is its substitute, and `replaced` lists row and name of the one it replaces.
/// `metadata` is added.
pub fn embed(
    cx: &Cx,
    subnet: &Subnet,
    pictures: &Pictures,
    outputs: &[Output],
    metadata: &[(&str, String)],
    out: &Path,
) -> Result<Vec<Entry>> {
    check_outputs(outputs)?;
    let feature = |o: &Output| match o {
        Output::Feature(feature) => Some(*feature),
        Output::X => None,
    };
    let wanted: Vec<Feature> = outputs.iter().filter_map(feature).collect();
    let mut layout = None;
    files::write_atomic_file(out, |file| {
        let mut progress = Progress::new("pictures", pictures.len(), 0);
        let mut shown = Vec::with_capacity(pictures.len());
        for batch in pictures.batches(cx, pictures.len())? {
            let Batch { span, shown: some, x, .. } = batch?;
            shown.extend(some);
            let found = subnet.features(cx, x.clone(), &wanted)?;
            let tensors: Vec<&Tensor> = outputs
                .iter()
                .map(|o| match o {
                    Output::X => &x,
                    Output::Feature(feature) => found.get(*feature).value(),
                })
                .collect();
            let layout =
                layout.get_or_insert_with(|| Layout::new(pictures, outputs, &tensors, metadata));
            for (entry, tensor) in layout.entries.iter().zip(tensors) {
                let at = layout.header_bytes + entry.offset_bytes;
                let values = values(cx, tensor)?;
                expect_finite(&values, entry, &span, |row| pictures.dataset().describe(shown[row]))
                    .map_err(|e| e.context(subnet.arch()))?;
                write_rows(file, at, span.start, tensor.shape(), &values, out)?;
            }
            progress.advance(span.len(), String::new);
        }
        match &layout {
            Some(layout) => layout.write_header(file, pictures, &shown, metadata, out),
            None => Err(Error::data("no picture to embed: expected at least 1")),
        }
    })?;
    Ok(layout.map_or(Vec::new(), |l| l.entries))
}

/// Exit 2 for an empty list or the same output twice.
pub fn check_outputs(outputs: &[Output]) -> Result<()> {
    if outputs.is_empty() {
        return Err(Error::usage(
            "no feature to write: expected --features, such as z or x,c2,c5,z",
        ));
    }
    match outputs.iter().enumerate().find(|(i, o)| outputs[..*i].contains(o)) {
        Some((_, twice)) => {
            Err(Error::usage(format!("feature {} is named twice in --features", twice.name())))
        }
        None => Ok(()),
    }
}

/// Where everything goes in the file.
struct Layout {
    entries: Vec<Entry>,
    /// Length field and header; the values begin behind them.
    header_bytes: u64,
}

impl Layout {
    /// For tensors like those of a batch. The header is written last, as only then is it known
    /// which pictures could not be read and what took their place; room is left for that.
    fn new(
        pictures: &Pictures,
        outputs: &[Output],
        batch: &[&Tensor],
        metadata: &[(&str, String)],
    ) -> Self {
        let mut entries = Vec::new();
        let mut offset_bytes = 0u64;
        for (&output, tensor) in outputs.iter().zip(batch) {
            let [_, h, w, c] = tensor.shape().0;
            let mut shape = vec![pictures.len(), c];
            if !matches!(output, Output::Feature(Feature::Pool | Feature::Z)) {
                shape.extend([h, w]);
            }
            let entry = Entry { output, shape, offset_bytes };
            offset_bytes = entry.end_bytes();
            entries.push(entry);
        }
        let mut layout = Self { entries, header_bytes: 0 };
        let dataset = pictures.dataset();
        let longest = (0..dataset.len()).map(|i| json!(dataset.name(i)).to_string().len()).max();
        // A replaced picture costs a name in `files` and one in `replaced`, each quoted twice.
        let replaced = allowed_corrupt(dataset.len(), CorruptPolicy::default().max_corrupt) + 1;
        let slack = replaced * (4 * longest.unwrap_or(0) + 32);
        let text = layout.header(pictures, pictures.indices(), metadata);
        layout.header_bytes = 8 + (text.len() + slack).next_multiple_of(8) as u64;
        layout
    }

    /// The header's JSON; `shown` are the pictures in the rows.
    fn header(&self, pictures: &Pictures, shown: &[usize], metadata: &[(&str, String)]) -> String {
        let name = |i: usize| pictures.dataset().name(i);
        let names: Vec<String> = shown.iter().map(|&i| name(i)).collect();
        let pairs = pictures.indices().iter().zip(shown).enumerate();
        let replaced = pairs.filter(|(_, (wanted, shown))| wanted != shown);
        let replaced: Vec<(usize, String)> =
            replaced.map(|(row, (&i, _))| (row, name(i))).collect();
        let mut strings = Map::from_iter([("format".to_owned(), json!("pt"))]);
        strings.extend(metadata.iter().map(|(k, v)| ((*k).to_owned(), json!(v))));
        strings.insert("files".to_owned(), Value::String(json!(names).to_string()));
        strings.insert("replaced".to_owned(), Value::String(json!(replaced).to_string()));
        let mut header = Map::from_iter([("__metadata__".to_owned(), Value::Object(strings))]);
        for entry in &self.entries {
            let offsets = [entry.offset_bytes, entry.end_bytes()];
            let value = json!({"dtype": "F32", "shape": entry.shape, "data_offsets": offsets});
            header.insert(entry.output.name().to_owned(), value);
        }
        Value::Object(header).to_string()
    }

    /// Writes the header, padded with blanks to the room that was left for it.
    fn write_header(
        &self,
        file: &File,
        pictures: &Pictures,
        shown: &[usize],
        metadata: &[(&str, String)],
        out: &Path,
    ) -> Result<()> {
        let text = self.header(pictures, shown, metadata);
        let room = (self.header_bytes - 8) as usize;
        if text.len() > room {
            return Err(Error::data(format!(
                "too many pictures could not be read for the header of {}; see the warnings above",
                out.display()
            )));
        }
        let mut bytes = (room as u64).to_le_bytes().to_vec();
        bytes.extend(text.as_bytes());
        bytes.resize(8 + room, b' ');
        file.write_all_at(&bytes, 0).map_err(|e| Error::write(out, files::disk_hint(&e)))
    }
}

/// A tensor's values in PyTorch's order.
fn values(cx: &Cx, tensor: &Tensor) -> Result<Vec<f32>> {
    let shape = tensor.shape();
    Ok(to_nchw(&cx.download(tensor)?, shape.positions(), shape.c()))
}

/// Exit 4 where a feature of a batch is no number; `name` says which image is in a row of the file.
fn expect_finite(
    values: &[f32],
    entry: &Entry,
    span: &Range<usize>,
    name: impl Fn(usize) -> String,
) -> Result<()> {
    let Some(at) = values.iter().position(|v| !v.is_finite()) else { return Ok(()) };
    let row = span.start + at * span.len() / values.len();
    Err(Error::new(
        Kind::Diverged,
        format!(
            "expected finite features, found {} in feature {} of image {}; no file was written: \
             training had diverged, or the weights are damaged (engine inspect shows them); use an \
             earlier checkpoint",
            values[at],
            entry.output.name(),
            name(row),
        ),
    ))
}

/// Writes a batch's rows of a shape, from `row` on, of the tensor that begins at `at_bytes`.
fn write_rows(
    file: &File,
    at_bytes: u64,
    row: usize,
    shape: Shape,
    values: &[f32],
    out: &Path,
) -> Result<()> {
    let before_bytes = row * shape.positions() * shape.c() * 4;
    // The format is little-endian, as is every machine this runs on.
    file.write_all_at(bytemuck::cast_slice(values), at_bytes + before_bytes as u64)
        .map_err(|e| Error::write(out, files::disk_hint(&e)))
}
