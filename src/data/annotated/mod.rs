//! Images with annotations: boxes and masks of objects ([`Objects`]) in COCO's JSON or Pascal VOC's
//! XML, and label images ([`LabelImages`]) in the usual layouts of folders. Each lies in a folder or
//! in a tar archive. [`ImageFiles`] are the images themselves, [`transforms`] what training does
//! to both.

mod class_names;
pub mod coco;
mod digest;
mod images;
mod json;
pub mod label_image;
mod layouts;
pub mod results;
mod root;
mod targets;
pub mod transforms;
mod tree;
pub mod voc;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

pub use self::images::ImageFiles;
pub use self::json::Id;
pub use self::label_image::LabelImage;
pub use self::layouts::{LabelImages, NO_CLASS, Predictions};
pub use self::results::{Detection, Detections};
pub use self::root::Root;
use self::root::first_damage;
pub use self::targets::ImageTargets;
use self::tree::Tree;
use super::source::head_of;
use crate::error::Result;
use crate::geometry::{BBox, Mask, Rle};

/// An image that is annotated.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageInfo {
    /// What results call it.
    pub id: Id,
    /// Height and width, where the annotations tell them.
    pub size: Option<(u32, u32)>,
    /// Its file as the annotations call it; of Pascal VOC without the ending.
    pub file: Option<String>,
}

/// A class of objects.
#[derive(Clone, Debug, PartialEq)]
pub struct Category {
    /// What results call it.
    pub id: Id,
    /// What people call it.
    pub name: String,
}

/// An object in an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Number of its image in [`Objects::images`].
    pub image: usize,
    /// Number of its class in [`Objects::categories`].
    pub class: usize,
    /// The box around it.
    pub bbox: BBox,
    /// Its pixels, in an image of the same size.
    pub mask: Option<Rle>,
    /// The polygons that the annotation says its pixels by; none where it says them otherwise.
    pub polygons: Vec<Vec<f64>>,
    /// Pixels, as the annotation says; those of the mask, or of the box, where it says nothing.
    pub area: f64,
    /// Whether it is a region of many objects.
    pub crowd: bool,
    /// Whether it need not be found.
    pub difficult: bool,
}

impl Object {
    /// Its pixels as training wants them: polygons where there are some, for they are scaled without
    /// loss.
    pub fn shape(&self) -> Option<Mask> {
        match self.polygons.is_empty() {
            true => self.mask.clone().map(Mask::Rle),
            false => Some(Mask::Polygons(self.polygons.clone())),
        }
    }
}

/// Which kind of annotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// COCO's JSON.
    Coco,
    /// Pascal VOC's XML, which has no numbers of images and classes.
    Voc,
}

/// Boxes and masks of the objects of a data set.
#[derive(Clone, Debug)]
pub struct Objects {
    /// Where they came from.
    pub title: String,
    /// Which kind they are.
    pub kind: Kind,
    /// All images in the order of their ids, also those without objects.
    pub images: Vec<ImageInfo>,
    /// All classes in the order of their ids.
    pub categories: Vec<Category>,
    /// Objects in the order of their files.
    pub objects: Vec<Object>,
    /// Where each object is annotated.
    pub places: Vec<Place>,
    /// Where they were found; none of a JSON file by itself.
    tree: Option<Tree>,
}

/// Where an object is annotated.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// COCO's.
    Annotation {
        /// Number in the list of annotations, from 0.
        number: usize,
        /// What it calls itself; nothing depends on it.
        id: Option<Id>,
    },
    /// Line of Pascal VOC's file of the image.
    Line(u32),
}

impl Objects {
    /// Reads annotations: COCO's JSON file, or a folder or archive in COCO's or Pascal VOC's layout.
    /// `PATH#NAME` names a split: `annotations/instances_NAME.json`, `ImageSets/Main/NAME.txt`.
    ///
    /// # Errors
    /// [`Kind::Data`](crate::Kind::Data) with file and place: what cannot be read, or is not what it
    /// claims to be.
    pub fn open(source: &str) -> Result<Self> {
        let objects = first_damage(Root::open(source)?.objects()?)?;
        objects.warn_of_empty();
        Ok(objects)
    }

    /// What messages call the annotation of an object.
    pub fn place(&self, object: usize) -> String {
        match &self.places[object] {
            Place::Annotation { number, id: None } => {
                format!("{}: annotations[{number}]", self.title)
            }
            Place::Annotation { number, id: Some(id) } => {
                format!("{}: annotations[{number}] (id {id})", self.title)
            }
            Place::Line(line) => {
                let image = &self.images[self.objects[object].image];
                let file = format!("Annotations/{}.xml", image.id);
                let title = self.tree.as_ref().map(|tree| tree.title_of(&file));
                format!("{}, line {line}", title.unwrap_or(file))
            }
        }
    }

    /// Numbers of the objects in each image.
    pub fn by_image(&self) -> Vec<Vec<usize>> {
        let mut of_image = vec![vec![]; self.images.len()];
        for (i, object) in self.objects.iter().enumerate() {
            of_image[object.image].push(i);
        }
        of_image
    }

    /// Numbers of the images by their ids.
    pub(super) fn image_numbers(&self) -> HashMap<&Id, usize> {
        self.images.iter().enumerate().map(|(i, image)| (&image.id, i)).collect()
    }

    /// Whether there are objects with masks.
    pub fn have_masks(&self) -> bool {
        self.objects.iter().any(|object| object.mask.is_some())
    }

    /// Warns of objects without pixels, which nothing can find.
    fn warn_of_empty(&self) {
        let mut empty = self.objects.iter().filter(|o| !o.bbox.has_area());
        if let Some(first) = empty.next() {
            tracing::warn!(
                "{}: {} objects have a box without width or height (such as one of image {}); nothing \
                 can find them",
                self.title,
                1 + empty.count(),
                self.images[first.image].id
            );
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Coco => "COCO",
            Self::Voc => "Pascal VOC",
        })
    }
}

/// Whether a path is a file in JSON, and no folder or archive.
fn is_json(path: &Path) -> Result<bool> {
    Ok(path.is_file() && head_of(path)?.trim_ascii_start().starts_with(b"{"))
}

/// What a path is called in messages.
fn title(path: &Path) -> String {
    crate::outside::printable(path).to_string()
}
