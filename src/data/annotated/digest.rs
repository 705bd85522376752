//! What annotated images hold, in a few bytes.

use rayon::prelude::*;

use crate::error::Result;

/// Images whose bytes enter.
const SAMPLE: usize = 512;

/// BLAKE3, in hexadecimal, of what annotations say, the names of the images in order, and the bytes of
/// at most 512 of them, spread evenly. It does not depend on the number of threads.
///
/// # Errors
/// Those of `bytes_of`.
pub(super) fn of<'a>(
    annotations: &str,
    names: impl Iterator<Item = &'a str>,
    images: usize,
    bytes_of: impl Fn(usize) -> Result<Vec<u8>> + Sync,
) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut add = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    add(annotations.as_bytes());
    names.for_each(|name| add(name.as_bytes()));
    let count = images.min(SAMPLE);
    let hash =
        |k: usize| bytes_of(k * images / count).map(|bytes| *blake3::hash(&bytes).as_bytes());
    let hashes: Vec<[u8; 32]> = (0..count).into_par_iter().map(hash).collect::<Result<_>>()?;
    hashes.iter().for_each(|hash| add(hash));
    Ok(hasher.finalize().to_hex().to_string())
}
