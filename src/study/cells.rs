//! Cells: the commands that a study is made of. A cell is named by what its result depends on: its
//! words, the contents of its images, and the cells whose folders it reads. Equal cells are one.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::data::Dataset;
use crate::error::{Error, Result};

/// Where a cell's command writes, inside the cell's folder.
pub const RUN: &str = "run";
/// Characters of a hash in a cell's name.
const HASH_CHARS: usize = 12;

crate::choice! {
    /// What a cell does.
    pub enum Kind("kind of cell") {
        /// Trains a supernet or a net without labels.
        Train = "train",
        /// Searches.
        Search = "search",
        /// Evaluates the candidates of a search by their nearest neighbours.
        Score = "score",
        /// Trains a net further on labelled images, and tests it.
        Finetune = "finetune",
        /// Trains a net further on annotated images, and tests it.
        Dense = "dense",
        /// Tests a frozen net by a linear classifier.
        Linear = "linear",
    }
}

/// Images, as a cell's command names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What a reader calls them.
    pub name: String,
    /// Absolute paths: cells run in their own folders.
    pub paths: Vec<String>,
    /// BLAKE3 of their names and bytes.
    pub digest: String,
    /// How many there are.
    pub images: usize,
    /// How many classes they have; 0 where they have no labels.
    pub classes: usize,
}

impl Source {
    /// Opens images and computes their digest.
    ///
    /// # Errors
    /// Those of opening them.
    pub fn open(name: &str, paths: &[String]) -> Result<Self> {
        let dataset = Dataset::open(paths)?;
        Ok(Self {
            name: name.to_owned(),
            paths: paths.iter().map(|path| absolute(path)).collect::<Result<_>>()?,
            digest: dataset.digest()?,
            images: dataset.len(),
            classes: dataset.classes().len(),
        })
    }
}

/// A source's path from the root; what stands behind `#` is inside an archive or a folder.
pub(super) fn absolute(source: &str) -> Result<String> {
    let (path, inside) = match source.split_once('#') {
        // A file's own name may hold the sign.
        Some((path, inside)) if !Path::new(source).exists() => (path, format!("#{inside}")),
        _ => (source, String::new()),
    };
    let path = std::path::absolute(path).map_err(|e| Error::read(Path::new(path), e))?;
    Ok(format!("{}{inside}", path.display()))
}

/// A part of a cell's command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// As it stands.
    Text(String),
    /// Paths of images, which count by their contents.
    Images(Source),
    /// A path inside the folder of another cell.
    Of(String, &'static str),
}

/// A command of engine, to be run in a folder of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// What it does.
    pub kind: Kind,
    words: Vec<Word>,
}

impl Cell {
    /// From words separated by spaces.
    pub fn new(kind: Kind, words: &str) -> Self {
        Self { kind, words: Vec::new() }.words(words)
    }

    /// The same with more words.
    pub fn words(mut self, words: &str) -> Self {
        self.words.extend(words.split_whitespace().map(|word| Word::Text(word.to_owned())));
        self
    }

    /// The same with words that may hold spaces.
    pub fn settings(mut self, words: &[String]) -> Self {
        self.words.extend(words.iter().cloned().map(Word::Text));
        self
    }

    /// The same with a flag that names images.
    pub fn images(mut self, flag: &str, source: &Source) -> Self {
        self.words.extend([Word::Text(flag.to_owned()), Word::Images(source.clone())]);
        self
    }

    /// The same with a flag that names a path in another cell's folder.
    pub fn of(mut self, flag: &str, cell: &str, path: &'static str) -> Self {
        self.words.extend([Word::Text(flag.to_owned()), Word::Of(cell.to_owned(), path)]);
        self
    }

    /// All its words.
    pub fn all(&self) -> &[Word] {
        &self.words
    }

    /// Its name, and that of its folder: kind and hash.
    pub fn name(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut part = |kind: u8, text: &str| {
            hasher.update(&[kind]).update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        for word in &self.words {
            match word {
                Word::Text(text) => part(0, text),
                Word::Images(source) => part(1, &source.digest),
                Word::Of(cell, path) => part(2, &format!("{cell}/{path}")),
            }
        }
        format!("{}-{}", self.kind, &hasher.finalize().to_hex()[..HASH_CHARS])
    }

    /// What its folder's command is called with.
    pub fn arguments(&self) -> Vec<String> {
        let words = self.words.iter().flat_map(|word| match word {
            Word::Text(text) => vec![text.clone()],
            Word::Images(source) => source.paths.clone(),
            Word::Of(cell, path) => vec![format!("../{cell}/{path}")],
        });
        words.collect()
    }

    /// The cells whose folders it reads.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        self.words.iter().filter_map(|word| match word {
            Word::Of(cell, _) => Some(cell.as_str()),
            _ => None,
        })
    }
}

/// What follows a flag.
pub(super) fn value_of<'w>(words: &'w [String], flag: &str) -> Option<&'w str> {
    let at = words.iter().position(|word| word == flag)?;
    words.get(at + 1).map(String::as_str)
}

/// What came of a cell: `cell.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub name: String,
    /// What it does.
    pub kind: Kind,
    /// The command, as a shell takes it, to be run in the cell's folder.
    pub command: String,
    /// The cells whose folders it reads.
    pub parents: Vec<String>,
    /// Exit code of the command: 0, or 4 where training diverged or collapsed.
    pub exit_code: u8,
    /// Seconds that it took, over all attempts.
    pub seconds: f64,
    /// What it said of a failure.
    pub reason: Option<String>,
}

/// A cell that was made, or why it was not.
#[derive(Clone, Debug)]
pub struct Made {
    /// The cell's name.
    pub name: String,
    /// Its folder.
    pub dir: PathBuf,
    /// What its command printed, with `--json`.
    pub result: Result<Value, String>,
}

/// Where cells come from: a study makes them, a plan only counts them.
pub trait Maker {
    /// Makes a cell whose parents have been made, unless that is done already.
    ///
    /// # Errors
    /// Exit codes of the command but 0 and 4, and signals.
    fn make(&self, cell: &Cell) -> Result<Made>;

    /// Whether results are only stand-ins.
    fn is_plan(&self) -> bool;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(digest: &str, path: &str) -> Source {
        Source {
            name: "a".into(),
            paths: vec![path.into()],
            digest: digest.into(),
            images: 1,
            classes: 2,
        }
    }

    #[test]
    fn names_follow_words_contents_and_parents() {
        let cell = |words: &str, images: &Source, parent: &str| {
            let cell = Cell::new(Kind::Search, words).images("--data", images);
            cell.of("--ckpt", parent, RUN)
        };
        let one = cell("search --task  cls", &source("x", "/a"), "train-1");
        assert_eq!(one.name(), cell("search --task cls", &source("x", "/moved"), "train-1").name());
        let others = [
            cell("search --task seg", &source("x", "/a"), "train-1"),
            cell("search --task cls", &source("y", "/a"), "train-1"),
            cell("search --task cls", &source("x", "/a"), "train-2"),
        ];
        assert!(others.iter().all(|other| other.name() != one.name()));
        assert!(one.name().starts_with("search-") && one.name().len() == 7 + HASH_CHARS);
        let expected = ["search", "--task", "cls", "--data", "/a", "--ckpt", "../train-1/run"];
        assert_eq!(one.arguments(), expected);
        assert_eq!(one.parents().collect::<Vec<_>>(), ["train-1"]);
    }

    #[test]
    fn paths_are_absolute_and_keep_what_is_inside() {
        let here = std::env::current_dir().unwrap();
        let expected = format!("{}#train", here.join("no-such.tar").display());
        assert_eq!(absolute("no-such.tar#train").unwrap(), expected);
    }
}
