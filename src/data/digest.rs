//! What a data set holds, in a few bytes.

use rayon::prelude::*;

use super::Dataset;
use super::index::Store;
use crate::error::Result;

/// A data set of at most so many encoded bytes enters its digest as a whole.
const DIGEST_WHOLE_BYTES: u64 = 64 << 20;
/// Images of a larger one whose bytes enter.
const DIGEST_SAMPLE: usize = 512;

impl Dataset {
    /// Length of image `i` as it is stored; 0 where it cannot be told.
    fn encoded_len(&self, i: usize) -> u64 {
        match &self.stores[self.entries[i].store as usize] {
            Store::Folder(root) => {
                std::fs::metadata(root.join(self.names.get(i))).map_or(0, |m| m.len())
            }
            Store::Ranges(_) => self.entries[i].len.into(),
        }
    }

    /// Whether the encoded images have more than so many bytes together.
    pub fn is_larger_than(&self, bytes: u64) -> bool {
        let mut all = 0;
        !(0..self.len()).all(|i| {
            all += self.encoded_len(i);
            all <= bytes
        })
    }

    /// BLAKE3, in hexadecimal, of what the data set holds: the number of its images, their names in
    /// order, their labels where files of labels give them, and their bytes: all where they have at
    /// most 64 MiB together, else those of 512 images spread evenly. Names are those inside their
    /// sources, so a folder that was moved has the same. An image that cannot be read enters as
    /// such. Reads on the current thread pool; the result does not depend on the number of threads.
    ///
    /// # Errors
    /// None today: the signature leaves room for sources that can fail as a whole.
    pub fn digest(&self) -> Result<String> {
        let whole = !self.is_larger_than(DIGEST_WHOLE_BYTES);
        let count = if whole { self.len() } else { self.len().min(DIGEST_SAMPLE) };
        let mut hasher = blake3::Hasher::new();
        let mut number = |n: usize, bytes: &[u8]| {
            hasher.update(&(n as u64).to_le_bytes());
            hasher.update(bytes);
        };
        number(self.len(), &[]);
        for i in 0..self.len() {
            let name = self.names.get(i);
            number(name.len(), name.as_bytes());
        }
        if !self.labels_from().is_empty() {
            // Elsewhere names say it, or the images' own bytes.
            for i in 0..self.len() {
                let class = self.label(i).map_or("", |label| &self.classes()[label]);
                number(class.len(), class.as_bytes());
            }
        }
        number(count, &[]);
        let hash = |k: usize| {
            let i = k * self.len() / count;
            self.encoded(i).ok().map(|encoded| *blake3::hash(&encoded.bytes).as_bytes())
        };
        let hashes: Vec<Option<[u8; 32]>> = (0..count).into_par_iter().map(hash).collect();
        for hash in hashes {
            match hash {
                Some(hash) => number(1, &hash),
                None => number(0, &[]),
            }
        }
        Ok(hasher.finalize().to_hex().to_string())
    }
}
