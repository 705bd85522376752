//! What annotations of objects hold: what is damaged, what training leaves out, and how large objects
//! are.

use serde::Serialize;

use super::{Extent, each};
use crate::data::annotated::transforms::{Sample, Size};
use crate::data::annotated::{ImageFiles, Object, Objects, Root};
use crate::error::{Error, Result};
use crate::geometry::BBox;

/// Sizes of objects as COCO's metric tells them apart: up to 32² pixels, up to 96², and larger.
pub const SIZES: [&str; 3] = ["small", "medium", "large"];
/// The least area of medium and large objects.
const LEAST_AREAS: [f64; 2] = [32.0 * 32.0, 96.0 * 96.0];

/// Boxes that reach less far out of their image are not cut off: annotations are rounded.
const ROUNDING: f64 = 0.01;

/// What annotations of objects hold.
#[derive(Debug, Serialize)]
pub struct ObjectSurvey {
    /// Where they were opened from.
    pub source: String,
    /// `COCO` or `Pascal VOC`.
    pub annotations: String,
    /// Images that are annotated.
    pub images: usize,
    /// Those whose files were opened: all, or a sample spread evenly.
    pub read: usize,
    /// What is damaged, with its place.
    pub damaged: Vec<String>,
    /// Objects that are not damaged, crowds and difficult ones included.
    pub objects: usize,
    /// Regions of many objects, which training leaves out.
    pub crowds: usize,
    /// Objects that need not be found.
    pub difficult: usize,
    /// Objects that have a mask.
    pub masks: usize,
    /// Images without an object that is no crowd: training leaves them out.
    pub images_without_objects: usize,
    /// Objects of an image that are no crowds, at most.
    pub most_objects: usize,
    /// Each image's objects that are no crowds.
    #[serde(skip)]
    pub objects_of: Vec<usize>,
    /// Of each class, in the classes' order.
    pub classes: Vec<ClassObjects>,
    /// Objects that training leaves out, as nothing of their box lies in the image.
    pub dropped: Vec<Dropped>,
    /// Boxes that reach out of their image, and are cut off at its borders.
    pub clipped: usize,
    /// Small, medium and large objects, and all of them, without crowds and what is dropped.
    pub sizes: Vec<SizeGroup>,
    /// What a net learns from, of each image.
    #[serde(skip)]
    pub kept: Vec<Kept>,
}

/// Objects of a class.
#[derive(Clone, Debug, Serialize)]
pub struct ClassObjects {
    /// Its name.
    pub class: String,
    /// Its objects.
    pub objects: usize,
    /// Images that have one.
    pub images: usize,
    /// Those that are crowds.
    pub crowds: usize,
    /// Those that need not be found.
    pub difficult: usize,
}

/// An object that training leaves out.
#[derive(Clone, Debug, Serialize)]
pub struct Dropped {
    /// Its annotation.
    pub place: String,
    /// File of its image, as annotations call it.
    pub image: String,
    /// Its box: left, upper, width and height.
    pub bbox: [f64; 4],
    /// Why.
    pub reason: String,
}

/// Objects of similar size. Of lengths in pixels and of ratios the least, the median and the greatest.
#[derive(Clone, Debug, Serialize)]
pub struct SizeGroup {
    /// `small`, `medium`, `large` or `all`.
    pub size: &'static str,
    /// How many.
    pub objects: usize,
    /// Their boxes' shorter sides.
    pub shorter_side: Option<[f64; 3]>,
    /// Their longer sides.
    pub longer_side: Option<[f64; 3]>,
    /// Width over height.
    pub aspect: Option<[f64; 3]>,
}

/// Boxes of an image that a net learns from.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// Width and height of the image; none where neither its annotation nor its file was read.
    pub size: Option<Size>,
    /// Boxes within the image, each with the number of its size among [`SIZES`].
    pub boxes: Vec<(BBox, usize)>,
}

/// Looks at annotations, at where their images lie (in the folder `images`, where one is named), and at
/// as many of these as `extent` says. The result does not depend on the number of threads.
///
/// # Errors
/// What cannot be read at all, and images none of which is found.
pub fn survey(
    source: &str,
    root: &Root,
    images: Option<&str>,
    extent: Extent,
    progress: impl FnMut(usize, usize),
) -> Result<ObjectSurvey> {
    let (all, damaged) = root.objects()?;
    let files = ImageFiles::look_for(&all, source, images)?;
    let of_image = all.by_image();
    let (mut there, mut damaged) = (Vec::new(), damaged.iter().map(Error::to_string).collect());
    for i in 0..files.len() {
        match files.missing(i) {
            Some(e) => Vec::push(&mut damaged, e.to_string()),
            None => there.push(i),
        }
    }
    let chosen = extent.of_sizes(there.len(), |k| files.bytes(there[k]));
    let chosen: Vec<usize> = chosen.into_iter().map(|k| there[k]).collect();
    let annotated = |i: usize| all.images[i].size.map(|(h, w)| [w as usize, h as usize]);
    let mut sizes: Vec<Option<Size>> = (0..files.len()).map(annotated).collect();
    let look = |i: usize| -> Result<Size> {
        let image = files.load(i)?;
        let size = [image.width, image.height];
        // Masks must have the size of the image, which annotations may not tell.
        Sample::new(image, &all, &of_image[i]).map(|_| size)
    };
    for (&i, found) in chosen.iter().zip(each(&chosen, progress, look)?) {
        match found {
            Ok(size) => sizes[i] = Some(size),
            Err(e) => damaged.push(e.to_string()),
        }
    }
    let mut survey = counted(source, &all, &of_image);
    (survey.read, survey.damaged) = (chosen.len(), damaged);
    place(&mut survey, &all, &sizes);
    survey.sizes = groups(&survey.kept);
    Ok(survey)
}

/// What annotations alone say.
fn counted(source: &str, all: &Objects, of_image: &[Vec<usize>]) -> ObjectSurvey {
    let count = |is: fn(&Object) -> bool| all.objects.iter().filter(|object| is(object)).count();
    let class = |c: &crate::data::annotated::Category| ClassObjects {
        class: c.name.clone(),
        objects: 0,
        images: 0,
        crowds: 0,
        difficult: 0,
    };
    let mut classes: Vec<ClassObjects> = all.categories.iter().map(class).collect();
    for numbers in of_image {
        let mut met = vec![false; classes.len()];
        for object in numbers.iter().map(|&o| &all.objects[o]) {
            let class = &mut classes[object.class];
            class.objects += 1;
            class.crowds += usize::from(object.crowd);
            class.difficult += usize::from(object.difficult);
            class.images += usize::from(!std::mem::replace(&mut met[object.class], true));
        }
    }
    let single = |numbers: &Vec<usize>| numbers.iter().filter(|&&o| !all.objects[o].crowd).count();
    let objects_of: Vec<usize> = of_image.iter().map(single).collect();
    ObjectSurvey {
        source: source.to_owned(),
        annotations: all.kind.to_string(),
        images: all.images.len(),
        read: 0,
        damaged: Vec::new(),
        objects: all.objects.len(),
        crowds: count(|object| object.crowd),
        difficult: count(|object| object.difficult),
        masks: count(|object| object.mask.is_some()),
        images_without_objects: objects_of.iter().filter(|&&n| n == 0).count(),
        most_objects: objects_of.iter().copied().max().unwrap_or(0),
        objects_of,
        classes,
        dropped: Vec::new(),
        clipped: 0,
        sizes: Vec::new(),
        kept: Vec::new(),
    }
}

/// Finds for each object what of its box lies in the image.
fn place(survey: &mut ObjectSurvey, all: &Objects, sizes: &[Option<Size>]) {
    survey.kept = sizes.iter().map(|size| Kept { size: *size, boxes: Vec::new() }).collect();
    for (o, object) in all.objects.iter().enumerate().filter(|(_, object)| !object.crowd) {
        let BBox { x, y, w, h } = object.bbox;
        let mut drop = |reason: String| {
            let image = &all.images[object.image];
            let file = image.file.clone().unwrap_or_else(|| image.id.to_string());
            let place = all.place(o);
            survey.dropped.push(Dropped { place, image: file, bbox: [x, y, w, h], reason });
        };
        if !object.bbox.has_area() {
            drop(format!("a box of {w}x{h}"));
            continue;
        }
        let mut bbox = object.bbox;
        if let Some([width, height]) = sizes[object.image] {
            bbox = bbox.within(width as f64, height as f64);
            if !bbox.has_area() {
                drop(format!("outside of its image of {width}x{height}"));
                continue;
            }
            let cut = (w - bbox.w).max(h - bbox.h);
            survey.clipped += usize::from(cut > ROUNDING);
        }
        let size = LEAST_AREAS.iter().filter(|least| object.area >= **least).count();
        survey.kept[object.image].boxes.push((bbox, size));
    }
}

/// How large the boxes of each size are, and those of all together.
fn groups(kept: &[Kept]) -> Vec<SizeGroup> {
    let group = |name: &'static str, is_of: &dyn Fn(usize) -> bool| {
        let boxes = || kept.iter().flat_map(|kept| &kept.boxes).filter(|(_, size)| is_of(*size));
        let spread = |of: fn(&BBox) -> f64| {
            let mut values: Vec<f64> = boxes().map(|(bbox, _)| of(bbox)).collect();
            values.sort_by(f64::total_cmp);
            Some([*values.first()?, values[values.len() / 2], *values.last()?])
        };
        SizeGroup {
            size: name,
            objects: boxes().count(),
            shorter_side: spread(|b| b.w.min(b.h)),
            longer_side: spread(|b| b.w.max(b.h)),
            aspect: spread(|b| b.w / b.h),
        }
    };
    let each = SIZES.iter().enumerate().map(|(s, name)| group(name, &move |size| size == s));
    each.chain([group("all", &|_| true)]).collect()
}
