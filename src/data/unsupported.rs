//! Image formats that are not read. They are recognised all the same, so that their files are
//! named and counted rather than taken for something else.

use std::collections::BTreeMap;

use crate::outside::printable;

/// A format: its name, what a file's name ends with, and what its first bytes are.
struct Kind {
    name: &'static str,
    endings: &'static [&'static str],
    is: fn(&[u8]) -> bool,
}

/// The first whose bytes or, where none has those, whose ending it is. Camera raw files are mostly
/// TIFF inside, so they stand by their endings alone.
const KINDS: [Kind; 13] = [
    Kind { name: "AVIF", endings: &["avif", "avifs"], is: |b| brand(b, &["avif", "avis"]) },
    Kind {
        name: "HEIC",
        endings: &["heic", "heif", "heics", "hif"],
        is: |b| brand(b, &["heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1"]),
    },
    Kind {
        name: "JPEG XL",
        endings: &["jxl"],
        is: |b| b.starts_with(&[0xFF, 0x0A]) || b.starts_with(b"\0\0\0\x0CJXL \r\n\x87\n"),
    },
    Kind {
        name: "JPEG 2000",
        endings: &["jp2", "j2k", "jpx", "jpf", "j2c"],
        is: |b| {
            b.starts_with(b"\0\0\0\x0CjP  \r\n\x87\n") || b.starts_with(&[0xFF, 0x4F, 0xFF, 0x51])
        },
    },
    Kind {
        name: "camera raw",
        endings: &["cr2", "cr3", "nef", "arw", "dng", "orf", "raf", "rw2", "pef"],
        is: |_| false,
    },
    Kind { name: "PSD", endings: &["psd", "psb"], is: |b| b.starts_with(b"8BPS") },
    Kind { name: "OpenEXR", endings: &["exr"], is: |b| b.starts_with(b"\x76\x2F\x31\x01") },
    Kind { name: "Radiance HDR", endings: &["hdr"], is: |b| b.starts_with(b"#?RADIANCE") },
    Kind { name: "QOI", endings: &["qoi"], is: |b| b.starts_with(b"qoif") },
    Kind { name: "DDS", endings: &["dds"], is: |b| b.starts_with(b"DDS ") },
    Kind { name: "TGA", endings: &["tga"], is: |_| false },
    Kind { name: "DICOM", endings: &["dcm", "dicom"], is: |_| false },
    Kind { name: "SVG", endings: &["svg", "svgz"], is: |_| false },
];

/// What to do about them.
pub(super) const ADVICE: &str = "convert them to PNG or JPEG (with ImageMagick: magick mogrify \
                                 -format png FILES), or move them elsewhere";

/// Whether bytes are ISO media whose main brand is one of these.
fn brand(bytes: &[u8], brands: &[&str]) -> bool {
    bytes.get(4..8) == Some(b"ftyp")
        && bytes.get(8..12).is_some_and(|found| brands.iter().any(|b| b.as_bytes() == found))
}

/// The format that a file is in, by its first bytes (16 are enough); none where it is one that is
/// read, or no image.
pub(super) fn by_bytes(head: &[u8]) -> Option<&'static str> {
    KINDS.iter().find(|kind| (kind.is)(head)).map(|kind| kind.name)
}

/// The format that a file is in, by its name.
fn by_name(name: &str) -> Option<&'static str> {
    let (_, ending) = name.rsplit_once('.')?;
    let is = |kind: &&Kind| kind.endings.iter().any(|e| ending.eq_ignore_ascii_case(e));
    KINDS.iter().find(is).map(|kind| kind.name)
}

/// The format that a file is in, by its name or else by its first bytes.
pub(super) fn format(name: &str, head: &[u8]) -> Option<&'static str> {
    by_name(name).or_else(|| by_bytes(head))
}

/// Files met that are no images: how many, and one of them.
#[derive(Debug, Default)]
pub(super) struct Others {
    pub count: usize,
    pub example: String,
}

impl Others {
    pub(super) fn note(&mut self, name: &str) {
        if self.count == 0 {
            name.clone_into(&mut self.example);
        }
        self.count += 1;
    }

    /// Adds others' files.
    pub(super) fn add(&mut self, others: &Others) {
        if self.count == 0 {
            others.example.clone_into(&mut self.example);
        }
        self.count += others.count;
    }
}

/// Files met that are images in formats that are not read: how many in each, and one of them.
#[derive(Debug, Default)]
pub(super) struct Unsupported(BTreeMap<&'static str, Others>);

impl Unsupported {
    pub(super) fn note(&mut self, format: &'static str, name: &str) {
        self.0.entry(format).or_default().note(name);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Files of every format.
    pub(super) fn counts(&self) -> BTreeMap<&'static str, usize> {
        self.0.iter().map(|(format, files)| (*format, files.count)).collect()
    }

    /// `3 images in formats that are not read: AVIF 1 (such as a/x.avif), TIFF 2 (such as b.tif)`.
    pub(super) fn describe(&self) -> String {
        let one = |(format, files): (&&str, &Others)| {
            format!("{format} {} (such as {})", files.count, printable(&files.example))
        };
        let all: Vec<String> = self.0.iter().map(one).collect();
        let count: usize = self.0.values().map(|files| files.count).sum();
        format!("{count} images in formats that are not read: {}", all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::image::Format;

    #[test]
    fn formats_are_told_by_bytes_or_name() {
        let bytes: [(&[u8], &str); 6] = [
            (b"\0\0\0\x20ftypavif\0\0\0\0", "AVIF"),
            (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
            (b"\0\0\0\x18ftypmif1\0\0\0\0", "HEIC"),
            (b"\xFF\x0A\xFA\x1F", "JPEG XL"),
            (b"\0\0\0\x0CjP  \r\n\x87\n\0\0\0\x14", "JPEG 2000"),
            (b"8BPS\0\x01", "PSD"),
        ];
        for (head, name) in bytes {
            assert_eq!(by_bytes(head), Some(name));
            assert_eq!(format("x", head), Some(name));
            assert_eq!(Format::sniff(head), None, "{name}");
        }
        assert_eq!(format("a/b.PSD", b"rubbish"), Some("PSD"));
        assert_eq!(format("a/b.nef", b"MM\0*"), Some("camera raw"));
        for no in [(&b"\0\0\0\x20ftypisom"[..], "x.mp4"), (b"", "tif"), (b"text", "notes.txt")] {
            assert_eq!(format(no.1, no.0), None);
        }
        let read =
            KINDS.iter().flat_map(|k| k.endings).find(|e| Format::is_image_name(&format!("x.{e}")));
        assert_eq!(read, None);
    }
}
