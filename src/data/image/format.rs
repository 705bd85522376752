//! How images are stored, as far as names and first bytes tell.

use super::tiff;

/// How an image is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// GIF, of which the first image is taken.
    Gif,
    /// WebP.
    WebP,
    /// Windows bitmap.
    Bmp,
    /// PBM, PGM, PPM, PAM.
    Pnm,
    /// TIFF, of which the first page is taken.
    Tiff,
    /// Three planes of bytes, as in CIFAR's binary files.
    Cifar,
    /// One plane of bytes, as in IDX files.
    Idx,
}

impl Format {
    /// What the first bytes of a file say; `None` where it is no image.
    pub fn sniff(bytes: &[u8]) -> Option<Format> {
        match bytes {
            [0xFF, 0xD8, 0xFF, ..] => Some(Format::Jpeg),
            [0x89, b'P', b'N', b'G', 0x0D, 0x0A, 0x1A, 0x0A, ..] => Some(Format::Png),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Format::Gif),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Format::WebP),
            // The reserved bytes of the header are zero; "BM" alone is common in text.
            [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..] => Some(Format::Bmp),
            [b'P', b'1'..=b'7', b'\n' | b'\r' | b' ' | b'\t', ..] => Some(Format::Pnm),
            _ if tiff::is_tiff(bytes) => Some(Format::Tiff),
            _ => None,
        }
    }

    /// Whether a file's name ends like an image's.
    pub fn is_image_name(name: &str) -> bool {
        is_ending(name.rsplit_once('.').map_or("", |(_, ending)| ending))
    }

    /// Whether a file of this format says that it holds more than 8 bits a channel. They are
    /// rounded: a value v of 16 bits becomes round(255·v/65535).
    pub fn is_sixteen_bit(self, bytes: &[u8]) -> bool {
        match self {
            Format::Png => bytes.get(24) == Some(&16),
            Format::Pnm => pnm_largest(bytes).is_some_and(|largest| largest > 255),
            Format::Tiff => tiff::Header::of(bytes).is_ok_and(|header| header.bits() > 8),
            Format::Jpeg | Format::Gif | Format::WebP | Format::Bmp => false,
            Format::Cifar | Format::Idx => false,
        }
    }

    /// Whether a file of this format holds further pages, which are not read.
    pub fn has_further_pages(self, bytes: &[u8]) -> bool {
        self == Format::Tiff && tiff::Header::of(bytes).is_ok_and(|header| header.further_pages)
    }

    /// Whether its bytes are pixels, whose size only the source knows.
    pub fn is_raw(self) -> bool {
        matches!(self, Format::Cifar | Format::Idx)
    }

    /// Its usual name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Format::Jpeg => "jpeg",
            Format::Png => "png",
            Format::Gif => "gif",
            Format::WebP => "webp",
            Format::Bmp => "bmp",
            Format::Pnm => "pnm",
            Format::Tiff => "tiff",
            Format::Cifar => "cifar",
            Format::Idx => "idx",
        }
    }
}

/// Whether the ending of a name, without its dot, is one of images that are read.
pub(in crate::data) fn is_ending(ending: &str) -> bool {
    const ENDINGS: [&str; 13] = [
        "jpg", "jpeg", "jpe", "jfif", "png", "gif", "webp", "bmp", "ppm", "pgm", "pnm", "tif",
        "tiff",
    ];
    ENDINGS.iter().any(|e| ending.eq_ignore_ascii_case(e))
}

/// The largest value that a PNM file says its samples have; none where the header is damaged.
fn pnm_largest(bytes: &[u8]) -> Option<u32> {
    const HEADER_BYTES: usize = 4096;
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(HEADER_BYTES)]);
    let lines = head.lines().map(|line| line.split('#').next().unwrap_or_default());
    let mut words = lines.flat_map(str::split_whitespace);
    match words.next()? {
        "P1" | "P4" => Some(1),
        "P7" => words.skip_while(|word| *word != "MAXVAL").nth(1)?.parse().ok(),
        _ => words.nth(2)?.parse().ok(),
    }
}
