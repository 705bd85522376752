//! Reads the images of a data set once, or a sample of them, and says what there is: what
//! `engine data check` and `engine data stats` print.

mod duplicates;
pub mod labels;
pub mod objects;
pub mod sheet;

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

pub use self::duplicates::Repeats;
use self::duplicates::{Look, Seen, between, within};
use super::index::is_split;
use super::{AnyImage, Dataset};
use crate::error::Result;
use crate::signals;

/// A data set of at most so many encoded bytes is read as a whole.
const WHOLE_BYTES: u64 = 256 << 20;
/// Images of a larger one that are read.
const SAMPLE: usize = 2048;

/// What a data set holds.
#[derive(Clone, Debug, Serialize)]
pub struct Survey {
    /// Where it was opened from.
    pub source: String,
    /// What they are: files of each kind.
    pub kinds: BTreeMap<&'static str, usize>,
    /// Images, readable or not.
    pub images: usize,
    /// Those that were read: all, or a sample spread evenly. What follows of formats, sizes,
    /// pixels and repetitions is of these.
    pub read: usize,
    /// Images of every part of the data set that names tell (`train`, `test`), which `#train`
    /// names.
    pub parts: BTreeMap<String, usize>,
    /// Files that labels came from; none where folders are classes.
    pub labels_from: Vec<String>,
    /// Folders without images.
    pub empty_folders: usize,
    /// Those that cannot be read.
    pub corrupt: Vec<Corrupt>,
    /// Files that are no images.
    pub other_files: usize,
    /// Files that are images in formats that are not read, by format.
    pub unsupported_formats: BTreeMap<&'static str, usize>,
    /// Readable images of 16 bits a channel, which are rounded to 8.
    pub sixteen_bit: usize,
    /// Encoded size of the images that were read.
    pub bytes: u64,
    /// Images of every class, in the classes' order; empty where there are none.
    pub classes: Vec<ClassCount>,
    /// Images without a class.
    pub unlabelled: usize,
    /// Readable images of every format.
    pub formats: BTreeMap<&'static str, usize>,
    /// Readable images by the length of their shorter side, in octaves.
    pub shorter_side: Vec<SideCount>,
    /// Mean of each channel's samples on [0, 1]; each image weighs the same.
    pub mean: Vec<f64>,
    /// Their standard deviation.
    pub std: Vec<f64>,
    /// Images that are there more than once.
    pub repeats: Repeats,
    #[serde(skip)]
    seen: Vec<Seen>,
}

/// How much of a data set is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Every image.
    All,
    /// Every image where they have at most 256 MiB together, else 2048 spread evenly.
    Quick,
}

impl Extent {
    /// The images to read.
    pub fn of(self, dataset: &Dataset) -> Vec<usize> {
        self.among(dataset.len(), || dataset.is_larger_than(WHOLE_BYTES))
    }

    /// The same of `len` images that have so many bytes each.
    fn of_sizes(self, len: usize, bytes: impl Fn(usize) -> u64) -> Vec<usize> {
        let mut left = WHOLE_BYTES;
        let mut fits = |i| left.checked_sub(bytes(i)).inspect(|rest| left = *rest).is_some();
        self.among(len, || !(0..len).all(&mut fits))
    }

    fn among(self, len: usize, is_large: impl FnOnce() -> bool) -> Vec<usize> {
        let count = if self == Self::Quick && is_large() { len.min(SAMPLE) } else { len };
        (0..count).map(|k| k * len / count).collect()
    }
}

/// How many images there are, and how many of them were read.
pub fn of_read(images: usize, read: usize) -> String {
    match read == images {
        true => images.to_string(),
        false => {
            format!("{images}, of which {read} were read, spread evenly (--all reads every one)")
        }
    }
}

/// An image that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Corrupt {
    /// Its number.
    pub index: usize,
    /// Its source and name.
    pub file: String,
    /// Why.
    pub reason: String,
}

/// Images of a class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClassCount {
    /// Its name.
    pub class: String,
    /// How many.
    pub images: usize,
}

/// Images whose shorter side is `from` to `to` pixels long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SideCount {
    /// Shortest: a power of two.
    pub from: usize,
    /// Longest: one less than the next.
    pub to: usize,
    /// How many.
    pub images: usize,
}

/// What each of the `chosen` images gives, in their order; in parallel on the current thread pool.
/// `progress` is told how many more are done, and of how many.
fn each<T: Send>(
    chosen: &[usize],
    mut progress: impl FnMut(usize, usize),
    look: impl Fn(usize) -> T + Sync,
) -> Result<Vec<T>> {
    let mut found = Vec::with_capacity(chosen.len());
    for chunk in chosen.chunks(16 * rayon::current_num_threads()) {
        signals::go_on()?;
        found.par_extend(chunk.par_iter().map(|&i| look(i)));
        progress(chunk.len(), chosen.len());
    }
    Ok(found)
}

/// What one image adds.
struct Facts {
    bytes: u64,
    format: &'static str,
    sixteen_bit: bool,
    shorter_side: usize,
    /// Mean and mean square of each channel.
    moments: Vec<[f64; 2]>,
    look: Look,
}

/// Reads the images `chosen` as ones of so many channels, in parallel on the current thread pool. `progress` is told how many
/// more are done. The result does not depend on the number of threads.
pub fn survey(
    dataset: &Dataset,
    chosen: &[usize],
    channels: usize,
    mut progress: impl FnMut(usize),
) -> Survey {
    let mut survey = Survey {
        source: dataset.title().to_owned(),
        kinds: dataset.kinds().clone(),
        images: dataset.len(),
        read: chosen.len(),
        parts: parts(dataset),
        labels_from: dataset.labels_from().to_vec(),
        empty_folders: dataset.empty_folders(),
        corrupt: Vec::new(),
        other_files: dataset.other_files(),
        unsupported_formats: dataset.unsupported_formats(),
        sixteen_bit: 0,
        bytes: 0,
        classes: Vec::new(),
        unlabelled: 0,
        formats: BTreeMap::new(),
        shorter_side: Vec::new(),
        mean: Vec::new(),
        std: Vec::new(),
        repeats: Repeats::default(),
        seen: Vec::with_capacity(chosen.len()),
    };
    let mut sums = vec![[0.0; 2]; channels];
    let mut octaves = BTreeMap::new();
    for chunk in chosen.chunks(64 * rayon::current_num_threads()) {
        let facts: Vec<_> = chunk.par_iter().map(|&i| facts(dataset, i, channels)).collect();
        for (&i, facts) in chunk.iter().zip(facts) {
            match facts {
                Ok(f) => {
                    survey.bytes += f.bytes;
                    survey.sixteen_bit += usize::from(f.sixteen_bit);
                    *survey.formats.entry(f.format).or_default() += 1;
                    *octaves.entry(f.shorter_side.ilog2()).or_default() += 1;
                    sums.iter_mut().zip(f.moments).for_each(|(sum, moments)| {
                        *sum = std::array::from_fn(|i| sum[i] + moments[i]);
                    });
                    survey.seen.push((i, dataset.label(i), f.look));
                }
                Err(reason) => {
                    let file = dataset.describe(i);
                    survey.corrupt.push(Corrupt { index: i, file, reason });
                }
            }
        }
        progress(chunk.len());
    }
    let readable = survey.seen.len().max(1) as f64;
    survey.mean = sums.iter().map(|[sum, _]| sum / readable).collect();
    let of = |[sum, square]: &[f64; 2]| (square / readable - (sum / readable).powi(2)).max(0.0);
    survey.std = sums.iter().map(|sums| of(sums).sqrt()).collect();
    survey.shorter_side = octaves
        .into_iter()
        .map(|(o, images): (u32, usize)| SideCount { from: 1 << o, to: (2 << o) - 1, images })
        .collect();
    count_classes(dataset, &mut survey);
    survey.repeats = within(&survey.seen);
    survey
}

impl Survey {
    /// Images of `test` that this data set has too.
    pub fn repeated_in(&self, test: &Survey) -> Repeats {
        between(&self.seen, &test.seen)
    }
}

/// Images of every part that names tell.
fn parts(dataset: &Dataset) -> BTreeMap<String, usize> {
    let mut parts = BTreeMap::new();
    for i in 0..dataset.len() {
        let name = dataset.name(i);
        let folders = name.rsplit_once('/').map_or("", |(folders, _)| folders);
        if let Some(part) = folders.split('/').find(|folder| is_split(folder)) {
            *parts.entry(part.to_owned()).or_default() += 1;
        }
    }
    parts
}

fn count_classes(dataset: &Dataset, survey: &mut Survey) {
    let mut counts = vec![0; dataset.classes().len()];
    for i in 0..dataset.len() {
        match dataset.label(i) {
            Some(label) => counts[label] += 1,
            None => survey.unlabelled += 1,
        }
    }
    let named = dataset.classes().iter().zip(counts);
    survey.classes =
        named.map(|(class, images)| ClassCount { class: class.clone(), images }).collect();
}

fn facts(dataset: &Dataset, i: usize, channels: usize) -> Result<Facts, String> {
    let encoded = dataset.encoded(i).map_err(|e| e.to_string())?;
    let bytes = &encoded.bytes;
    let image = dataset.decode_as(i, bytes, channels).map_err(|e| e.to_string())?;
    let format = dataset.format(i, bytes);
    let sixteen_bit = format.is_some_and(|f| f.is_sixteen_bit(bytes));
    let format = format.map_or("unknown", |f| f.name());
    let (width, height) = image.size();
    let (bytes, moments) = (bytes.len() as u64, image.moments());
    let look = match &*image {
        AnyImage::Rgb(image) => Look::of(image),
        bands => Look::of(&bands.shown()),
    };
    let shorter_side = width.min(height);
    Ok(Facts { bytes, format, sixteen_bit, shorter_side, moments, look })
}
