//! Scenes: several circles, squares and triangles in an image, with boxes, masks and label images, to
//! try detection and segmentation without any data.

use std::f64::consts::TAU;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use image::{GrayImage, RgbImage};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::files::{disk, write_text};
use crate::geometry::Rle;
use crate::geometry::polygon::rasterise;
use crate::rng::{Philox, Purpose};

/// Names of the classes, in the order of their numbers; label images have one more of each.
pub const CLASSES: [&str; 3] = ["circle", "square", "triangle"];
/// Corners of their polygons.
const CORNERS: [usize; 3] = [32, 4, 3];
/// Names of the splits.
const SPLITS: [&str; 2] = ["train", "test"];
/// Shapes of an image, at most, and places that are tried for each.
const SHAPES: usize = 6;
const TRIES: usize = 10;
/// Pixels of an object that must be seen, and the share of it.
const LEAST_PIXELS: u64 = 12;
const LEAST_SHARE: f64 = 0.4;
/// Probability of a crowd.
const CROWD_P: f32 = 0.15;

/// An object of a scene.
#[derive(Clone, Debug, PartialEq)]
pub struct SceneObject {
    /// Its class.
    pub class: usize,
    /// Whether it is a region of many tiny shapes.
    pub crowd: bool,
    /// The pixels that are seen.
    pub mask: Rle,
    /// Corners x, y, x, y, … of an object that nothing hides; else none.
    pub polygon: Vec<f64>,
}

/// An image with its objects.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// The image.
    pub image: RgbImage,
    /// 0, or one more than the class of each pixel.
    pub labels: GrayImage,
    /// The objects, from the back to the front.
    pub objects: Vec<SceneObject>,
}

/// How much a split holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Images.
    pub images: usize,
    /// Objects of each class, without crowds.
    pub objects: [usize; 3],
    /// Crowds.
    pub crowds: usize,
    /// Objects, of these, that others hide a part of.
    pub hidden: usize,
}

/// Writes `counts` = [training, test] scenes of `side`×`side` pixels into the new folder `dir`:
/// images in `train/` and `test/`, COCO's annotations in `annotations/instances_train.json` and
/// `instances_test.json`, label images in `trainannot/` and `testannot/`, and `classes.txt`. Every
/// scene is a function of split, number, size and seed.
///
/// # Errors
/// [`crate::Kind::Usage`] where `dir` exists and is not an empty folder; what cannot be written.
pub fn write(dir: &Path, counts: [usize; 2], side: u32, seed: u64) -> Result<[Counts; 2]> {
    let is_empty = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(_) => !dir.exists(),
    };
    if !is_empty {
        return Err(Error::usage(format!(
            "{}: expected a new or an empty folder, found one that holds something: give another name",
            dir.display()
        )));
    }
    let failed = |e| Error::write(dir, e);
    let above = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    disk::create_dir_all(above).map_err(failed)?;
    // The folder is complete or absent.
    let part = tempfile::Builder::new()
        .prefix(".shapes.")
        .suffix(".part")
        .permissions(Permissions::from_mode(0o777))
        .tempdir_in(above)
        .map_err(failed)?;
    let root = part.path();
    let names: String = CLASSES.iter().map(|class| format!("{class}\n")).collect();
    write_text(&root.join("classes.txt"), &format!("background\n{names}"))?;
    let split = |split: usize| write_split(root, split, counts[split], (side, seed));
    let found = [split(0)?, split(1)?];
    disk::rename(root, dir).map_err(failed)?;
    // Nothing is left under the old name.
    let _ = part.keep();
    Ok(found)
}

fn write_split(
    root: &Path,
    split: usize,
    count: usize,
    (side, seed): (u32, u64),
) -> Result<Counts> {
    let name = SPLITS[split];
    let (images, labels) = (root.join(name), root.join(format!("{name}annot")));
    for folder in [&images, &labels, &root.join("annotations")] {
        disk::create_dir_all(folder).map_err(|e| Error::write(folder, e))?;
    }
    let file = |i: usize| format!("{i:05}.png");
    let one = |i: usize| -> Result<Vec<SceneObject>> {
        let scene = draw(split, i, side, seed)?;
        let (image, label) = (images.join(file(i)), labels.join(file(i)));
        scene.image.save(&image).map_err(|e| Error::write(&image, e))?;
        scene.labels.save(&label).map_err(|e| Error::write(&label, e))?;
        Ok(scene.objects)
    };
    let scenes = (0..count).into_par_iter().map(one).collect::<Result<Vec<_>>>()?;
    let image =
        |i: usize| json!({"id": i + 1, "file_name": file(i), "width": side, "height": side});
    let objects = || scenes.iter().enumerate().flat_map(|(i, s)| s.iter().map(move |o| (i, o)));
    let annotations = objects().enumerate().map(|(n, (i, object))| annotation(n, i, object));
    let category = |(class, name): (usize, &&str)| json!({"id": class + 1, "name": name});
    let whole = json!({
        "images": (0..count).map(image).collect::<Vec<_>>(),
        "annotations": annotations.collect::<Vec<_>>(),
        "categories": CLASSES.iter().enumerate().map(category).collect::<Vec<_>>(),
    });
    let path = root.join(format!("annotations/instances_{name}.json"));
    write_text(&path, &format!("{whole}\n"))?;
    let mut counts = Counts { images: count, ..Counts::default() };
    for (_, object) in objects() {
        match object.crowd {
            true => counts.crowds += 1,
            false => counts.objects[object.class] += 1,
        }
        counts.hidden += usize::from(!object.crowd && object.polygon.is_empty());
    }
    Ok(counts)
}

/// Polygons of objects that are wholly seen, run lengths of the others.
fn annotation(n: usize, image: usize, object: &SceneObject) -> Value {
    let bbox = object.mask.bbox();
    let (height, width) = object.mask.size();
    let segmentation = match object.polygon.is_empty() {
        true => json!({"size": [height, width], "counts": object.mask.counts()}),
        false => json!([object.polygon]),
    };
    json!({
        "id": n + 1,
        "image_id": image + 1,
        "category_id": object.class + 1,
        "bbox": [bbox.x, bbox.y, bbox.w, bbox.h],
        "area": object.mask.area(),
        "segmentation": segmentation,
        "iscrowd": u8::from(object.crowd),
    })
}

/// Scene `i` of a split (0: training, 1: test).
///
/// # Errors
/// A side that no mask has.
pub fn draw(split: usize, i: usize, side: u32, seed: u64) -> Result<Scene> {
    // Domains have the streams before these.
    let mut rng = Philox::new(seed, Purpose::Synthetic, i as u64, 0x100 | split as u16);
    let mut canvas = Canvas::new(side);
    if rng.chance(CROWD_P) {
        canvas.add_crowd(&mut rng)?;
    }
    for _ in 0..1 + rng.below(SHAPES) {
        canvas.add_shape(&mut rng)?;
    }
    canvas.finish(&mut rng)
}

/// An object while others may still hide it.
struct Placed {
    class: usize,
    /// One, or those of a crowd.
    polygons: Vec<Vec<f64>>,
    pixels: u64,
    seen: u64,
}

struct Canvas {
    side: u32,
    /// Which object is seen at each pixel, from 1 on, down the columns; 0 is the ground.
    seen: Vec<usize>,
    objects: Vec<Placed>,
}

impl Canvas {
    fn new(side: u32) -> Self {
        Self { side, seen: vec![0; side as usize * side as usize], objects: vec![] }
    }

    /// The polygon of a class around a point, all in shares of the side.
    fn polygon(&self, class: usize, centre: [f32; 2], radius: f32, rng: &mut Philox) -> Vec<f64> {
        let turn = f64::from(rng.uniform()) * TAU;
        let corners = CORNERS[class];
        let corner = |i: usize| {
            let angle = turn + TAU * i as f64 / corners as f64;
            let ([x, y], radius) = (centre.map(f64::from), f64::from(radius));
            [x + radius * angle.cos(), y + radius * angle.sin()]
        };
        let hundredths = |v: f64| (v * f64::from(self.side) * 100.0).round() / 100.0;
        (0..corners).flat_map(corner).map(hundredths).collect()
    }

    /// Adds a shape where it is seen and leaves enough of the others to see; none if there is no such
    /// place.
    fn add_shape(&mut self, rng: &mut Philox) -> Result<()> {
        let class = rng.below(CLASSES.len());
        for _ in 0..TRIES {
            // Small ones are as frequent as large ones. A triangle of the same radius is smaller.
            let radius = 0.06 * (rng.uniform() * (0.27f32 / 0.06).ln()).exp();
            let radius = if CORNERS[class] == 3 { 1.25 * radius } else { radius };
            let centre = [rng.range(0.06, 0.94), rng.range(0.06, 0.94)];
            let polygon = self.polygon(class, centre, radius, rng);
            if self.place(class, vec![polygon])? {
                break;
            }
        }
        Ok(())
    }

    /// Adds a region of many tiny shapes of a class.
    fn add_crowd(&mut self, rng: &mut Philox) -> Result<()> {
        let class = rng.below(CLASSES.len());
        let centre = [rng.range(0.25, 0.75), rng.range(0.25, 0.75)];
        let around = |rng: &mut Philox| {
            let radius = rng.range(0.02, 0.035);
            let centre = centre.map(|v| v + rng.range(-0.2, 0.2));
            (centre, radius)
        };
        let polygons = (0..12 + rng.below(12))
            .map(|_| {
                let (centre, radius) = around(rng);
                self.polygon(class, centre, radius, rng)
            })
            .collect();
        self.place(class, polygons).map(|_| ())
    }

    /// Puts polygons in front of all others, unless that hides too much of them or there is too little
    /// to see; says whether it did.
    fn place(&mut self, class: usize, polygons: Vec<Vec<f64>>) -> Result<bool> {
        let parts = polygons.iter().map(|xy| rasterise(xy, self.side, self.side));
        let Some(mask) = Rle::union(&parts.collect::<Result<Vec<_>>>()?) else { return Ok(false) };
        let pixels = || mask.runs().flat_map(|(from, end)| from as usize..end as usize);
        let mut left: Vec<u64> = self.objects.iter().map(|object| object.seen).collect();
        pixels().filter_map(|at| self.seen[at].checked_sub(1)).for_each(|o| left[o] -= 1);
        let enough =
            |seen: u64, of: u64| seen >= LEAST_PIXELS && seen as f64 >= LEAST_SHARE * of as f64;
        let all = self.objects.iter().zip(&left).all(|(object, &left)| enough(left, object.pixels));
        if !all || mask.area() < LEAST_PIXELS {
            return Ok(false);
        }
        self.objects.iter_mut().zip(left).for_each(|(object, left)| object.seen = left);
        let area = mask.area();
        self.objects.push(Placed { class, polygons, pixels: area, seen: area });
        let number = self.objects.len();
        pixels().for_each(|at| self.seen[at] = number);
        Ok(true)
    }

    /// Colours, which know nothing of classes, and masks of what is seen.
    fn finish(self, rng: &mut Philox) -> Result<Scene> {
        let Self { side, seen, objects } = self;
        let ground = colour(rng);
        let mut colours = vec![ground];
        for _ in &objects {
            let apart = |c: &[f32; 3]| (0..3).map(|i| (c[i] - ground[i]).abs()).sum::<f32>() > 0.5;
            let tries: [[f32; 3]; TRIES] = std::array::from_fn(|_| colour(rng));
            let inverse = ground.map(|v| if v < 0.5 { v + 0.4 } else { v - 0.4 });
            colours.push(tries.into_iter().find(apart).unwrap_or(inverse));
        }
        let at = |x: u32, y: u32| seen[x as usize * side as usize + y as usize];
        // Light from one side, and noise.
        let light = [rng.range(-0.15, 0.15), rng.range(-0.15, 0.15)];
        let noise = rng.range(0.01, 0.04);
        let image = RgbImage::from_fn(side, side, |x, y| {
            let share = [x, y].map(|v| v as f32 / side as f32 - 0.5);
            let light = 1.0 + 2.0 * (light[0] * share[0] + light[1] * share[1]);
            let value = |v: f32| v * light + noise * rng.normal();
            let colour = colours[at(x, y)].map(value);
            image::Rgb(colour.map(|v| (v.clamp(0.0, 1.0) * 255.0 + 0.5) as u8))
        });
        let class = |number: usize| number.checked_sub(1).map_or(0, |o| objects[o].class as u8 + 1);
        let labels = GrayImage::from_fn(side, side, |x, y| image::Luma([class(at(x, y))]));
        let object = |(o, placed): (usize, &Placed)| {
            let mask = Rle::of_pixels(side, side, |y, x| at(x, y) == o + 1)?;
            let crowd = placed.polygons.len() > 1;
            let whole = !crowd && placed.seen == placed.pixels;
            let polygon = if whole { placed.polygons[0].clone() } else { vec![] };
            Ok(SceneObject { class: placed.class, crowd, mask, polygon })
        };
        let objects = objects.iter().enumerate().map(object).collect::<Result<_>>()?;
        Ok(Scene { image, labels, objects })
    }
}

fn colour(rng: &mut Philox) -> [f32; 3] {
    std::array::from_fn(|_| rng.range(0.08, 0.92))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_labels_and_polygons_agree() {
        let (mut shapes, mut hidden, mut crowds, mut classes) = (0, 0, 0, [0; 3]);
        for i in 0..100 {
            let scene = draw(0, i, 64, 1).unwrap();
            assert_eq!(scene, draw(0, i, 64, 1).unwrap());
            let mut labels = vec![0; 64 * 64];
            for object in &scene.objects {
                for at in object.mask.runs().flat_map(|(from, end)| from..end) {
                    let label = &mut labels[(at % 64 * 64 + at / 64) as usize];
                    assert_eq!(std::mem::replace(label, object.class as u8 + 1), 0);
                }
                assert!(object.mask.area() >= LEAST_PIXELS);
                if !object.polygon.is_empty() {
                    assert_eq!(rasterise(&object.polygon, 64, 64).unwrap(), object.mask);
                }
                crowds += usize::from(object.crowd);
                hidden += usize::from(!object.crowd && object.polygon.is_empty());
                shapes += usize::from(!object.crowd);
                classes[object.class] += 1;
            }
            assert_eq!(scene.labels.as_raw(), &labels);
            assert!((1..=SHAPES + 1).contains(&scene.objects.len()));
        }
        assert!((250..450).contains(&shapes), "{shapes}");
        assert!(hidden > 40 && (5..30).contains(&crowds), "{hidden} {crowds}");
        assert!(classes.iter().all(|c| *c > 60), "{classes:?}");
        let other = [draw(1, 0, 64, 1), draw(0, 1, 64, 1), draw(0, 0, 64, 2)];
        let first = draw(0, 0, 64, 1).unwrap();
        assert!(other.into_iter().all(|scene| scene.unwrap().image != first.image));
    }

    /// Classes are as bright as each other on average, within what chance makes of so many objects.
    #[test]
    fn colours_know_nothing_of_classes() {
        let (mut sums, mut counts) = ([0.0; 3], [0.0; 3]);
        for i in 0..150 {
            let scene = draw(0, i, 32, 4).unwrap();
            for object in &scene.objects {
                let pixels = object.mask.runs().flat_map(|(from, end)| from..end);
                let grey = |at: u32| {
                    let rgb = scene.image.get_pixel(at / 32, at % 32).0;
                    rgb.map(f64::from).iter().sum::<f64>() / 3.0
                };
                sums[object.class] += pixels.map(grey).sum::<f64>() / object.mask.area() as f64;
                counts[object.class] += 1.0;
            }
        }
        let means: Vec<f64> = sums.iter().zip(counts).map(|(sum, count)| sum / count).collect();
        // The deviation of one is some 36, that of the mean of a hundred 3.6.
        let [a, b, c] = means[..] else { panic!() };
        assert!((a - b).abs() < 15.0 && (a - c).abs() < 15.0 && (b - c).abs() < 15.0, "{means:?}");
        assert!(counts.iter().all(|count| *count > 100.0), "{counts:?}");
    }
}
