//! What training does to images and their annotations, the same to both: sizes, flips, crops and
//! colours. Every draw is a function of the seed and the image's position in the run.

mod photometric;
mod pixels;

pub use self::photometric::{Distortion, Photometric};
pub use self::pixels::{normalise_padded, resized};
use super::{LabelImage, NO_CLASS, Object, Objects};
use crate::data::{Crop, Filter, Image};
use crate::error::{Error, Result};
use crate::geometry::{BBox, Mask, Rle};
use crate::rng::{Philox, Purpose};

/// Width and height.
pub type Size = [usize; 2];

/// An object that a net learns from.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The box around it, within the image.
    pub bbox: BBox,
    /// Number of its class.
    pub class: usize,
    /// Its pixels, where annotations have them.
    pub mask: Option<Mask>,
}

/// An image with its objects.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The image.
    pub image: Image,
    /// The objects in it.
    pub targets: Vec<Target>,
}

impl Sample {
    /// An image with those of its `objects` (numbers in [`Objects::objects`]) that a net learns from:
    /// crowds are not, and of boxes only what lies within the image; difficult ones are.
    ///
    /// # Errors
    /// A mask whose size is not the image's.
    pub fn new(image: Image, all: &Objects, objects: &[usize]) -> Result<Self> {
        let size = (image.height as u32, image.width as u32);
        let target = |object: &Object| match object.mask.as_ref().map(Rle::size) {
            Some((height, width)) if (height, width) != size => Err(Error::data(format!(
                "{}: expected masks of {}x{} (height, width) in image {}, found one of {height}x{width}",
                all.title, size.0, size.1, all.images[object.image].id
            ))),
            _ => Ok(Target { bbox: object.bbox, class: object.class, mask: object.shape() }),
        };
        let objects = objects.iter().map(|&o| &all.objects[o]).filter(|object| !object.crowd);
        let mut sample = Self { image, targets: objects.map(target).collect::<Result<_>>()? };
        sample.clip();
        Ok(sample)
    }

    /// Cuts boxes off at the image's borders; objects whose box is left without width or height go.
    fn clip(&mut self) {
        let (width, height) = (self.image.width as f64, self.image.height as f64);
        self.targets.retain_mut(|Target { bbox, .. }| {
            *bbox = bbox.within(width, height);
            bbox.has_area()
        });
    }

    /// The same in another size: the image by a bilinear filter as PIL's, boxes and polygons scaled,
    /// other masks by nearest pixels.
    ///
    /// # Errors
    /// A mask whose size is not the image's.
    pub fn resize(&mut self, size: Size) -> Result<()> {
        let from = [self.image.width, self.image.height];
        if from == size {
            return Ok(());
        }
        let scale: [f64; 2] = std::array::from_fn(|i| size[i] as f64 / from[i] as f64);
        self.image = resized(&self.image, size, Filter::Bilinear);
        let [columns, rows] = std::array::from_fn(|i| nearest(from[i], size[i]));
        self.each_mask(&columns, &rows, |i, v| v * scale[i])?;
        for Target { bbox, .. } in &mut self.targets {
            let [sx, sy] = scale;
            *bbox = BBox { x: bbox.x * sx, y: bbox.y * sy, w: bbox.w * sx, h: bbox.h * sy };
        }
        Ok(())
    }

    /// Left and right change places.
    ///
    /// # Errors
    /// A mask whose size is not the image's.
    pub fn flip(&mut self) -> Result<()> {
        flip_image(&mut self.image);
        let width = self.image.width as f64;
        let columns: Vec<u32> = (0..self.image.width as u32).rev().collect();
        let rows: Vec<u32> = (0..self.image.height as u32).collect();
        self.each_mask(&columns, &rows, |i, v| if i == 0 { width - v } else { v })?;
        for Target { bbox, .. } in &mut self.targets {
            bbox.x = width - bbox.x - bbox.w;
        }
        Ok(())
    }

    /// Masks with these rows and columns, polygons with corners moved along axis 0 (x) and 1 (y).
    fn each_mask(
        &mut self,
        columns: &[u32],
        rows: &[u32],
        moved: impl Fn(usize, f64) -> f64,
    ) -> Result<()> {
        for mask in self.targets.iter_mut().filter_map(|target| target.mask.as_mut()) {
            match mask {
                Mask::Rle(rle) => *rle = rle.pick(rows, columns)?,
                Mask::Polygons(polygons) => {
                    for xy in polygons {
                        xy.iter_mut().enumerate().for_each(|(i, v)| *v = moved(i % 2, *v));
                    }
                }
            }
        }
        Ok(())
    }
}

/// The size whose shorter side is `short`, unless the longer one would exceed `longest`, which it then
/// is; both are rounded to the nearest whole number, as detectron2 does.
pub fn shortest_edge([width, height]: Size, short: usize, longest: usize) -> Size {
    let (w, h) = (width as f64, height as f64);
    let scale = short as f64 / w.min(h);
    let (mut new_w, mut new_h) =
        if h < w { (scale * w, short as f64) } else { (short as f64, scale * h) };
    if new_w.max(new_h) > longest as f64 {
        let scale = longest as f64 / new_w.max(new_h);
        (new_w, new_h) = (new_w * scale, new_h * scale);
    }
    [new_w, new_h].map(|side| ((side + 0.5) as usize).max(1))
}

/// The largest size of the image's shape whose longer side is at most the longer one of `within`, and
/// its shorter side the shorter one, rounded to the nearest whole number, as mmsegmentation does.
pub fn fitted([width, height]: Size, within: Size) -> Size {
    let (w, h) = (width as f64, height as f64);
    let [a, b] = within.map(|side| side as f64);
    let scale = (a.max(b) / w.max(h)).min(a.min(b) / w.min(h));
    [w, h].map(|side| ((side * scale + 0.5) as usize).max(1))
}

/// For each of `to` pixels which of `from` pixels is taken: ⌊i · from/to⌋, as OpenCV computes it.
pub fn nearest(from: usize, to: usize) -> Vec<u32> {
    let step = 1.0 / (to as f64 / from as f64);
    (0..to).map(|i| ((i as f64 * step) as usize).min(from - 1) as u32).collect()
}

fn flip_image(image: &mut Image) {
    for row in image.rgb.chunks_exact_mut(3 * image.width.max(1)) {
        row.as_chunks_mut::<3>().0.reverse();
    }
}

/// How images are varied on which a net learns to detect.
#[derive(Clone, Debug, PartialEq)]
pub struct DetectionViews {
    /// Lengths of the shorter side, one of which is drawn.
    pub short: Vec<usize>,
    /// The longer side, at most.
    pub longest: usize,
    /// Probability of a flip.
    pub flip_p: f32,
}

impl DetectionViews {
    /// The size of an image of size `size` at this position of the run, and whether it is flipped.
    pub fn draw(&self, size: Size, seed: u64, position: u64) -> (Size, bool) {
        let mut rng = Philox::new(seed, Purpose::Resize, position, 0);
        let short = match self.short.len() {
            0 => size[0].min(size[1]),
            n => self.short[rng.below(n)],
        };
        (shortest_edge(size, short, self.longest), rng.chance(self.flip_p))
    }

    /// Resizes and flips.
    ///
    /// # Errors
    /// A mask whose size is not the image's.
    pub fn apply(&self, sample: &mut Sample, seed: u64, position: u64) -> Result<()> {
        let size = [sample.image.width, sample.image.height];
        let (size, flip) = self.draw(size, seed, position);
        sample.resize(size)?;
        if flip { sample.flip() } else { Ok(()) }
    }
}

/// How images are varied on which a net learns to segment, in this order: size, crop, flip, colours.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentationViews {
    /// What images must fit in at scale 1, width and height.
    pub size: Size,
    /// Least and greatest scale.
    pub scale: [f32; 2],
    /// Width and height of a crop, at most.
    pub crop: Size,
    /// The share of a crop that one class may have, if it can be helped.
    pub most_of_class: f32,
    /// Probability of a flip.
    pub flip_p: f32,
    /// How colours are distorted, if they are.
    pub photometric: Option<Photometric>,
}

/// Crops that are tried until no class has too much of one.
const TRIES: usize = 10;

impl SegmentationViews {
    /// Varies an image and its labels.
    pub fn apply(
        &self,
        (image, labels): (Image, LabelImage),
        seed: u64,
        position: u64,
    ) -> (Image, LabelImage) {
        let stream = |purpose| Philox::new(seed, purpose, position, 0);
        let mut rng = stream(Purpose::Resize);
        let scale = rng.range(self.scale[0], self.scale[1]);
        let flip = rng.chance(self.flip_p);
        let from = [image.width, image.height];
        let within = self.size.map(|side| (side as f64 * f64::from(scale)) as usize);
        let size = fitted(from, within);
        let [columns, rows] = std::array::from_fn(|i| nearest(from[i], size[i]));
        let labels = labels.pick(&rows, &columns);
        let crop = self.draw_crop(&labels, &mut stream(Purpose::Crop));
        let range = |from: usize, len: usize| {
            let all = from as u32..(from + len) as u32;
            all.collect::<Vec<_>>()
        };
        let (rows, mut columns) = (range(crop.y, crop.height), range(crop.x, crop.width));
        if flip {
            columns.reverse();
        }
        let labels = labels.pick(&rows, &columns);
        let mut image = pixels::cut(&resized(&image, size, Filter::Bilinear), crop);
        if flip {
            flip_image(&mut image);
        }
        if let Some(photometric) = &self.photometric {
            photometric.draw(&mut stream(Purpose::Photometric)).apply(&mut image);
        }
        (image, labels)
    }

    /// The first of ten crops in which at least two classes are met and none has too much, else the
    /// one after them, as mmsegmentation's `RandomCrop`.
    fn draw_crop(&self, labels: &LabelImage, rng: &mut Philox) -> Crop {
        let width = self.crop[0].min(labels.width);
        let height = self.crop[1].min(labels.height);
        let mut draw = || {
            let y = rng.below(labels.height - height + 1);
            Crop { x: rng.below(labels.width - width + 1), y, width, height }
        };
        let mut crop = draw();
        for _ in 0..TRIES {
            if self.most_of_class >= 1.0 || self.is_mixed(labels, crop) {
                break;
            }
            crop = draw();
        }
        crop
    }

    fn is_mixed(&self, labels: &LabelImage, crop: Crop) -> bool {
        let mut pixels = [0u32; 256];
        for row in labels.labels.chunks_exact(labels.width).skip(crop.y).take(crop.height) {
            row[crop.x..crop.x + crop.width].iter().for_each(|&l| pixels[usize::from(l)] += 1);
        }
        pixels[usize::from(NO_CLASS)] = 0;
        let most = pixels.iter().copied().max().unwrap_or(0);
        let all: u32 = pixels.iter().sum();
        most < all && f64::from(most) < f64::from(self.most_of_class) * f64::from(all)
    }
}

#[cfg(test)]
mod tests;
