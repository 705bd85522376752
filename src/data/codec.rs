//! Compressed files, of which nothing can be read but from the beginning.

use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::limits::Limits;
use crate::outside::open_regular;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    Zstd,
    Gzip,
}

impl Codec {
    /// What the first bytes of a file say.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        match head {
            [0x28, 0xB5, 0x2F, 0xFD, ..] => Some(Self::Zstd),
            [0x1F, 0x8B, ..] => Some(Self::Gzip),
            _ => None,
        }
    }

    /// A reader of what is compressed in a file.
    pub(super) fn open(self, path: &Path, limits: &Limits) -> io::Result<Box<dyn Read>> {
        self.reader(BufReader::new(open_regular(path)?), limits)
    }

    fn reader<'a>(
        self,
        file: impl io::BufRead + 'a,
        limits: &Limits,
    ) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::Gzip => Box::new(MultiGzDecoder::new(file)),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(file)?;
                decoder.window_log_max(limits.zstd_window_log)?;
                Box::new(decoder)
            }
        })
    }

    /// The first bytes of what is compressed, at most `len`, from the first bytes of the file.
    pub(super) fn peek(self, head: &[u8], len: u64, limits: &Limits) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Ok(reader) = self.reader(head, limits) {
            // The head ends somewhere within, which is an error after as much as it holds.
            let _ = reader.take(len).read_to_end(&mut bytes);
        }
        bytes
    }
}
