//! Which images of a labelled set keep their labels: a balanced, nested share of each class, or
//! those that a file names.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::label_file;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::outside::printable;

/// Which images have labels.
#[derive(Clone, Debug, PartialEq)]
pub enum Labels {
    /// All.
    All,
    /// A share of them, more than 0 and less than 1.
    Share(f64),
    /// Those that a file names.
    File(PathBuf),
}

impl FromStr for Labels {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match (text, text.parse::<f64>()) {
            ("all", _) => Ok(Self::All),
            (_, Ok(share)) if share > 0.0 && share < 1.0 => Ok(Self::Share(share)),
            (_, Ok(1.0)) => Ok(Self::All),
            (_, Ok(_)) => Err(Error::usage(format!(
                "--labels {text}: expected a share such as 0.01, all, or a file of images"
            ))),
            _ => Ok(Self::File(text.into())),
        }
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Share(share) => write!(f, "{share}"),
            Self::File(path) => {
                f.write_str(&path.file_name().unwrap_or_default().to_string_lossy())
            }
        }
    }
}

/// The labelled images of a data set, in its order, and what the log is to say of them.
#[derive(Debug)]
pub struct Chosen {
    /// Their indices.
    pub indices: Vec<usize>,
    /// What is worth knowing.
    pub said: Vec<String>,
}

impl Labels {
    /// The images that have labels.
    ///
    /// # Errors
    /// [`crate::Kind::Data`] where an image has no class, a class is left without an image, or a file
    /// names an image that is not there.
    pub fn choose(&self, dataset: &Dataset, seed: u64) -> Result<Chosen> {
        let members = members(dataset)?;
        let chosen = match self {
            Self::All => Chosen { indices: (0..dataset.len()).collect(), said: Vec::new() },
            Self::Share(share) => share_of(dataset, &members, *share, seed)?,
            Self::File(path) => {
                Chosen { indices: label_file::read(path, dataset)?, said: Vec::new() }
            }
        };
        expect_all_classes(dataset, &chosen.indices, self)?;
        Ok(chosen)
    }
}

/// Indices of the images of each class.
fn members(dataset: &Dataset) -> Result<Vec<Vec<usize>>> {
    let mut members = vec![Vec::new(); dataset.classes().len()];
    for i in 0..dataset.len() {
        let label = dataset.label(i).ok_or_else(|| {
            Error::data(format!(
                "{} has no class: expected a folder for each class, such as train/<class>/<image>",
                printable(&dataset.describe(i))
            ))
        })?;
        members[label].push(i);
    }
    if members.len() < 2 {
        return Err(Error::data(format!(
            "{} names {} class(es), expected at least 2: a folder for each class, such as \
             train/<class>/<image>",
            printable(dataset.title()),
            members.len()
        )));
    }
    Ok(members)
}

fn expect_all_classes(dataset: &Dataset, chosen: &[usize], labels: &Labels) -> Result<()> {
    let there: HashSet<usize> = chosen.iter().filter_map(|&i| dataset.label(i)).collect();
    match (0..dataset.classes().len()).find(|class| !there.contains(class)) {
        None => Ok(()),
        Some(class) => Err(Error::data(format!(
            "--labels {labels}: class {:?} is left without an image: expected at least one of each of \
             the {} classes; label more of them",
            dataset.classes()[class],
            dataset.classes().len()
        ))),
    }
}

/// How many images of each class have labels: T = ⌊f·N⌋ in all, ⌊T/C⌋ of each, and one more of the
/// classes that come first in `order` until T is reached. So were the lists of SimCLR made, of
/// 12,811 and 128,116 of ImageNet's 1,281,167 images.
fn quotas(images: usize, order: &[usize], share: f64) -> Vec<usize> {
    // A share such as 0.29 of 100 images is 29, whatever the product rounds to.
    let total = (share * images as f64 + 1e-6).floor() as usize;
    let classes = order.len().max(1);
    let mut quotas = vec![total / classes; order.len()];
    order.iter().take(total % classes).for_each(|&class| quotas[class] += 1);
    quotas
}

/// BLAKE3 of seed, class and name: an order of images that depends on nothing else.
fn digest(seed: u64, class: &str, name: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(class.as_bytes()).update(name.as_bytes());
    *hasher.finalize().as_bytes()
}

/// Classes by their digests.
fn order_of_classes(classes: &[String], seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..classes.len()).collect();
    order.sort_by_cached_key(|&class| digest(seed, &classes[class], ""));
    order
}

/// A balanced share: of each class the images of smallest digest. A larger share holds a smaller one.
fn share_of(dataset: &Dataset, members: &[Vec<usize>], share: f64, seed: u64) -> Result<Chosen> {
    let classes = dataset.classes();
    let order = order_of_classes(classes, seed);
    let quotas = quotas(dataset.len(), &order, share);
    let names = Names::of(dataset);
    let (mut indices, mut said) = (Vec::new(), Vec::new());
    for (class, images) in members.iter().enumerate() {
        let mut images = images.clone();
        images.sort_by_cached_key(|&i| {
            let name = names.of_image(dataset, i);
            (digest(seed, &classes[class], &name), dataset.name(i))
        });
        if images.len() < quotas[class] {
            said.push(format!(
                "class {:?} has {} images, fewer than its share of {}: all of them are labelled",
                classes[class],
                images.len(),
                quotas[class]
            ));
        }
        indices.extend(images.into_iter().take(quotas[class]));
    }
    indices.sort_unstable();
    Ok(Chosen { indices, said })
}

/// Splits labelled images into those to learn from and a balanced fifth to choose rates on, class by
/// class by digest. A class of a single image keeps it to learn from.
pub fn hold_out(dataset: &Dataset, seed: u64) -> Result<[Vec<usize>; 2]> {
    const PARTS: usize = 5;
    let (members, names) = (members(dataset)?, Names::of(dataset));
    let (mut rest, mut held) = (Vec::new(), Vec::new());
    for (class, images) in members.iter().enumerate() {
        let class = &dataset.classes()[class];
        let mut images = images.clone();
        images.sort_by_cached_key(|&i| digest(!seed, class, &names.of_image(dataset, i)));
        // Rounded, so that a class of three gives one.
        let count = ((images.len() * 2 + PARTS) / (2 * PARTS)).min(images.len() - 1);
        rest.extend(images.split_off(count));
        held.extend(images);
    }
    rest.sort_unstable();
    held.sort_unstable();
    match held.is_empty() {
        false => Ok([rest, held]),
        true => Err(Error::data(format!(
            "{}: no class has two labelled images, so none can be held out to choose rates on: set \
             train.lr and finetune.lr_head, or finetune.select=test",
            printable(dataset.title())
        ))),
    }
}

/// What images are called wherever they lie: their base names, where those tell them apart.
struct Names {
    are_base: bool,
}

impl Names {
    fn of(dataset: &Dataset) -> Self {
        let mut seen = HashSet::new();
        Self {
            are_base: (0..dataset.len()).all(|i| seen.insert(base(&dataset.name(i)).to_owned())),
        }
    }

    fn of_image(&self, dataset: &Dataset, i: usize) -> String {
        let name = dataset.name(i);
        if self.are_base { base(&name).to_owned() } else { name }
    }
}

/// The last part of a path.
pub(super) fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Which images have a base name, by it.
pub(super) fn by_base(dataset: &Dataset) -> HashMap<String, Vec<usize>> {
    let mut all: HashMap<String, Vec<usize>> = HashMap::new();
    for i in 0..dataset.len() {
        all.entry(base(&dataset.name(i)).to_owned()).or_default().push(i);
    }
    all
}

/// A file's name in messages.
pub(super) fn shown(path: &Path) -> String {
    printable(path).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_of_simclrs_lists() {
        let order: Vec<usize> = (0..1000).rev().collect();
        let count = |quotas: &[usize], n| quotas.iter().filter(|q| **q == n).count();
        let one = quotas(1_281_167, &order, 0.01);
        assert_eq!((count(&one, 12), count(&one, 13), one.iter().sum()), (189, 811, 12_811));
        let ten = quotas(1_281_167, &order, 0.1);
        assert_eq!((count(&ten, 128), count(&ten, 129), ten.iter().sum()), (884, 116, 128_116));
        assert!(one.iter().zip(&ten).all(|(a, b)| a <= b));
        // Those with one more are the first in order.
        assert!((0..811).all(|k| one[order[k]] == 13));
        assert_eq!(quotas(100, &[0, 1], 0.29), [15, 14]);
    }

    /// Class folders with images of so many bytes of content, by name.
    fn dataset(dir: &Path, classes: &[(&str, usize)]) -> Dataset {
        for (class, count) in classes {
            std::fs::create_dir_all(dir.join(class)).unwrap();
            for i in 0..*count {
                let path = dir.join(class).join(format!("{class}_{i}.png"));
                image::RgbImage::new(1, 1).save(path).unwrap();
            }
        }
        Dataset::open(&[dir.display().to_string()]).unwrap()
    }

    #[test]
    fn shares_are_balanced_and_nested_wherever_images_lie() {
        let dir = tempfile::tempdir().unwrap();
        let here = dataset(&dir.path().join("x"), &[("a", 30), ("b", 7), ("c", 23)]);
        let names = |set: &Dataset, share: &str, seed| -> HashSet<String> {
            let chosen = share.parse::<Labels>().unwrap().choose(set, seed).unwrap();
            chosen.indices.iter().map(|&i| base(&set.name(i)).to_owned()).collect()
        };
        let mut before = HashSet::new();
        for share in ["0.06", "0.1", "0.2", "0.35", "0.5", "0.9", "all"] {
            let now = names(&here, share, 3);
            assert!(before.is_subset(&now), "{share}");
            let of = |class: &str| now.iter().filter(|n| n.starts_with(class)).count();
            assert!(of("a").abs_diff(of("c")) <= 1 || share == "0.9" || share == "all");
            before = now;
        }
        assert_eq!(before.len(), 60);
        // One level higher, in another folder: the same images.
        let above = Dataset::open(&[dir.path().display().to_string()]).unwrap();
        assert_eq!(names(&above, "0.2", 3), names(&here, "0.2", 3));
        assert_ne!(names(&here, "0.2", 4), names(&here, "0.2", 3));
        // 27 images, 9 a class, of which b has 7.
        let chosen = Labels::Share(0.45).choose(&here, 3).unwrap();
        assert_eq!(chosen.indices.len(), 9 + 7 + 9);
        assert!(chosen.said[0].contains("\"b\" has 7 images, fewer than its share of 9"));
        let few = Labels::Share(0.04).choose(&here, 3).unwrap_err();
        assert!(few.exit_code() == 3 && few.to_string().contains("left without an image"), "{few}");
    }

    #[test]
    fn a_fifth_is_held_out_of_every_class() {
        let dir = tempfile::tempdir().unwrap();
        let set = dataset(dir.path(), &[("a", 10), ("b", 3), ("c", 1)]);
        let [rest, held] = hold_out(&set, 1).unwrap();
        let of = |part: &[usize]| -> Vec<usize> {
            (0..3).map(|c| part.iter().filter(|&&i| set.label(i) == Some(c)).count()).collect()
        };
        assert_eq!((of(&rest), of(&held)), (vec![8, 2, 1], vec![2, 1, 0]));
        let single = tempfile::tempdir().unwrap();
        let set = dataset(single.path(), &[("a", 1), ("b", 1)]);
        assert!(hold_out(&set, 1).unwrap_err().to_string().contains("held out"));
    }

    #[test]
    fn labels_are_told_apart() {
        let parse = |text: &str| text.parse::<Labels>();
        assert_eq!(parse("0.01").unwrap(), Labels::Share(0.01));
        assert_eq!([parse("1").unwrap(), parse("all").unwrap()], [Labels::All, Labels::All]);
        assert_eq!(parse("a/1percent.txt").unwrap().to_string(), "1percent.txt");
        for wrong in ["0", "1.5", "-0.1", "nan"] {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }
}
