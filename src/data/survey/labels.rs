//! What label images hold: what is damaged, and how often each class is met.

use serde::Serialize;

use super::{Extent, each};
use crate::data::annotated::{NO_CLASS, Root};
use crate::error::{Error, Result};

/// What label images hold.
#[derive(Debug, Serialize)]
pub struct LabelSurvey {
    /// Where they were opened from.
    pub source: String,
    /// Images with labels.
    pub images: usize,
    /// Those that were read: all, or a sample spread evenly. What follows is of these.
    pub read: usize,
    /// What is damaged, with its place.
    pub damaged: Vec<String>,
    /// Pixels that have a label.
    pub pixels: u64,
    /// Those whose label is no class, which are ignored.
    pub ignored: u64,
    /// Of each class, in the classes' order.
    pub classes: Vec<ClassPixels>,
    /// Names of the classes that never occur.
    pub absent: Vec<String>,
}

/// Pixels of a class.
#[derive(Clone, Debug, Serialize)]
pub struct ClassPixels {
    /// Its name.
    pub class: String,
    /// How many.
    pub pixels: u64,
    /// Their share of all pixels.
    pub share: f64,
    /// Images that have some.
    pub images: usize,
}

/// Looks at label images and their images, as many as `extent` says; pixels of label `ignore` belong to
/// no class. The result does not depend on the number of threads.
///
/// # Errors
/// Another layout.
pub fn survey(
    source: &str,
    root: &Root,
    ignore: u8,
    extent: Extent,
    progress: impl FnMut(usize, usize),
) -> Result<LabelSurvey> {
    let (all, damaged) = root.labels(ignore)?;
    let mut damaged: Vec<String> = damaged.iter().map(Error::to_string).collect();
    let chosen = extent.of_sizes(all.len(), |i| all.bytes(i));
    let look = |i: usize| -> Result<Vec<u64>> {
        let (_, labels) = all.load(i)?;
        let mut pixels = vec![0; 256];
        labels.labels.iter().for_each(|&label| pixels[usize::from(label)] += 1);
        Ok(pixels)
    };
    let (mut pixels, mut images) = ([0; 256], [0; 256]);
    for found in each(&chosen, progress, look)? {
        match found {
            Err(e) => damaged.push(e.to_string()),
            Ok(found) => {
                for (label, n) in found.into_iter().enumerate() {
                    pixels[label] += n;
                    images[label] += usize::from(n > 0);
                }
            }
        }
    }
    let ignored = std::mem::take(&mut pixels[usize::from(NO_CLASS)]);
    let names = match all.names() {
        Some(names) => names.to_vec(),
        // As many as labels were met.
        None => {
            let met = pixels.iter().rposition(|n| *n > 0).map_or(0, |last| last + 1);
            (0..met).map(|class| class.to_string()).collect()
        }
    };
    let sum = ignored + pixels.iter().sum::<u64>();
    let class = |(c, name): (usize, &String)| ClassPixels {
        class: name.clone(),
        pixels: pixels[c],
        share: pixels[c] as f64 / sum.max(1) as f64,
        images: images[c],
    };
    let classes: Vec<ClassPixels> = names.iter().enumerate().map(class).collect();
    let absent = classes.iter().filter(|c| c.pixels == 0).map(|c| c.class.clone()).collect();
    let (source, images) = (source.to_owned(), all.len());
    Ok(LabelSurvey {
        source,
        images,
        read: chosen.len(),
        damaged,
        pixels: sum,
        ignored,
        classes,
        absent,
    })
}
