//! Parquet files of images, as those that Hugging Face's `datasets` writes: a column of encoded
//! images and perhaps one of labels. Their rows cannot be reached one by one, so the images are
//! unpacked once, as those of compressed archives are.

mod columns;
mod pages;

use std::fs::File;

use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::data_type::{ByteArray, ByteArrayType, DataType};
use ::parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use ::parquet::file::reader::{FileReader, SerializedFileReader};

use self::columns::{Columns, Label};
use super::guard::guarded;
use super::index::{Coding, Entry, Group, NO_LABEL, Refusal, Store};
use super::limits::FILE_BYTES;
use super::ranges::{Ranges, Unpacked};
use super::scan::{Scan, record_name};
use crate::error::{Error, Result};
use crate::outside::{open_regular, printable};
use crate::signals;

/// First and last bytes.
const MAGIC: &[u8; 4] = b"PAR1";
/// Bytes behind the metadata: their length, and the magic.
const FOOTER_BYTES: u64 = 8;
/// Rows that are read at a time.
const ROWS: usize = 16;

/// Whether a file of a folder is called as such a file is.
pub(super) fn is_named(base: &str) -> bool {
    base.ends_with(".parquet")
}

/// Adds the images of such a file; says whether it is one.
pub(super) fn add(scan: &mut Scan, head: &[u8]) -> Result<bool> {
    if !head.starts_with(MAGIC) {
        return Ok(false);
    }
    // All rows of a file lie in one folder.
    let name = scan.name.clone();
    if scan.wants(&record_name(&name, None, 0)) {
        let table = Table::open(scan)?;
        table.add(scan)?;
    }
    Ok(true)
}

/// A file whose metadata were read.
struct Table {
    reader: SerializedFileReader<File>,
    ranges: Ranges,
    columns: Columns,
}

impl Table {
    fn open(scan: &mut Scan) -> Result<Self> {
        let path = scan.path.clone();
        let bad = |what: &dyn std::fmt::Display| damaged(scan, what);
        let ranges = Ranges::open(&path, &mut 0)?;
        let mut footer = [0; FOOTER_BYTES as usize];
        let at = ranges.len().checked_sub(FOOTER_BYTES).ok_or_else(|| bad(&"it has no end"))?;
        ranges.read_at(at, &mut footer).map_err(|e| Error::read(&path, e))?;
        let [a, b, c, d, ..] = footer;
        let len = u64::from(u32::from_le_bytes([a, b, c, d]));
        if !footer.ends_with(MAGIC) || len > at {
            return Err(bad(&"its end is missing"));
        }
        let most = scan.limits().file_bytes;
        if len > most {
            let what =
                format!("expected metadata of at most {most} bytes ({FILE_BYTES}), found {len}");
            return Err(bad(&what));
        }
        let file = open_regular(&path).map_err(|e| Error::read(&path, e))?;
        let reader = read(scan, || SerializedFileReader::new(file))?;
        let columns = Columns::of(reader.metadata().file_metadata()).map_err(|e| bad(&e))?;
        Ok(Self { reader, ranges, columns })
    }

    fn metadata(&self) -> &ParquetMetaData {
        self.reader.metadata()
    }

    /// Errors: pages of column `column` that claim what cannot be.
    fn check(&self, scan: &Scan, chunk: &ColumnChunkMetaData) -> Result<()> {
        let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
        let len = chunk.compressed_size();
        let inside = u64::try_from(start).ok().zip(u64::try_from(len).ok());
        let (start, len) =
            inside.ok_or_else(|| damaged(scan, &"a column does not lie within the file"))?;
        pages::check(&self.ranges, start, len, scan.limits().file_bytes)
            .map_err(|e| damaged(scan, &e))
    }

    fn add(&self, scan: &mut Scan) -> Result<()> {
        let mut unpacked = match scan.index.unpacked.take() {
            Some(unpacked) => unpacked,
            None => Unpacked::new()?,
        };
        let mut rows = 0;
        for group in 0..self.metadata().num_row_groups() {
            self.add_group(scan, group, &mut rows, &mut unpacked)?;
        }
        let ranges = unpacked.ranges(&scan.path)?;
        scan.index.unpacked = Some(unpacked);
        scan.index.add_store(Store::Ranges(ranges));
        if let Some(label) = &self.columns.label {
            let from = format!("{}: column {}", scan.path.display(), label.name);
            scan.index.labels_from.push(from);
        }
        Ok(())
    }

    /// Adds the rows of a group, the first of which is row `rows` of the file.
    fn add_group(
        &self,
        scan: &mut Scan,
        group: usize,
        rows: &mut usize,
        unpacked: &mut Unpacked,
    ) -> Result<()> {
        let metadata = self.metadata().row_group(group);
        let count = usize::try_from(metadata.num_rows())
            .map_err(|_| damaged(scan, &"a number of rows is negative"))?;
        scan.expect_room(count)?;
        self.check(scan, metadata.column(self.columns.image))?;
        if let Some(label) = &self.columns.label {
            self.check(scan, metadata.column(label.column))?;
        }
        let reader = read(scan, || self.reader.get_row_group(group))?;
        let column = |i| read(scan, || reader.get_column_reader(i));
        let ColumnReader::ByteArrayColumnReader(images) = column(self.columns.image)? else {
            return Err(damaged(scan, &"its images are no bytes"));
        };
        let levels = |i: usize| metadata.column(i).column_descr().max_def_level();
        let mut images = Column { reader: images, present: levels(self.columns.image) };
        let mut labels = match &self.columns.label {
            Some(label) => Some(Labels::of(label, column(label.column)?, levels(label.column))),
            None => None,
        };
        let store = scan.index.stores.len() as u32;
        let mut left = count;
        while left > 0 {
            signals::go_on()?;
            let images = read_rows(scan, |n| images.read(n), left.min(ROWS))?;
            let mut groups = match &mut labels {
                Some(labels) => read_rows(scan, |n| labels.read(n), images.len())?
                    .into_iter()
                    .map(Some)
                    .collect(),
                None => vec![None; images.len()],
            };
            left -= images.len();
            for (image, class) in images.into_iter().zip(groups.drain(..)) {
                let entry = keep(scan, image.as_ref(), store, unpacked)?;
                let class = class.flatten().map_or(Group::None, Group::Named);
                let name = record_name(&scan.name, None, *rows);
                scan.push_as(&name, class, entry);
                *rows += 1;
            }
        }
        Ok(())
    }
}

/// Puts an image's bytes where they can be read.
fn keep(
    scan: &Scan,
    image: Option<&ByteArray>,
    store: u32,
    unpacked: &mut Unpacked,
) -> Result<Entry> {
    let refused = |refusal| Entry {
        store,
        label: NO_LABEL,
        offset: 0,
        len: 0,
        coding: Coding::Refused(refusal),
    };
    let Some(image) = image else { return Ok(refused(Refusal::NoBytes)) };
    let bytes = image.data();
    let len = bytes.len() as u64;
    if len > scan.limits().file_bytes {
        return Ok(refused(Refusal::TooLarge));
    }
    if len > unpacked.left(scan.limits()) {
        return Err(scan.limits().unpacks_to_too_much(&scan.path));
    }
    let offset = unpacked.len();
    unpacked.append(bytes)?;
    unpacked.count(len);
    Ok(Entry { store, label: NO_LABEL, offset, len: bytes.len() as u32, coding: Coding::File })
}

/// Rows of a column. Errors: it has fewer.
fn read_rows<T>(
    scan: &Scan,
    mut rows: impl FnMut(usize) -> ::parquet::errors::Result<Vec<T>>,
    count: usize,
) -> Result<Vec<T>> {
    let mut all = Vec::new();
    while all.len() < count {
        let some = read(scan, || rows(count - all.len()))?;
        if some.is_empty() {
            return Err(damaged(scan, &"a column has fewer rows than its table"));
        }
        all.extend(some);
    }
    Ok(all)
}

/// What the reader of Parquet gives.
fn read<T>(scan: &Scan, attempt: impl FnOnce() -> ::parquet::errors::Result<T>) -> Result<T> {
    let attempt = || attempt().map_err(|e| Error::data(e.to_string()));
    guarded("the reader of Parquet", attempt).map_err(|e| damaged(scan, &e))
}

fn damaged(scan: &Scan, what: &dyn std::fmt::Display) -> Error {
    Error::data(format!(
        "cannot read {} as a Parquet file: {what}; copy or download it again, or use another that \
         holds images, compressed with snappy or zstd or not at all",
        printable(&scan.path)
    ))
}

/// A column, and the level of values that are there.
struct Column<T: DataType> {
    reader: ColumnReaderImpl<T>,
    present: i16,
}

impl<T: DataType> Column<T> {
    /// At most `most` rows; none where the row has no value.
    fn read(&mut self, most: usize) -> ::parquet::errors::Result<Vec<Option<T::T>>> {
        let (mut values, mut levels) = (Vec::new(), Vec::new());
        let optional = self.present > 0;
        let (rows, ..) =
            self.reader.read_records(most, optional.then_some(&mut levels), None, &mut values)?;
        let mut values = values.into_iter();
        Ok((0..rows)
            .map(|row| match levels.get(row) {
                Some(level) if *level < self.present => None,
                _ => values.next(),
            })
            .collect())
    }
}

/// A column of labels.
struct Labels<'a> {
    label: &'a Label,
    values: Values,
}

enum Values {
    Short(Column<::parquet::data_type::Int32Type>),
    Long(Column<::parquet::data_type::Int64Type>),
    Text(Column<ByteArrayType>),
    /// Of a kind that names no class.
    Other,
}

impl<'a> Labels<'a> {
    fn of(label: &'a Label, reader: ColumnReader, present: i16) -> Self {
        let values = match reader {
            ColumnReader::Int32ColumnReader(reader) => Values::Short(Column { reader, present }),
            ColumnReader::Int64ColumnReader(reader) => Values::Long(Column { reader, present }),
            ColumnReader::ByteArrayColumnReader(reader) => Values::Text(Column { reader, present }),
            _ => Values::Other,
        };
        Self { label, values }
    }

    /// Classes of at most `most` rows; none where a row has none, or the number -1.
    fn read(&mut self, most: usize) -> ::parquet::errors::Result<Vec<Option<String>>> {
        let numbers: Vec<Option<i64>> = match &mut self.values {
            Values::Text(column) => {
                let text = |v: ByteArray| v.as_utf8().map(str::to_owned);
                return column.read(most)?.into_iter().map(|v| v.map(text).transpose()).collect();
            }
            Values::Short(column) => {
                column.read(most)?.into_iter().map(|v| v.map(i64::from)).collect()
            }
            Values::Long(column) => column.read(most)?,
            Values::Other => vec![None; most],
        };
        numbers.into_iter().map(|n| self.class(n)).collect()
    }

    fn class(&self, number: Option<i64>) -> ::parquet::errors::Result<Option<String>> {
        let Some(number) = number.filter(|n| *n != -1) else { return Ok(None) };
        match &self.label.classes {
            None => Ok(Some(number.to_string())),
            Some(classes) => {
                let class = usize::try_from(number).ok().and_then(|n| classes.get(n));
                class.cloned().map(Some).ok_or_else(|| {
                    ::parquet::errors::ParquetError::General(format!(
                        "label {number} of column {}, which has {} classes",
                        self.label.name,
                        classes.len()
                    ))
                })
            }
        }
    }
}
