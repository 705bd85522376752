//! Features of images in a safetensors file, for use elsewhere. The file is written batch
//! by batch: it may be larger than memory.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::str::FromStr;

use super::details::Sample;
use super::images::Images;
use super::progress::Progress;
use crate::cx::Cx;
use crate::data::Dataset;
use crate::error::{Error, Kind, Result};
use crate::nn::{Feature, Subnet};
use crate::tensor::{Tensor, to_nchw};
use crate::{files, signals};
use safetensors::tensor::Dtype;
use serde_json::json;

/// What a file of embeddings can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// The images as the net saw them, normalised.
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

/// The tensor of class indices.
const LABELS: &str = "labels";
/// Label of an image without a class, in a data set that has classes.
const NO_CLASS: i64 = -1;
/// Bytes that are moved at a time where rows were left out.
const MOVED_BYTES: usize = 1 << 20;

/// What a file of embeddings holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// Names of its tensors and their dimensions: [N, C, H, W] or [N, D], and `[N]` for labels.
    pub tensors: Vec<(String, Vec<usize>)>,
    /// Names of the images that have no row, since they cannot be read.
    pub unreadable: Vec<String>,
}

/// Computes `outputs` of all images that can be read and writes them to `out`: f32 tensors whose
/// row i is the image that entry i of the metadata's `files` (a JSON list) names. Where the data
/// set has classes, `labels` `[N]` (I64) are the images' indices in the metadata's `classes` (a JSON
/// list), or -1. Images that cannot be read are listed in `unreadable` (a JSON list of names).
/// `metadata` is added. `sample` takes some of the pooled features.
///
/// # Errors
/// Exit 3 where no image can be read, or more than [`crate::data::allowed_corrupt`] allows cannot;
/// exit 4 where a feature is not finite.
pub fn embed(
    cx: &Cx,
    subnet: &Subnet,
    images: Images,
    outputs: &[Output],
    metadata: &[(&str, String)],
    out: &Path,
    mut sample: Option<&mut Sample>,
) -> Result<Embedded> {
    check_outputs(outputs)?;
    let images = images.readable_only();
    let dataset = images.dataset();
    let feature = |o: &Output| match o {
        Output::Feature(feature) => Some(*feature),
        Output::X => None,
    };
    let mut wanted: Vec<Feature> = outputs.iter().filter_map(feature).collect();
    if sample.is_some() && !wanted.contains(&Feature::Pool) {
        wanted.push(Feature::Pool);
    }
    let mut found = None;
    files::write_atomic_file(out, |file| {
        let mut progress = Progress::new("images", images.len(), 0);
        let mut table: Option<Table> = None;
        let mut rows = Vec::with_capacity(images.len());
        for batch in images.batches(cx, images.len())? {
            signals::go_on()?;
            let batch = batch?;
            let features = subnet.features(cx, batch.x.clone(), &wanted)?;
            let tensors: Vec<&Tensor> = outputs
                .iter()
                .map(|o| match o {
                    Output::X => &batch.x,
                    Output::Feature(feature) => features.get(*feature).value(),
                })
                .collect();
            let table = table
                .get_or_insert_with(|| Table::new(file, out, &images, outputs, &tensors, metadata));
            for (i, (output, tensor)) in outputs.iter().zip(tensors).enumerate() {
                let shape = tensor.shape();
                let values = to_nchw(&cx.download(tensor)?, shape.positions(), shape.c());
                expect_finite(&values, *output, &batch.shown, dataset)
                    .map_err(|e| e.context(subnet.arch()))?;
                // The format is little-endian, as is every machine this runs on.
                table.write(i, rows.len(), bytemuck::cast_slice(&values))?;
            }
            if let Some(sample) = &mut sample {
                let pooled = cx.download(features.get(Feature::Pool).value())?;
                sample.add(&batch.shown, &pooled)?;
            }
            rows.extend(batch.shown);
            progress.advance(batch.span.len(), String::new);
        }
        let table = table
            .ok_or_else(|| Error::data("no image to embed can be read: expected at least 1"))?;
        found = Some(table.finish(&images, &rows, metadata)?);
        Ok(())
    })?;
    found.ok_or_else(|| Error::data("nothing was written"))
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

/// A column of the table: a tensor whose first dimension counts images.
struct Column {
    name: &'static str,
    dtype: Dtype,
    /// Dimensions after the first, in PyTorch's order.
    row: Vec<usize>,
}

impl Column {
    fn row_bytes(&self) -> u64 {
        self.row.iter().product::<usize>() as u64 * self.dtype.bitsize() as u64 / 8
    }

    fn shape(&self, rows: usize) -> Vec<usize> {
        [&[rows], &self.row[..]].concat()
    }
}

/// The file while it is being written, with room for all images that are wanted. The header comes
/// last, as only then is it known which of them can be read.
struct Table<'a> {
    file: &'a File,
    out: &'a Path,
    columns: Vec<Column>,
    /// Where each column begins, in bytes from the end of the header.
    starts: Vec<u64>,
    header_bytes: u64,
}

impl<'a> Table<'a> {
    /// For tensors like those of a batch.
    fn new(
        file: &'a File,
        out: &'a Path,
        images: &Images,
        outputs: &[Output],
        batch: &[&Tensor],
        metadata: &[(&str, String)],
    ) -> Self {
        // Labels first: their values need the wider alignment.
        let labels = Column { name: LABELS, dtype: Dtype::I64, row: vec![] };
        let mut columns =
            Vec::from_iter((!images.dataset().classes().is_empty()).then_some(labels));
        columns.extend(outputs.iter().zip(batch).map(|(output, tensor)| {
            let [_, h, w, c] = tensor.shape().0;
            let row = match output {
                Output::Feature(Feature::Pool | Feature::Z) => vec![c],
                _ => vec![c, h, w],
            };
            Column { name: output.name(), dtype: Dtype::F32, row }
        }));
        let mut table = Self { file, out, columns, starts: Vec::new(), header_bytes: 0 };
        let (header, starts) = table.layout(images.len());
        table.starts = starts;
        // A name that moves from one list to another takes no more room there.
        let header = header.bytes(&lists(images, images.indices(), metadata), 0);
        table.header_bytes = header.len() as u64 + 8;
        table
    }

    /// The header for a number of rows, and where each column begins.
    fn layout(&self, rows: usize) -> (files::Header, Vec<u64>) {
        let mut header = files::Header::default();
        let starts = self.columns.iter().map(|c| header.push(c.name, c.dtype, &c.shape(rows)));
        let starts = starts.collect();
        (header, starts)
    }

    /// Writes rows of the column of output `i`, from `row` on.
    fn write(&self, i: usize, row: usize, bytes: &[u8]) -> Result<()> {
        let i = self.columns.len() - self.outputs() + i;
        let at = self.starts[i] + row as u64 * self.columns[i].row_bytes();
        self.write_at(bytes, self.header_bytes + at)
    }

    fn outputs(&self) -> usize {
        self.columns.iter().filter(|c| c.dtype == Dtype::F32).count()
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> Result<()> {
        self.file.write_all_at(bytes, at).map_err(|e| Error::write(self.out, files::disk_hint(&e)))
    }

    /// Closes the gaps of rows that were left out, and writes labels and header. `rows` are the
    /// images' indices in the data set.
    fn finish(
        self,
        images: &Images,
        rows: &[usize],
        metadata: &[(&str, String)],
    ) -> Result<Embedded> {
        let (header, starts) = self.layout(rows.len());
        let dataset = images.dataset();
        for (i, column) in self.columns.iter().enumerate() {
            if column.name == LABELS {
                let label = |&i: &usize| dataset.label(i).map_or(NO_CLASS, |label| label as i64);
                let labels: Vec<i64> = rows.iter().map(label).collect();
                self.write_at(bytemuck::cast_slice(&labels), self.header_bytes + starts[i])?;
            } else {
                let bytes = rows.len() as u64 * column.row_bytes();
                self.move_down(self.starts[i], starts[i], bytes)?;
            }
        }
        let end = self.header_bytes + header.values_bytes();
        self.file.set_len(end).map_err(|e| Error::write(self.out, files::disk_hint(&e)))?;
        let header = header.bytes(&lists(images, rows, metadata), self.header_bytes as usize);
        if header.len() as u64 != self.header_bytes {
            return Err(Error::write(
                self.out,
                format!(
                    "its header has {} bytes, {} were left for it",
                    header.len(),
                    self.header_bytes
                ),
            ));
        }
        self.write_at(&header, 0)?;
        let tensors = self.columns.iter().map(|c| (c.name.to_owned(), c.shape(rows.len())));
        Ok(Embedded { tensors: tensors.collect(), unreadable: unreadable(images, rows) })
    }

    /// Moves `bytes` bytes of values from one place to an earlier one.
    fn move_down(&self, from: u64, to: u64, bytes: u64) -> Result<()> {
        if from == to {
            return Ok(());
        }
        let mut piece = vec![0; MOVED_BYTES];
        let mut done = 0;
        while done < bytes {
            let piece = &mut piece[..(bytes - done).min(MOVED_BYTES as u64) as usize];
            self.file
                .read_exact_at(piece, self.header_bytes + from + done)
                .map_err(|e| Error::read(self.out, e))?;
            self.write_at(piece, self.header_bytes + to + done)?;
            done += piece.len() as u64;
        }
        Ok(())
    }
}

/// The metadata, with the lists of names.
fn lists<'a>(
    images: &Images,
    rows: &[usize],
    metadata: &[(&'a str, String)],
) -> Vec<(&'a str, String)> {
    let dataset = images.dataset();
    let names: Vec<String> = rows.iter().map(|&i| dataset.name(i)).collect();
    let mut all = metadata.to_vec();
    all.push(("files", json!(names).to_string()));
    all.push(("unreadable", json!(unreadable(images, rows)).to_string()));
    if !dataset.classes().is_empty() {
        all.push(("classes", json!(dataset.classes()).to_string()));
    }
    all
}

/// Names of the images that are not among `rows`, which are in the same order.
fn unreadable(images: &Images, rows: &[usize]) -> Vec<String> {
    let mut rows = rows.iter().peekable();
    let left_out = images.indices().iter().filter(|i| rows.next_if_eq(i).is_none());
    left_out.map(|&i| images.dataset().name(i)).collect()
}

/// Exit 4 where a feature of a batch is no number; `shown` are the images in its rows.
fn expect_finite(values: &[f32], output: Output, shown: &[usize], dataset: &Dataset) -> Result<()> {
    let Some(at) = values.iter().position(|v| !v.is_finite()) else { return Ok(()) };
    let row = at * shown.len() / values.len();
    Err(Error::new(
        Kind::Diverged,
        format!(
            "expected finite features, found {} in feature {} of image {}; no file was written: \
             training had diverged, or the weights are damaged (engine inspect shows them); use an \
             earlier checkpoint",
            values[at],
            output.name(),
            dataset.describe(shown[row]),
        ),
    ))
}
