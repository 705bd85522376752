//! COCO's results: what a detector found, one JSON list.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::json::{Id, Segmentation, box_of, parse as parse_json};
use super::{Kind, Objects, title};
use crate::data::limits::{FILE_BYTES, Memory};
use crate::error::{Error, Result, nearest};
use crate::files;
use crate::geometry::{BBox, Rle};
use crate::outside::read_at_most;

/// An object that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Detection {
    /// Number of its image.
    pub image: usize,
    /// Number of its class.
    pub class: usize,
    /// How sure the detector is.
    pub score: f64,
    /// Its box; that of its mask where the file has none.
    pub bbox: BBox,
    /// Its pixels.
    pub mask: Option<Rle>,
    /// Pixels: of the box where the file has one (also of objects with masks, as COCO's own code
    /// does), else of the mask.
    pub area: f64,
}

/// What a file of results holds, in its order.
#[derive(Clone, Debug)]
pub struct Detections {
    /// The objects.
    pub all: Vec<Detection>,
    /// Whether all have masks; else none has.
    pub masks: bool,
}

#[derive(Deserialize)]
struct Entry {
    image_id: Id,
    category_id: Id,
    score: f64,
    bbox: Option<[f64; 4]>,
    segmentation: Option<Segmentation>,
}

/// Writes results on the images of `truth` into a file.
///
/// # Errors
/// A file that cannot be written.
pub fn write(path: &Path, truth: &Objects, found: &Detections) -> Result<()> {
    let entry = |found: &Detection| {
        let BBox { x, y, w, h } = found.bbox;
        let mut entry = json!({
            "image_id": truth.images[found.image].id,
            "category_id": truth.categories[found.class].id,
            "score": found.score,
            "bbox": [x, y, w, h],
        });
        if let Some(mask) = &found.mask {
            let (height, width) = mask.size();
            entry["segmentation"] = json!({ "size": [height, width], "counts": mask.to_text() });
        }
        entry
    };
    let all: Vec<Value> = found.all.iter().map(entry).collect();
    let text = serde_json::to_string(&all).map_err(|e| Error::data(e.to_string()))?;
    files::write_text(path, &text)
}

/// Reads results on the images of `truth`.
///
/// # Errors
/// [`Kind::Data`](crate::Kind::Data) with file and place: what is no such list; images and classes
/// that are not annotated; masks or boxes of some results only.
pub fn read(path: &Path, truth: &Objects) -> Result<Detections> {
    let limit = Memory::of_process()?.limits.file_bytes;
    let bytes = read_at_most(path, limit, FILE_BYTES).map_err(|e| Error::read(path, e))?;
    parse(&bytes, &title(path), truth)
}

/// Reads the bytes of a file that messages call `title`.
pub fn parse(bytes: &[u8], title: &str, truth: &Objects) -> Result<Detections> {
    const WHAT: &str = "COCO's results, a list of {\"image_id\", \"category_id\", \"score\", \"bbox\" \
                        or \"segmentation\"}";
    let entries: Vec<Entry> = parse_json(bytes, title, WHAT)?;
    let has = |entry: &Entry| (entry.bbox.is_some(), entry.segmentation.is_some());
    let Some(first) = entries.first().map(has) else {
        return Ok(Detections { all: vec![], masks: false });
    };
    let names = Names::of(truth);
    let mut all = Vec::with_capacity(entries.len());
    for (n, entry) in entries.into_iter().enumerate() {
        let found = match has(&entry) == first {
            true => names.detection(entry),
            false => Err(Error::data(
                "expected the keys \"bbox\" and \"segmentation\" that the first result has, found \
                 others; give boxes, or masks, of all results",
            )),
        };
        all.push(found.map_err(|e| e.context(format!("{title}: [{n}]")))?);
    }
    Ok(Detections { all, masks: first.1 })
}

/// What results call images and classes.
struct Names<'a> {
    truth: &'a Objects,
    images: HashMap<&'a Id, usize>,
    classes: HashMap<Id, usize>,
}

impl<'a> Names<'a> {
    fn of(truth: &'a Objects) -> Self {
        let mut classes: HashMap<Id, usize> = HashMap::new();
        for (i, category) in truth.categories.iter().enumerate() {
            classes.insert(category.id.clone(), i);
            if truth.kind == Kind::Voc {
                // Its classes are called by their names.
                classes.insert(Id::Text(category.name.clone()), i);
            }
        }
        Self { truth, images: truth.image_numbers(), classes }
    }

    fn image(&self, id: &Id) -> Result<usize> {
        let number = || match id {
            // Zeros in front, as in 000012, are lost in numbers.
            Id::Number(n) if self.truth.kind == Kind::Voc => {
                self.images.get(&Id::Text(format!("{n:06}"))).copied()
            }
            _ => None,
        };
        self.images.get(id).copied().or_else(number).ok_or_else(|| {
            Error::data(format!(
                "expected the image_id of an image in {}, found {id}",
                self.truth.title
            ))
        })
    }

    fn class(&self, id: &Id) -> Result<usize> {
        self.classes.get(id).copied().ok_or_else(|| {
            let ids = self.classes.keys().map(ToString::to_string);
            Error::data(format!(
                "expected the category_id of a class in {}, found {id}{}",
                self.truth.title,
                nearest(&id.to_string(), ids)
            ))
        })
    }

    fn detection(&self, entry: Entry) -> Result<Detection> {
        let (image, class) = (self.image(&entry.image_id)?, self.class(&entry.category_id)?);
        let size = self.truth.images[image].size;
        let given = entry.bbox.map(box_of);
        let mask = match entry.segmentation {
            Some(segmentation) => Some(segmentation.mask(size)?.ok_or_else(|| {
                Error::data(
                    "expected a mask in \"segmentation\", found no polygon of three corners",
                )
            })?),
            None => None,
        };
        let bbox = given.or_else(|| mask.as_ref().map(Rle::bbox)).ok_or_else(|| {
            Error::data(
                "expected a \"bbox\" [x, y, width, height] or a \"segmentation\", found none",
            )
        })?;
        let pixels = mask.as_ref().map_or(0.0, |mask| mask.area() as f64);
        let area = given.map_or(pixels, |bbox| bbox.area());
        Ok(Detection { image, class, score: entry.score, bbox, mask, area })
    }
}
