//! Where label images lie, and which labels are classes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use rayon::prelude::*;

use super::class_names::{CAMVID, CITYSCAPES, VOC};
use super::digest;
use super::label_image::LabelImage;
use super::root::{Root, first_damage};
use super::tree::Tree;
use super::voc::names_in;
use crate::data::limits::Memory;
use crate::data::source::split_fragment;
use crate::data::{Format, Image};
use crate::error::{Error, Result, nearest};

/// The label of pixels that belong to no class.
pub const NO_CLASS: u8 = 255;

/// Ends of Cityscapes' file names.
const IMAGE_END: &str = "_leftImg8bit";
const LABEL_END: &str = "_gtFine_labelIds";

/// Folders by which a layout of label images is known.
pub(super) const FOLDERS: [&str; 6] =
    ["masks", "gtFine", "SegmentationClass", "trainannot", "valannot", "testannot"];

/// An image's labels.
struct Member {
    /// Name of the image, without folder and ending.
    name: String,
    /// Its file, and that of its labels.
    image: String,
    labels: String,
}

/// Label images of a data set, in the order of their names.
pub struct LabelImages {
    tree: Tree,
    members: Vec<Member>,
    /// Names of the classes, where they are known.
    names: Option<Vec<String>>,
    /// The class of each label that files may have; [`NO_CLASS`] where it is none.
    class_of: [u8; 256],
}

/// How a layout names its files.
struct Layout {
    images: String,
    labels: String,
    /// What follows an image's name in those of its files.
    ends: (&'static str, &'static str),
    names: Option<Vec<String>>,
    class_of: [u8; 256],
    /// A list of the images, where there is one.
    list: Option<String>,
}

impl LabelImages {
    /// Opens `PATH` or `PATH#SPLIT`: `images/` and `masks/`, CamVid's `SPLIT/` and `SPLITannot/`,
    /// Cityscapes' `leftImg8bit/SPLIT/` and `gtFine/SPLIT/`, or Pascal VOC's `JPEGImages/` and
    /// `SegmentationClass/` with `ImageSets/Segmentation/SPLIT.txt`. A file `classes.txt` beside has
    /// the names of the classes, one a line. Pixels of label `ignore` belong to no class.
    ///
    /// # Errors
    /// Another layout; images without labels, labels without images.
    pub fn open(source: &str, ignore: u8) -> Result<Self> {
        first_damage(Root::open(source)?.labels(ignore)?)
    }

    /// The same in a tree, without what lacks its counterpart, of which there is an error each.
    pub(super) fn within(
        tree: &Tree,
        split: Option<&str>,
        ignore: u8,
    ) -> Result<(Self, Vec<Error>)> {
        let tree = tree.clone().holding(&FOLDERS)?;
        let mut layout = Layout::of(&tree, split)?;
        layout.class_of[usize::from(ignore)] = NO_CLASS;
        if tree.has_file("classes.txt") {
            layout.names = Some(class_names(&tree)?);
        }
        let (members, damaged) = layout.members(&tree)?;
        let all = Self { tree, members, names: layout.names, class_of: layout.class_of };
        Ok((all, damaged))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Names of the classes, where they are known.
    pub fn names(&self) -> Option<&[String]> {
        self.names.as_deref()
    }

    /// What the labels of image `i` are called in messages.
    pub fn title(&self, i: usize) -> String {
        self.tree.title_of(&self.members[i].labels)
    }

    /// The classes of image `i`'s pixels, and [`NO_CLASS`].
    ///
    /// # Errors
    /// A file that is no label image, a label that is no class.
    pub fn read(&self, i: usize) -> Result<LabelImage> {
        let mut image = read_labels(&self.tree, &self.members[i].labels)?;
        let classes = self.names.as_ref().map_or(usize::from(NO_CLASS), Vec::len);
        for at in 0..image.labels.len() {
            let label = image.labels[at];
            let class = self.class_of[usize::from(label)];
            if class != NO_CLASS && usize::from(class) >= classes {
                return Err(Error::data(format!(
                    "{}: expected labels of {classes} classes, 0 to {}, found {label} at column {}, row \
                     {}; --ignore names a label that is no class, classes.txt beside the images names \
                     the classes",
                    self.title(i),
                    classes - 1,
                    at % image.width,
                    at / image.width
                )));
            }
            image.labels[at] = class;
        }
        Ok(image)
    }
}

impl LabelImages {
    /// Bytes of image `i` and its labels.
    pub(in crate::data) fn bytes(&self, i: usize) -> u64 {
        let Member { image, labels, .. } = &self.members[i];
        self.tree.bytes(image) + self.tree.bytes(labels)
    }

    /// Name of image `i`, without folder and ending.
    pub fn name(&self, i: usize) -> &str {
        &self.members[i].name
    }

    /// Number of classes up to the greatest label, for which all labels are read.
    ///
    /// # Errors
    /// Those of [`LabelImages::read`].
    pub fn classes(&self) -> Result<usize> {
        let most = |i: usize| {
            let image = self.read(i)?;
            let labels = image.labels.into_iter().filter(|label| *label != NO_CLASS);
            Ok(labels.max().map_or(0, |label| usize::from(label) + 1))
        };
        let each: Vec<usize> = (0..self.len()).into_par_iter().map(most).collect::<Result<_>>()?;
        Ok(each.into_iter().max().unwrap_or(0))
    }

    /// The folder that holds the images, as a source of images without labels names it.
    pub fn folder(&self) -> String {
        self.tree.folder_of(self.members.iter().map(|member| member.image.as_str()))
    }

    /// Whether they are in Cityscapes' layout.
    pub fn are_cityscapes(&self) -> bool {
        self.tree.has_folder("gtFine")
    }

    /// Digest of names, images and labels, and of which labels are classes.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn digest(&self) -> Result<String> {
        let names = self.members.iter().map(|member| member.name.as_str());
        let of_image = |i: usize| {
            let Member { image, labels, .. } = &self.members[i];
            Ok([self.tree.read(image)?, self.tree.read(labels)?].concat())
        };
        let meaning = format!("{:?} {:?}", self.names, self.class_of);
        digest::of(&meaning, names, self.len(), of_image)
    }

    /// Image `i` and its labels, of the same size.
    ///
    /// # Errors
    /// Those of [`LabelImages::read`]; an image that cannot be read or has another size, unless EXIF
    /// rotates it and it has that size before.
    pub fn load(&self, i: usize) -> Result<(Image, LabelImage)> {
        let labels = self.read(i)?;
        let size = Some((labels.height as u32, labels.width as u32));
        Ok((self.tree.image(&self.members[i].image, size)?, labels))
    }
}

impl Layout {
    fn of(tree: &Tree, split: Option<&str>) -> Result<Self> {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let plain = |images: String, labels: String| Self {
            images,
            labels,
            ends: ("", ""),
            names: None,
            class_of: std::array::from_fn(|label| label as u8),
            list: None,
        };
        if tree.has_folder("gtFine") {
            let split = chosen(split, "gtFine", &tree.folders("gtFine"), tree)?;
            let mut class_of = [NO_CLASS; 256];
            for (class, (_, label)) in CITYSCAPES.iter().enumerate() {
                class_of[usize::from(*label)] = class as u8;
            }
            let names = Some(owned(&CITYSCAPES.map(|(name, _)| name)));
            let plain = plain(format!("leftImg8bit/{split}"), format!("gtFine/{split}"));
            return Ok(Self { ends: (IMAGE_END, LABEL_END), names, class_of, ..plain });
        }
        if tree.has_folder("SegmentationClass") {
            let list = split.map(|split| format!("ImageSets/Segmentation/{split}.txt"));
            let plain = plain("JPEGImages".into(), "SegmentationClass".into());
            return Ok(Self { list, names: Some(owned(&VOC)), ..plain });
        }
        if tree.has_folder("masks") {
            // A split is a folder within both.
            let within = |folder: &str| match split {
                Some(split) => format!("{folder}/{split}"),
                None => folder.to_owned(),
            };
            return Ok(plain(within("images"), within("masks")));
        }
        let folders = tree.folders("");
        let splits: Vec<String> = folders
            .iter()
            .filter_map(|name| Some(name.strip_suffix("annot")?.to_owned()))
            .collect();
        let split = chosen(split, "", &splits, tree)?;
        let mut camvid = plain(split.clone(), format!("{split}annot"));
        if !tree.has_file("classes.txt") {
            camvid.class_of[CAMVID.len()] = NO_CLASS;
            camvid.names = Some(owned(&CAMVID));
        }
        Ok(camvid)
    }

    /// Pairs images and label images by their names; an error for each that has no counterpart.
    fn members(&self, tree: &Tree) -> Result<(Vec<Member>, Vec<Error>)> {
        let images = stems(tree, &self.images, self.ends.0, Format::is_image_name)?;
        let labels = stems(tree, &self.labels, self.ends.1, |name| name.ends_with(".png"))?;
        let listed = match &self.list {
            Some(list) => Some(names_in(&tree.read(list)?, &tree.title_of(list))?),
            // Of Pascal VOC's images only some have labels.
            None if self.labels == "SegmentationClass" => Some(labels.keys().cloned().collect()),
            None => None,
        };
        let wanted: BTreeSet<String> =
            listed.unwrap_or_else(|| images.keys().chain(labels.keys()).cloned().collect());
        let missing = |what: &str, folder: &str, name: &str| {
            Error::data(format!(
                "{}: expected {what} of {name}, found none; the name is the image's",
                tree.title_of(folder)
            ))
        };
        let (mut members, mut damaged) = (Vec::new(), Vec::new());
        for name in wanted {
            match (images.get(&name).cloned(), labels.get(&name).cloned()) {
                (None, _) => damaged.push(missing("the image", &self.images, &name)),
                (_, None) => damaged.push(missing("the label image", &self.labels, &name)),
                (Some(image), Some(labels)) => members.push(Member { name, image, labels }),
            }
        }
        match members.is_empty() && damaged.is_empty() {
            false => Ok((members, damaged)),
            true => Err(Error::data(format!(
                "{}: expected label images, found none",
                tree.title_of(&self.labels)
            ))),
        }
    }
}

/// The split that is named, or the only one.
fn chosen(split: Option<&str>, folder: &str, splits: &[String], tree: &Tree) -> Result<String> {
    match split {
        Some(split) if splits.iter().any(|s| s == split) => Ok(split.to_owned()),
        None if splits.len() == 1 => Ok(splits[0].clone()),
        _ => Err(Error::data(format!(
            "{}: expected one of the splits {} after #, found {}{}",
            tree.title_of(folder),
            splits.join(", "),
            split.unwrap_or("none"),
            nearest(split.unwrap_or_default(), splits)
        ))),
    }
}

/// Files of a folder and those below it, by their names without folder and ending.
pub(super) fn stems(
    tree: &Tree,
    folder: &str,
    end: &str,
    is_one: impl Fn(&str) -> bool,
) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for file in tree.files(folder).into_iter().filter(|file| is_one(file)) {
        let base = file.rsplit('/').next().unwrap_or(&file);
        let stem = base.rsplit_once('.').map_or(base, |(stem, _)| stem);
        let Some(stem) = stem.strip_suffix(end) else { continue };
        if let Some(other) = found.insert(stem.to_owned(), file.clone()) {
            return Err(Error::data(format!(
                "{}: expected one file of each name, found {other} and {file}",
                tree.title_of(folder)
            )));
        }
    }
    Ok(found)
}

fn class_names(tree: &Tree) -> Result<Vec<String>> {
    let title = tree.title_of("classes.txt");
    let bytes = tree.read("classes.txt")?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|e| Error::data(format!("{title}: expected a text in UTF-8: {e}")))?;
    let names: Vec<String> =
        text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
    let distinct: HashSet<&String> = names.iter().collect();
    match (1..=usize::from(NO_CLASS)).contains(&names.len()) && distinct.len() == names.len() {
        true => Ok(names),
        false => Err(Error::data(format!(
            "{title}: expected 1 to {NO_CLASS} different names, one a line; found {}",
            names.len()
        ))),
    }
}

fn read_labels(tree: &Tree, file: &str) -> Result<LabelImage> {
    let limits = &Memory::of_process()?.limits;
    LabelImage::decode(&tree.read(file)?, limits).map_err(|e| e.context(tree.title_of(file)))
}

/// A folder of label images that a net or a program has made.
pub struct Predictions {
    tree: Tree,
    files: HashMap<String, String>,
}

impl Predictions {
    /// Opens a folder, or an archive, of PNGs.
    pub fn open(source: &str) -> Result<Self> {
        let (path, folder) = split_fragment(source);
        let tree = Tree::open(&path)?;
        let files =
            stems(&tree, folder.as_deref().unwrap_or(""), "", |name| name.ends_with(".png"))?;
        Ok(Self { tree, files: files.into_iter().collect() })
    }

    /// The labels predicted for image `i` of `truth`, which are classes. The file is called like the
    /// image, or like the true labels.
    ///
    /// # Errors
    /// No such file, one that is no label image.
    pub fn read(&self, truth: &LabelImages, i: usize) -> Result<(LabelImage, String)> {
        let Member { name, labels, .. } = &truth.members[i];
        let base = labels.rsplit('/').next().unwrap_or(labels).trim_end_matches(".png");
        let whole = [format!("{name}{IMAGE_END}"), name.clone(), base.to_owned()];
        let found = whole.iter().find_map(|name| self.files.get(name)).ok_or_else(|| {
            Error::data(format!(
                "{}: expected the prediction {name}.png, found none",
                self.tree.title_of("")
            ))
        })?;
        Ok((read_labels(&self.tree, found)?, self.tree.title_of(found)))
    }
}
