//! COCO's annotations of objects: one JSON file.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::hash::Hash;
use std::path::Path;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::json::{Id, Segmentation, box_of, parse as parse_json};
use super::{Category, ImageInfo, Kind, Object, Objects, Place, first_damage, title};
use crate::data::limits::{FILE_BYTES, Memory};
use crate::error::{Error, Result};
use crate::outside::read_at_most;

#[derive(Deserialize)]
struct File {
    images: Vec<FileImage>,
    #[serde(default)]
    annotations: Vec<Annotation>,
    categories: Vec<FileCategory>,
}

#[derive(Deserialize)]
struct FileImage {
    id: Id,
    file_name: Option<String>,
    width: Option<u32>,
    height: Option<u32>,
}

#[derive(Deserialize)]
struct FileCategory {
    id: Id,
    name: String,
}

/// The id of an annotation may be anything: nothing depends on it, and files exist where several have
/// the same one.
#[derive(Deserialize)]
struct Annotation {
    #[serde(default)]
    id: Value,
    image_id: Id,
    category_id: Id,
    bbox: Option<[f64; 4]>,
    segmentation: Option<Segmentation>,
    area: Option<f64>,
    #[serde(default, deserialize_with = "flag")]
    iscrowd: bool,
}

/// 0, 1, false, true or null.
fn flag<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected 0, 1, false or true")]
    enum Flag {
        Truth(bool),
        Number(u8),
    }
    Ok(match Option::<Flag>::deserialize(from)? {
        None => false,
        Some(Flag::Truth(truth)) => truth,
        Some(Flag::Number(number)) => number != 0,
    })
}

/// Reads a file; see [`parts`].
pub(super) fn read(path: &Path) -> Result<(Objects, Vec<Error>)> {
    let limit = Memory::of_process()?.limits.file_bytes;
    let bytes = read_at_most(path, limit, FILE_BYTES).map_err(|e| Error::read(path, e))?;
    parts(&bytes, &title(path))
}

/// Reads the bytes of a file that messages call `title`.
///
/// # Errors
/// With the place: annotations that are damaged.
pub fn parse(bytes: &[u8], title: &str) -> Result<Objects> {
    first_damage(parts(bytes, title)?)
}

/// The same without damaged annotations, of which there is an error each.
pub(super) fn parts(bytes: &[u8], title: &str) -> Result<(Objects, Vec<Error>)> {
    let file: File = parse_json(
        bytes,
        title,
        "COCO's annotations with the lists \"images\", \"annotations\" and \"categories\"",
    )?;
    let mut images: Vec<ImageInfo> = file
        .images
        .into_iter()
        .map(|image| ImageInfo {
            id: image.id,
            size: image.height.zip(image.width),
            file: image.file_name,
        })
        .collect();
    images.sort_by(|a, b| a.id.cmp(&b.id));
    let mut categories: Vec<Category> = file
        .categories
        .into_iter()
        .map(|category| Category { id: category.id, name: category.name })
        .collect();
    categories.sort_by(|a, b| a.id.cmp(&b.id));
    expect_distinct(title, "images have the id", images.iter().map(|image| &image.id))?;
    expect_distinct(title, "categories have the id", categories.iter().map(|c| &c.id))?;
    expect_distinct(title, "categories have the name", categories.iter().map(|c| &c.name))?;
    let mut read = Objects {
        title: title.to_owned(),
        kind: Kind::Coco,
        images,
        categories,
        objects: vec![],
        places: vec![],
        tree: None,
    };
    let mut damaged = Vec::new();
    for (place, object) in objects(&read, file.annotations) {
        match object {
            Ok(object) => {
                read.objects.push(object);
                read.places.push(place);
            }
            Err(e) => damaged.push(e),
        }
    }
    Ok((read, damaged))
}

fn objects(read: &Objects, annotations: Vec<Annotation>) -> Vec<(Place, Result<Object>)> {
    let images = read.image_numbers();
    let classes: HashMap<&Id, usize> =
        read.categories.iter().enumerate().map(|(i, c)| (&c.id, i)).collect();
    let object = |annotation: Annotation| -> Result<Object> {
        let (image, class) = (&annotation.image_id, &annotation.category_id);
        let image = *images
            .get(image)
            .ok_or_else(|| Error::data(format!("its image_id {image} is none of \"images\"")))?;
        let class = *classes.get(class).ok_or_else(|| {
            Error::data(format!("its category_id {class} is none of \"categories\""))
        })?;
        let size = read.images[image].size;
        let segmentation = annotation.segmentation;
        let mask = segmentation.as_ref().map(|s| s.mask(size)).transpose()?.flatten();
        let polygons = segmentation.map_or(vec![], Segmentation::into_polygons);
        let bbox = annotation.bbox.map(box_of).or_else(|| mask.as_ref().map(|mask| mask.bbox()));
        let bbox = bbox.ok_or_else(|| {
            Error::data(
                "expected a \"bbox\" [x, y, width, height] or a \"segmentation\", found none",
            )
        })?;
        let pixels = mask.as_ref().map_or(bbox.area(), |mask| mask.area() as f64);
        let area = annotation.area.unwrap_or(pixels);
        let crowd = annotation.iscrowd;
        Ok(Object { image, class, bbox, mask, polygons, area, crowd, difficult: false })
    };
    let numbered = annotations.into_iter().enumerate();
    let each = numbered.map(|(number, annotation)| {
        let place = Place::Annotation { number, id: id_of(&annotation.id) };
        let at = format!("{}: annotations[{number}]", read.title);
        (place, object(annotation).map_err(|e| e.context(at)))
    });
    each.collect()
}

/// What an annotation calls itself, where it is a number or a text.
fn id_of(id: &Value) -> Option<Id> {
    let text = id.as_str().map(|text| Id::Text(text.to_owned()));
    id.as_i64().map(Id::Number).or(text)
}

/// Errors: two are the same.
fn expect_distinct<T: Display + Eq + Hash>(
    title: &str,
    what: &str,
    values: impl Iterator<Item = T>,
) -> Result<()> {
    let mut met = HashSet::new();
    for value in values {
        if met.contains(&value) {
            return Err(Error::data(format!(
                "{title}: two {what} {value}; expected different ones: correct the file"
            )));
        }
        met.insert(value);
    }
    Ok(())
}
