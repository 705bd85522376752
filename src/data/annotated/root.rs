//! A path that was looked through for annotations, once for all that lies there.

use std::path::PathBuf;

use super::layouts::{self, LabelImages};
use super::tree::Tree;
use super::{Objects, coco, is_json, voc};
use crate::data::source::split_fragment;
use crate::error::{Error, Result};

/// Folders by which annotations of objects are known: COCO's and Pascal VOC's.
pub(super) const OF_OBJECTS: [&str; 2] = ["annotations", "Annotations"];

/// `PATH` or `PATH#SPLIT`, looked through.
pub struct Root {
    source: String,
    path: PathBuf,
    split: Option<String>,
    /// None: a JSON file.
    tree: Option<Tree>,
}

/// What was read, unless something of it is damaged: then why.
pub(super) fn first_damage<T>((read, damaged): (T, Vec<Error>)) -> Result<T> {
    damaged.into_iter().next().map_or(Ok(read), Err)
}

impl Root {
    /// Looks through a JSON file, a folder or an archive, which is unpacked to a temporary file if it
    /// is compressed.
    ///
    /// # Errors
    /// [`Kind::Data`](crate::Kind::Data) for anything else.
    pub fn open(source: &str) -> Result<Self> {
        let (path, split) = split_fragment(source);
        let tree = if is_json(&path)? { None } else { Some(Tree::open(&path)?) };
        Ok(Self { source: source.to_owned(), path, split, tree })
    }

    /// Whether it unmistakably has annotations of objects: a JSON object, `annotations/instances_*.json`
    /// or `Annotations/*.xml`, of the split where one is named.
    pub fn has_objects(&self) -> bool {
        let Some(tree) = &self.tree else { return true };
        let Ok(tree) = tree.clone().holding(&OF_OBJECTS) else { return false };
        let has = |name: String| tree.has_file(&name);
        match (tree.has_folder("Annotations"), &self.split) {
            (true, Some(split)) => has(format!("ImageSets/Main/{split}.txt")),
            (true, None) => tree.files("Annotations").iter().any(|name| name.ends_with(".xml")),
            (false, Some(split)) => has(format!("annotations/instances_{split}.json")),
            (false, None) => {
                let start = "annotations/instances_";
                tree.files("annotations").iter().any(|name| name.starts_with(start))
            }
        }
    }

    /// Whether it unmistakably has label images beside images, of the split where one is named.
    pub fn has_labels(&self) -> bool {
        let tree = self.tree.as_ref().and_then(|t| t.clone().holding(&layouts::FOLDERS).ok());
        let Some(tree) = tree else { return false };
        let split = self.split.as_deref();
        let within = |folder: &str| {
            tree.has_folder(&split.map_or(folder.to_owned(), |split| format!("{folder}/{split}")))
        };
        if tree.has_folder("SegmentationClass") {
            let list = |split| tree.has_file(&format!("ImageSets/Segmentation/{split}.txt"));
            return tree.has_folder("JPEGImages") && split.is_none_or(list);
        }
        let camvid =
            |split: &str| tree.has_folder(split) && tree.has_folder(&format!("{split}annot"));
        (within("gtFine") && within("leftImg8bit"))
            || (within("masks") && within("images"))
            || split.map_or_else(|| ["train", "val", "test"].into_iter().any(camvid), camvid)
    }

    /// Annotations of objects, without those that are damaged, of which there is an error each.
    ///
    /// # Errors
    /// [`Kind::Data`](crate::Kind::Data) with file and place for what cannot be read at all, as a file
    /// that is no JSON or a split that is not there.
    pub fn objects(&self) -> Result<(Objects, Vec<Error>)> {
        let (source, split) = (&self.source, self.split.as_deref());
        let Some(tree) = &self.tree else {
            return match split {
                None => coco::read(&self.path),
                Some(split) => Err(Error::data(format!(
                    "{source}: a JSON file has no splits; expected {} without #{split}",
                    self.path.display()
                ))),
            };
        };
        let tree = tree.clone().holding(&OF_OBJECTS)?;
        let (objects, damaged) = match tree.has_folder("Annotations") {
            true => voc::read(&tree, split)?,
            false => {
                let name = annotations_of(&tree, split)?;
                coco::parts(&tree.read(&name)?, &tree.title_of(&name))?
            }
        };
        Ok((Objects { tree: Some(tree), ..objects }, damaged))
    }

    /// Label images, without those that lack their image and images that lack their labels, of which
    /// there is an error each. Pixels of label `ignore` belong to no class.
    ///
    /// # Errors
    /// [`Kind::Data`](crate::Kind::Data) for another layout.
    pub fn labels(&self, ignore: u8) -> Result<(LabelImages, Vec<Error>)> {
        match &self.tree {
            Some(tree) => LabelImages::within(tree, self.split.as_deref(), ignore),
            None => Err(Error::data(format!(
                "{}: expected a folder or an archive of label images, found a JSON file",
                self.source
            ))),
        }
    }
}

/// COCO's file of a split, or the only one.
fn annotations_of(tree: &Tree, split: Option<&str>) -> Result<String> {
    let Some(split) = split else { return tree.only_file("annotations", ".json") };
    let name = format!("annotations/instances_{split}.json");
    match tree.has_file(&name) {
        true => Ok(name),
        false => Err(Error::data(format!(
            "{}: expected the annotations of the split {split}, found {}",
            tree.title_of(&name),
            tree.files("annotations").join(", ")
        ))),
    }
}
