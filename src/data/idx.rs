//! IDX files, as those of MNIST: images in one file, `train-images-idx3-ubyte`, and their labels in
//! another beside it, `train-labels-idx1-ubyte`, each compressed with gzip or not.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::codec::Codec;
use super::image::check_size;
use super::index::{Coding, Entry, Group, NO_LABEL, Store};
use super::planes::{PlaneKind, Planes};
use super::ranges::Ranges;
use super::scan::{Scan, record_name};
use crate::error::{Error, Result};
use crate::outside::{open_regular, printable};

/// First bytes: values of 8 bits in three dimensions, and in one.
const IMAGES: [u8; 4] = [0, 0, 8, 3];
const LABELS: [u8; 4] = [0, 0, 8, 1];
const IMAGES_HEADER: u64 = 16;
const LABELS_HEADER: u64 = 8;

/// Whether a file of a folder is called as such a file of images is.
pub(super) fn is_named(base: &str) -> bool {
    base.contains("idx3-ubyte")
}

/// Whether a file of a folder is called as such a file of labels is.
pub(super) fn is_labels(base: &str) -> bool {
    base.contains("idx1-ubyte")
}

/// What the header of a file of images says.
struct Header {
    count: u64,
    planes: Planes,
}

impl Header {
    fn of(start: &[u8], scan: &Scan) -> Result<Self> {
        let path = printable(&scan.path);
        let number = |at: usize| {
            let field = start.get(at..at + 4).and_then(|b| b.try_into().ok());
            field.map(|b| u64::from(u32::from_be_bytes(b)))
        };
        let (Some(count), Some(height), Some(width)) = (number(4), number(8), number(12)) else {
            return Err(cut_short(&scan.path, "its header is not whole"));
        };
        check_size(width as usize, height as usize, scan.limits())
            .map_err(|e| e.context(format!("{path}: of its images")))?;
        // Sides were checked to fit.
        let planes = Planes { width: width as u16, height: height as u16, kind: PlaneKind::Grey };
        Ok(Self { count, planes })
    }

    /// Bytes of the whole file.
    fn len(&self) -> u64 {
        IMAGES_HEADER + self.count.saturating_mul(self.planes.bytes() as u64)
    }
}

/// Adds the images of such a file; says whether it is one.
pub(super) fn add(scan: &mut Scan, head: &[u8]) -> Result<bool> {
    // Of a file in zstd the head may be too short to tell.
    let codec = Codec::of(head).filter(|codec| *codec == Codec::Gzip);
    let start = match codec {
        Some(codec) => codec.peek(head, IMAGES_HEADER, scan.limits()),
        None => head.to_vec(),
    };
    if !start.starts_with(&IMAGES) {
        return Ok(false);
    }
    let (path, name) = (scan.path.clone(), scan.name.clone());
    // All images of a file lie in one folder.
    if !scan.wants(&record_name(&name, None, 0)) {
        return Ok(true);
    }
    let header = Header::of(&start, scan)?;
    scan.expect_room(usize::try_from(header.count).unwrap_or(usize::MAX))?;
    let labels = labels_of(scan, &path, header.count)?;
    let (ranges, first) = match codec {
        None => {
            let ranges = Ranges::open(&path, &mut scan.index.kept_open)?;
            expect_len(&path, &header, ranges.len())?;
            (ranges, IMAGES_HEADER)
        }
        Some(codec) => {
            let reader = codec.open(&path, scan.limits()).map_err(|e| Error::read(&path, e))?;
            let (ranges, from, len) = scan.unpack(reader.take(header.len().saturating_add(1)))?;
            expect_len(&path, &header, len)?;
            (ranges, from + IMAGES_HEADER)
        }
    };
    let store = scan.index.add_store(Store::Ranges(ranges));
    let len = header.planes.bytes() as u32;
    for record in 0..header.count {
        let offset = first + record * u64::from(len);
        let coding = Coding::Planes(header.planes);
        let entry = Entry { store, label: NO_LABEL, offset, len, coding };
        let label = labels.as_ref().map(|labels| labels[record as usize].to_string());
        let name = record_name(&name, None, record as usize);
        scan.push_as(&name, label.map_or(Group::None, Group::Named), entry);
    }
    Ok(true)
}

fn cut_short(path: &Path, what: &str) -> Error {
    Error::data(format!(
        "{}: {what}; it is cut short or damaged: copy or download it again",
        printable(path)
    ))
}

fn expect_len(path: &Path, header: &Header, len: u64) -> Result<()> {
    if len == header.len() {
        return Ok(());
    }
    let Header { count, planes: Planes { width, height, .. } } = header;
    let found = if len > header.len() { "more".to_owned() } else { len.to_string() };
    let what = format!(
        "its header says {count} images of {width}x{height}, so expected {} bytes, found {found}",
        header.len()
    );
    Err(cut_short(path, &what))
}

/// The labels of `count` images, from the file beside theirs; none where there is no such file.
fn labels_of(scan: &mut Scan, path: &Path, count: u64) -> Result<Option<Vec<u8>>> {
    let beside = beside(path);
    let Some(file) = beside.iter().find(|path| path.exists()) else {
        let expected = beside.first().map_or_else(String::new, |p| printable(p).to_string());
        tracing::warn!("{}: no labels beside it; expected {expected}", printable(path));
        return Ok(None);
    };
    let bad = |e| Error::read(file, e);
    let mut start = Vec::new();
    open_regular(file).map_err(bad)?.take(2).read_to_end(&mut start).map_err(bad)?;
    let reader: Box<dyn Read> = match Codec::of(&start) {
        Some(codec) => codec.open(file, scan.limits()).map_err(bad)?,
        None => Box::new(open_regular(file).map_err(bad)?),
    };
    let (expected, mut bytes) = (LABELS_HEADER + count, Vec::new());
    reader.take(expected + 1).read_to_end(&mut bytes).map_err(bad)?;
    let claimed = bytes.get(4..8).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
    if !bytes.starts_with(&LABELS)
        || claimed.map(u64::from) != Some(count)
        || bytes.len() as u64 != expected
    {
        let what = format!(
            "expected {count} labels, one for each image of {}: {expected} bytes that begin with \
             00 00 08 01 and that number",
            printable(path)
        );
        return Err(cut_short(file, &what));
    }
    scan.index.labels_from.push(file.display().to_string());
    Ok(Some(bytes.split_off(LABELS_HEADER as usize)))
}

/// Where the labels of a file of images may lie: under its own name with `labels` for `images` and
/// `idx1` for `idx3`, compressed or not.
fn beside(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    let labels = plain.replace("images", "labels").replace("idx3", "idx1");
    if labels == plain {
        return Vec::new();
    }
    [labels.clone(), format!("{labels}.gz")].map(|name| path.with_file_name(name)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_lie_beside_images() {
        let first = |name: &str| beside(Path::new(name)).first().map(|p| p.display().to_string());
        let expected = Some("a/train-labels-idx1-ubyte".to_owned());
        assert_eq!(first("a/train-images-idx3-ubyte"), expected);
        assert_eq!(first("a/train-images-idx3-ubyte.gz"), expected);
        assert_eq!(first("t10k-images.idx3-ubyte").as_deref(), Some("t10k-labels.idx1-ubyte"));
        assert_eq!(first("mine"), None);
    }
}
