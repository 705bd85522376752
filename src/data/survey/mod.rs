//! Reads the images of a data set once, or a sample of them, and says what there is: what
//! `engine data check` and `engine data stats` print.

mod duplicates;
pub mod sheet;

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

pub use self::duplicates::Repeats;
use self::duplicates::{Look, Seen, between, within};
use super::index::is_split;
use super::{Dataset, Image};

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
    /// Mean of all pixels on [0, 1], red green blue; each image weighs the same.
    pub mean: [f64; 3],
    /// Their standard deviation.
    pub std: [f64; 3],
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
        let count = match self {
            Self::Quick if dataset.is_larger_than(WHOLE_BYTES) => dataset.len().min(SAMPLE),
            _ => dataset.len(),
        };
        (0..count).map(|k| k * dataset.len() / count).collect()
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

/// What one image adds.
struct Facts {
    bytes: u64,
    format: &'static str,
    sixteen_bit: bool,
    shorter_side: usize,
    mean: [f64; 3],
    mean_square: [f64; 3],
    look: Look,
}

/// Reads the images `chosen`, in parallel on the current thread pool. `progress` is told how many
/// more are done. The result does not depend on the number of threads.
pub fn survey(dataset: &Dataset, chosen: &[usize], mut progress: impl FnMut(usize)) -> Survey {
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
        mean: [0.0; 3],
        std: [0.0; 3],
        repeats: Repeats::default(),
        seen: Vec::with_capacity(chosen.len()),
    };
    let mut mean_square = [0.0; 3];
    let mut octaves = BTreeMap::new();
    for chunk in chosen.chunks(64 * rayon::current_num_threads()) {
        let facts: Vec<_> = chunk.par_iter().map(|&i| facts(dataset, i)).collect();
        for (&i, facts) in chunk.iter().zip(facts) {
            match facts {
                Ok(f) => {
                    survey.bytes += f.bytes;
                    survey.sixteen_bit += usize::from(f.sixteen_bit);
                    *survey.formats.entry(f.format).or_default() += 1;
                    *octaves.entry(f.shorter_side.ilog2()).or_default() += 1;
                    add(&mut survey.mean, &f.mean);
                    add(&mut mean_square, &f.mean_square);
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
    survey.mean = survey.mean.map(|sum| sum / readable);
    survey.std = std::array::from_fn(|c| {
        (mean_square[c] / readable - survey.mean[c].powi(2)).max(0.0).sqrt()
    });
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

/// `sums += values`, channel by channel.
fn add(sums: &mut [f64; 3], values: &[f64; 3]) {
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
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

fn facts(dataset: &Dataset, i: usize) -> Result<Facts, String> {
    let encoded = dataset.encoded(i).map_err(|e| e.to_string())?;
    let bytes = &encoded.bytes;
    let image = dataset.decode(i, bytes, 0).map_err(|e| e.to_string())?;
    let format = dataset.format(i, bytes);
    let sixteen_bit = format.is_some_and(|f| f.is_sixteen_bit(bytes));
    let format = format.map_or("unknown", |f| f.name());
    let (mean, mean_square) = moments(&image);
    let shorter_side = image.width.min(image.height);
    let (bytes, look) = (bytes.len() as u64, Look::of(&image));
    Ok(Facts { bytes, format, sixteen_bit, shorter_side, mean, mean_square, look })
}

/// Mean and mean square of each channel on [0, 1]; whole numbers until the end.
fn moments(image: &Image) -> ([f64; 3], [f64; 3]) {
    let (mut sum, mut square) = ([0u64; 3], [0u64; 3]);
    for row in image.rgb.chunks_exact(3 * image.width) {
        // A row's sums fit 32 bits, which are quicker.
        let (mut s, mut q) = ([0u32; 3], [0u32; 3]);
        for pixel in row.as_chunks::<3>().0 {
            for c in 0..3 {
                let v = u32::from(pixel[c]);
                s[c] += v;
                q[c] += v * v;
            }
        }
        for c in 0..3 {
            sum[c] += u64::from(s[c]);
            square[c] += u64::from(q[c]);
        }
    }
    let n = (image.width * image.height) as f64;
    (sum.map(|s| s as f64 / n / 255.0), square.map(|q| q as f64 / n / 65025.0))
}
