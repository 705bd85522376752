//! Images for the quickstart: drawn ones of two domains, or small copies of the user's.

use std::collections::BTreeMap;
use std::path::Path;

use image::imageops::{self, FilterType};
use rayon::prelude::*;
use serde::Serialize;

use crate::data::{Dataset, Image, allowed_corrupt, synthetic};
use crate::error::{Error, Result};
use crate::files;
use crate::rng::{Philox, Purpose};

/// Of the labelled ones, every so many-th is kept for testing.
const TEST_EVERY: usize = 5;
/// Shorter side of a copy over the net's input: room for crops.
const MARGIN: f64 = 1.5;

/// Images of one kind.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Domain {
    /// What they are called.
    pub(super) name: String,
    /// Those to train and search on.
    pub(super) train: String,
    /// Labelled ones to test on.
    pub(super) test: Option<String>,
    /// How many there are to train on.
    pub(super) images: usize,
}

/// Draws two domains into `dir`, `counts` images of each to train on and to test on.
pub(super) fn draw(
    dir: &Path,
    counts: [usize; 2],
    resolution: usize,
    seed: u64,
) -> Result<Vec<Domain>> {
    let one = |domain: synthetic::Domain| {
        let root = dir.join(domain.name());
        synthetic::write(&root, domain, counts, resolution, seed)?;
        Ok(Domain {
            name: domain.name().to_owned(),
            train: part(&root, "train"),
            test: Some(part(&root, "test")),
            images: counts[0],
        })
    };
    [synthetic::Domain::Shapes, synthetic::Domain::Textures].into_iter().map(one).collect()
}

/// `DIR#train`: a folder inside another, by which the images keep the domain's name.
fn part(root: &Path, name: &str) -> String {
    format!("{}#{name}", root.display())
}

/// Copies up to `most` of the user's images, drawn from a seed and made small, into `dir`:
/// decoding large images again for every view would be most of the quickstart's time.
pub(super) fn take(
    paths: &[String],
    dir: &Path,
    most: usize,
    resolution: usize,
    seed: u64,
) -> Result<Domain> {
    let dataset = Dataset::open(paths)?;
    let root = dir.join("yours");
    let chosen = Philox::new(seed, Purpose::Subset, 1, 0).sample(dataset.len(), most);
    let plan = plan(&dataset, &chosen);
    for folder in plan.iter().map(|p| p.1.as_str()).collect::<std::collections::BTreeSet<_>>() {
        files::create_dir(&root.join(folder))?;
    }
    let side = (resolution as f64 * MARGIN) as u32;
    let copy = |(place, (i, folder)): (usize, &(usize, String))| -> Result<bool> {
        match dataset.load(*i) {
            Ok(image) => {
                save(&root.join(folder).join(format!("{place:05}.png")), image, side)?;
                Ok(true)
            }
            Err(e) => {
                tracing::warn!("{e}; it is left out");
                Ok(false)
            }
        }
    };
    let copied: Vec<bool> = plan.par_iter().enumerate().map(copy).collect::<Result<_>>()?;
    let bad = copied.iter().filter(|ok| !**ok).count();
    if bad > allowed_corrupt(copied.len(), 0.001) || bad == copied.len() {
        return Err(Error::data(format!(
            "{bad} of {} images of {} cannot be read; `engine data check` lists them",
            copied.len(),
            dataset.title()
        )));
    }
    let tests = plan.iter().filter(|p| p.1.starts_with("test")).count();
    Ok(Domain {
        name: "yours".into(),
        train: part(&root, "train"),
        test: (tests > 0).then(|| part(&root, "test")),
        images: copied.len() - bad - tests,
    })
}

/// For each image the folder that its copy goes to: by class where there are classes, and
/// then every [`TEST_EVERY`]th of a class for testing.
fn plan(dataset: &Dataset, chosen: &[usize]) -> Vec<(usize, String)> {
    let labelled =
        dataset.classes().len() > 1 && chosen.iter().all(|&i| dataset.label(i).is_some());
    let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
    let folder = |&i: &usize| {
        let Some(label) = dataset.label(i).filter(|_| labelled) else {
            return (i, "train".to_owned());
        };
        let count = seen.entry(label).or_default();
        *count += 1;
        let part = if count.is_multiple_of(TEST_EVERY) { "test" } else { "train" };
        let safe = |c: char| if c.is_alphanumeric() || "-_. ".contains(c) { c } else { '_' };
        let class: String = dataset.classes()[label].chars().map(safe).collect();
        (i, format!("{part}/{label:04}-{class}"))
    };
    chosen.iter().map(folder).collect()
}

/// Writes an image whose shorter side is at most `side`.
fn save(path: &Path, image: Image, side: u32) -> Result<()> {
    let (w, h) = (image.width as u32, image.height as u32);
    let wrong = || Error::data(format!("{}: a decoded image has the wrong size", path.display()));
    let mut image = image::RgbImage::from_raw(w, h, image.rgb).ok_or_else(wrong)?;
    let shorter = w.min(h);
    if shorter > side {
        let scaled = |n: u32| (u64::from(n) * u64::from(side)).div_ceil(u64::from(shorter)) as u32;
        image = imageops::resize(&image, scaled(w), scaled(h), FilterType::Triangle);
    }
    image.save(path).map_err(|e| Error::write(path, e))
}
