//! Splits a data set into two parts by the images' contents, for `engine data split`.

use std::collections::HashMap;
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;

use super::Dataset;
use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::outside::printable;
use crate::signals;

/// The number of a class, or none.
type Class = Option<usize>;

/// What the parts of a class, or of a whole data set, hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Parts {
    /// Images to train on.
    pub train: usize,
    /// Images to test on.
    pub test: usize,
}

/// For every image of a data set, whether it belongs to the part to test on: of every class the
/// share `test` of its images, rounded, and those whose contents have the smallest hashes. So an
/// image that is there several times lies in one part, whatever it is called; and where an image is
/// added, at most one other, or its copies, move to the other part.
///
/// # Errors
/// An image that cannot be read; INT or TERM.
pub fn assign(dataset: &Dataset, test: f64) -> Result<Vec<bool>> {
    let hash = |i: usize| {
        signals::go_on()?;
        let bytes = dataset.bytes(i).map_err(|e| e.context(printable(&dataset.describe(i))))?;
        Ok(*blake3::hash(&bytes).as_bytes())
    };
    let hashes: Vec<[u8; 32]> =
        (0..dataset.len()).into_par_iter().map(hash).collect::<Result<_>>()?;
    let mut of_class: HashMap<Class, Vec<usize>> = HashMap::new();
    (0..dataset.len()).for_each(|i| of_class.entry(dataset.label(i)).or_default().push(i));
    let mut is_test = vec![false; dataset.len()];
    for mut images in of_class.into_values() {
        images.sort_by_key(|&i| hashes[i]);
        let count = (images.len() as f64 * test).round() as usize;
        let mut taken = 0;
        for copies in images.chunk_by(|&a, &b| hashes[a] == hashes[b]) {
            if taken >= count {
                break;
            }
            copies.iter().for_each(|&i| is_test[i] = true);
            taken += copies.len();
        }
    }
    Ok(is_test)
}

/// Writes `train.txt` and `test.txt` into a folder: lists of absolute paths, each with its class
/// behind a tab. Returns what the parts hold of every class, in the classes' order, and of images
/// without a class last, where there are any.
///
/// # Errors
/// Images that are no files of their own; names that cannot stand in a list; a file that cannot be
/// written.
pub fn write(dataset: &Dataset, is_test: &[bool], out: &Path) -> Result<Vec<(String, Parts)>> {
    let mut lists = [String::new(), String::new()];
    let mut counts = vec![Parts::default(); dataset.classes().len() + 1];
    for (i, &test) in is_test.iter().enumerate() {
        lists[usize::from(test)] += &line(dataset, i)?;
        let parts = &mut counts[dataset.label(i).unwrap_or(dataset.classes().len())];
        *(if test { &mut parts.test } else { &mut parts.train }) += 1;
    }
    for (name, list) in ["train.txt", "test.txt"].into_iter().zip(&lists) {
        write_atomic(&out.join(name), |file| file.write_all(list.as_bytes()))?;
    }
    let names = dataset.classes().iter().cloned().chain(["no class".to_owned()]);
    let mut counts: Vec<(String, Parts)> = names.zip(counts).collect();
    counts.pop_if(|(_, parts)| *parts == Parts::default());
    Ok(counts)
}

fn line(dataset: &Dataset, i: usize) -> Result<String> {
    let name = printable(&dataset.describe(i)).to_string();
    let file = dataset.file(i).ok_or_else(|| {
        Error::data(format!(
            "{name} is no file of its own: expected a folder or a list of images, which lists can \
             name; of archives and tables a part is named by PATH#train"
        ))
    })?;
    let path = std::path::absolute(&file).map_err(|e| Error::read(&file, e))?;
    let path = path.to_str().filter(|path| !path.contains(['\t', '\n', '\r']));
    let path = path.ok_or_else(|| {
        Error::data(format!(
            "{name} cannot stand in a list: expected UTF-8 without tabs and line breaks; rename it"
        ))
    })?;
    let class = dataset.label(i).map(|label| dataset.classes()[label].as_str());
    if class.is_some_and(|class| class.contains(['\t', '\n', '\r'])) {
        return Err(Error::data(format!("{name}: its class has tabs or line breaks; rename it")));
    }
    Ok(match class {
        Some(class) => format!("{path}\t{class}\n"),
        None => format!("{path}\n"),
    })
}
