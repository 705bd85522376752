//! Files that name the images which have labels: a line each, as other projects publish them.

use std::collections::HashMap;
use std::path::Path;

use super::labels::{base, by_base, shown};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::outside::read_at_most;

/// The longest file of labels: a few million lines.
const MOST_BYTES: u64 = 1 << 30;

/// The images that a file names, in the data set's order. A line is a base name
/// (`n01440764_10026.JPEG`), a path, a path and a label (a number after a space, or a class after a
/// tab), or the number of a CIFAR record. It means the image of that whole name, else the one whose
/// name ends like it, else the only one of that base name.
///
/// # Errors
/// [`crate::Kind::Data`] for a line that means no image, or several, or another class.
pub(super) fn read(path: &Path, dataset: &Dataset) -> Result<Vec<usize>> {
    let bytes = read_at_most(path, MOST_BYTES, "a file of labels")
        .map_err(|e| Error::read(path, e).context("--labels"))?;
    let text = String::from_utf8(bytes).map_err(|e| Error::read(path, e))?;
    let finder = Finder::new(dataset);
    // The class that each number stands for.
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let mut indices = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() {
            continue;
        }
        let wrong = |what: String| {
            Error::data(format!("--labels {}: line {}: {what}", shown(path), at + 1))
        };
        let (name, label) = split(line);
        let i = finder.find(name).or_else(|e| match label {
            // A name with a space in it.
            Some(_) => finder.find(line).map_err(|_| e),
            None => Err(e),
        });
        let i = i.map_err(|e| wrong(e.to_string()))?;
        if let (Some(label), Some(class)) = (label, dataset.label(i)) {
            let own = &dataset.classes()[class];
            let same = match label {
                Label::Class(name) => name == own,
                Label::Number(n) => *numbers.entry(n).or_insert(class) == class,
            };
            if !same {
                let said = match label {
                    Label::Class(name) => format!("class {name:?}"),
                    Label::Number(n) => {
                        format!("label {n}, which is {:?} above", dataset.classes()[numbers[n]])
                    }
                };
                return Err(wrong(format!(
                    "{name:?} has {said}, but lies in class {own:?}: expected labels of the same \
                     images"
                )));
            }
        }
        indices.push(i);
    }
    indices.sort_unstable();
    indices.dedup();
    match indices.is_empty() {
        false => Ok(indices),
        true => Err(Error::data(format!("--labels {}: it names no image", shown(path)))),
    }
}

/// What stands behind a path.
#[derive(Clone, Copy)]
enum Label<'a> {
    Class(&'a str),
    Number(&'a str),
}

fn split(line: &str) -> (&str, Option<Label<'_>>) {
    if let Some((name, class)) = line.rsplit_once('\t') {
        return (name, Some(Label::Class(class.trim())));
    }
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match line.rsplit_once(' ') {
        Some((name, number)) if is_number(number) => (name, Some(Label::Number(number))),
        _ => (line, None),
    }
}

/// Finds images by what lists call them.
struct Finder<'a> {
    dataset: &'a Dataset,
    by_name: HashMap<String, usize>,
    by_base: HashMap<String, Vec<usize>>,
}

impl<'a> Finder<'a> {
    fn new(dataset: &'a Dataset) -> Self {
        let by_name = (0..dataset.len()).map(|i| (dataset.name(i), i)).collect();
        Self { dataset, by_name, by_base: by_base(dataset) }
    }

    fn find(&self, name: &str) -> Result<usize> {
        if let Some(&i) = self.by_name.get(name) {
            return Ok(i);
        }
        let record = name.parse().ok().filter(|&i: &usize| i < self.dataset.len());
        if let Some(i) = record.filter(|&i| self.dataset.is_record(i)) {
            return Ok(i);
        }
        let same = self.by_base.get(base(name)).map_or(&[][..], Vec::as_slice);
        let ends = |&&i: &&usize| {
            let own = self.dataset.name(i);
            let inside = |long: &str, short: &str| {
                long.strip_suffix(short).is_some_and(|rest| rest.ends_with('/'))
            };
            inside(&own, name) || inside(name, &own)
        };
        let ending: Vec<&usize> = same.iter().filter(ends).collect();
        match (&ending[..], same) {
            ([i], _) => Ok(**i),
            ([], [i]) => Ok(*i),
            ([], []) => Err(Error::data(format!(
                "{name:?} is no image of {}: expected the names of its images, such as {:?}",
                self.dataset.title(),
                self.dataset.name(0)
            ))),
            (ending, same) => Err(Error::data(format!(
                "{name:?} means {} images of {}: expected a longer part of its path, such as {:?}",
                if ending.is_empty() { same.len() } else { ending.len() },
                self.dataset.title(),
                self.dataset.name(same[0])
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dataset(dir: &Path) -> Dataset {
        for (class, name) in
            [("cat", "c_1.png"), ("cat", "x 2.png"), ("dog", "d_1.png"), ("dog", "c_1.png")]
        {
            std::fs::create_dir_all(dir.join(class)).unwrap();
            image::RgbImage::new(1, 1).save(dir.join(class).join(name)).unwrap();
        }
        Dataset::open(&[dir.display().to_string()]).unwrap()
    }

    fn found(set: &Dataset, text: &str) -> Result<Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list.txt");
        std::fs::write(&path, text).unwrap();
        Ok(read(&path, set)?.into_iter().map(|i| set.name(i)).collect())
    }

    #[test]
    fn all_forms_of_lines_find_their_images() {
        let dir = tempfile::tempdir().unwrap();
        let set = dataset(dir.path());
        for (line, name) in [
            ("d_1.png", "dog/d_1.png"),
            ("dog/c_1.png", "dog/c_1.png"),
            ("data/train/cat/c_1.png", "cat/c_1.png"),
            ("elsewhere/d_1.png 7", "dog/d_1.png"),
            ("d_1.png\tdog", "dog/d_1.png"),
            ("cat/x 2.png", "cat/x 2.png"),
            ("x 2.png", "cat/x 2.png"),
        ] {
            assert_eq!(found(&set, &format!("{line}\n\n")).unwrap(), [name], "{line}");
        }
        let all = "d_1.png 1\r\ncat/c_1.png 0\ndog/c_1.png 1\n";
        assert_eq!(found(&set, all).unwrap(), ["cat/c_1.png", "dog/c_1.png", "dog/d_1.png"]);
    }

    #[test]
    fn what_does_not_match_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let set = dataset(dir.path());
        for (text, says) in [
            ("d_1.png\nbird.png\n", "line 2: \"bird.png\" is no image"),
            ("c_1.png", "means 2 images"),
            ("d_1.png\tcat", "has class \"cat\", but lies in class \"dog\""),
            ("cat/c_1.png 3\nd_1.png 3", "line 2: \"d_1.png\" has label 3, which is \"cat\""),
            ("0", "is no image"),
            ("\n", "names no image"),
        ] {
            let e = found(&set, text).unwrap_err();
            assert!(e.exit_code() == 3 && e.to_string().contains(says), "{text}: {e}");
        }
        let none = read(Path::new("/nowhere/list.txt"), &set).unwrap_err();
        assert!(none.exit_code() == 3 && none.to_string().contains("--labels"), "{none}");
    }

    #[test]
    fn records_of_cifar_have_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let record = |label: u8| [vec![label], vec![0; 3072]].concat();
        let path = dir.path().join("data_batch_1.bin");
        std::fs::write(&path, [0, 1, 1].map(record).concat()).unwrap();
        let set = Dataset::open(&[path.display().to_string()]).unwrap();
        assert_eq!(found(&set, "2\n0\n").unwrap().len(), 2);
        assert!(found(&set, "3").is_err());
    }
}
