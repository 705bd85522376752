//! Pascal VOC's annotations: an XML file for each image, and lists of images.

use std::collections::BTreeSet;

use roxmltree::{Document, Node, ParsingOptions};

use super::tree::Tree;
use super::{Category, Id, ImageInfo, Kind, Object, Objects, Place};
use crate::error::{Error, Result, nearest};
use crate::geometry::BBox;

/// Elements and texts of an XML file, at most: it has some ten of an object.
const MOST_NODES: u32 = 1 << 20;

/// Reads the annotations of a split (of all images where none is named), without those that are
/// damaged, of which there is an error each. Classes are those of all images, whatever the split, in
/// the order of their names; their ids count from 1.
pub(super) fn read(tree: &Tree, split: Option<&str>) -> Result<(Objects, Vec<Error>)> {
    let all: Vec<String> = tree
        .files("Annotations")
        .into_iter()
        .filter_map(|name| {
            Some(name.strip_prefix("Annotations/")?.strip_suffix(".xml")?.to_owned())
        })
        .collect();
    let chosen = match split {
        None => all.iter().cloned().collect(),
        Some(split) => listed(tree, split)?,
    };
    let (mut found, mut damaged) = (Vec::new(), Vec::new());
    for name in &all {
        let file = format!("Annotations/{name}.xml");
        let place = |e: Error| e.context(tree.title_of(&file));
        match tree.read(&file).and_then(|bytes| Annotation::parse(&bytes).map_err(place)) {
            Ok((annotation, errors)) => {
                found.push((name, annotation));
                damaged.extend(errors.into_iter().map(place));
            }
            Err(e) => damaged.push(e),
        }
    }
    for absent in chosen.iter().filter(|name| all.binary_search(name).is_err()) {
        damaged.push(Error::data(format!(
            "{}: expected the annotation {absent}.xml of an image in the list, found none",
            tree.title_of("Annotations")
        )));
    }
    let names: BTreeSet<&str> =
        found.iter().flat_map(|(_, a)| &a.objects).map(|object| object.name.as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let categories = names
        .iter()
        .zip(1..)
        .map(|(name, id)| Category { id: Id::Number(id), name: (*name).to_owned() })
        .collect();
    let (mut images, mut objects, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for (name, annotation) in found.iter().filter(|(name, _)| chosen.contains(*name)) {
        let image = images.len();
        let (id, file) = (Id::Text((*name).clone()), Some((*name).clone()));
        images.push(ImageInfo { id, size: annotation.size, file });
        places.extend(annotation.objects.iter().map(|object| Place::Line(object.line)));
        objects.extend(annotation.objects.iter().map(|object| Object {
            image,
            class: names.binary_search(&object.name.as_str()).unwrap_or_default(),
            bbox: object.bbox,
            mask: None,
            polygons: vec![],
            area: object.bbox.area(),
            crowd: false,
            difficult: object.difficult,
        }));
    }
    let title = tree.title_of("");
    let kind = Kind::Voc;
    Ok((Objects { title, kind, images, categories, objects, places, tree: None }, damaged))
}

/// Names of the images in a list.
fn listed(tree: &Tree, split: &str) -> Result<BTreeSet<String>> {
    let file = format!("ImageSets/Main/{split}.txt");
    if !tree.has_file(&file) {
        let lists = tree.files("ImageSets/Main");
        let lists = lists.iter().filter_map(|name| name.rsplit('/').next()?.strip_suffix(".txt"));
        return Err(Error::data(format!(
            "there is no list {}{}; expected the name of one of ImageSets/Main",
            tree.title_of(&file),
            nearest(split, lists)
        )));
    }
    names_in(&tree.read(&file)?, &tree.title_of(&file))
}

/// The first word of each line; lists of a class have a second one.
pub(super) fn names_in(bytes: &[u8], title: &str) -> Result<BTreeSet<String>> {
    let text = std::str::from_utf8(bytes)
        .map_err(|e| Error::data(format!("{title}: expected a text in UTF-8: {e}")))?;
    Ok(text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

/// One file.
struct Annotation {
    size: Option<(u32, u32)>,
    objects: Vec<Named>,
}

struct Named {
    /// Its line in the file.
    line: u32,
    name: String,
    bbox: BBox,
    difficult: bool,
}

impl Annotation {
    /// Reads a file; of each object that is damaged there is an error.
    fn parse(bytes: &[u8]) -> Result<(Self, Vec<Error>)> {
        let bad =
            |e: &dyn std::fmt::Display| Error::data(format!("expected XML of Pascal VOC: {e}"));
        let text = std::str::from_utf8(bytes).map_err(|e| bad(&e))?;
        let options = ParsingOptions { nodes_limit: MOST_NODES, ..ParsingOptions::default() };
        let document = Document::parse_with_options(text, options).map_err(|e| bad(&e))?;
        let root = document.root_element();
        if root.tag_name().name() != "annotation" {
            return Err(bad(&format!(
                "its element is <{}>, not <annotation>",
                root.tag_name().name()
            )));
        }
        let side = |name: &str| text_of(child(root, "size")?, name)?.parse().ok();
        let size = side("height").zip(side("width"));
        let (mut objects, mut damaged) = (Vec::new(), Vec::new());
        for node in root.children().filter(|node| node.has_tag_name("object")) {
            match object(node) {
                Ok(object) => objects.push(object),
                Err(e) => damaged.push(e),
            }
        }
        Ok((Self { size, objects }, damaged))
    }
}

fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|child| child.has_tag_name(name))
}

fn text_of<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    child(node, name)?.text().map(str::trim)
}

/// Only what stands directly in `<object>`: parts of people have boxes too.
fn object(node: Node) -> Result<Named> {
    let line = node.document().text_pos_at(node.range().start).row;
    let missing = |what: &str| Error::data(format!("line {line}: expected <object> with {what}"));
    let name =
        text_of(node, "name").filter(|name| !name.is_empty()).ok_or_else(|| missing("a <name>"))?;
    let corners = child(node, "bndbox").ok_or_else(|| missing("a <bndbox>"))?;
    let corner = |name: &str| {
        let text =
            text_of(corners, name).ok_or_else(|| missing(&format!("<bndbox> of <{name}>")))?;
        let number = text.parse::<f64>().ok().filter(|n| n.is_finite());
        number.ok_or_else(|| missing(&format!("a number as <{name}>, found {text:?}")))
    };
    // First and last pixels, counted from 1.
    let (x, y) = (corner("xmin")? - 1.0, corner("ymin")? - 1.0);
    let bbox = BBox { x, y, w: corner("xmax")? - x, h: corner("ymax")? - y };
    let difficult = text_of(node, "difficult").is_some_and(|text| !matches!(text, "" | "0"));
    Ok(Named { line, name: name.to_owned(), bbox, difficult })
}
