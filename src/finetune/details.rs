//! What a test on annotated images looks like, beside its numbers: the classes, precision against
//! recall, and the worst and the best images with what is true and what was found. A file of it stands
//! in the run's folder beside each result, in `eval/details`; the report shows it.

use std::cmp::Ordering;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::overlay;
use crate::config::Task;
use crate::data::annotated::{Detection, LabelImage, NO_CLASS};
use crate::data::{Image, photo};
use crate::error::Result;
use crate::eval::record::Net;
use crate::files;
use crate::geometry::{BBox, Rle};

/// Images that are shown: the worst, and the best.
const WORST: usize = 6;
const BEST: usize = 3;

/// The content of a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Details {
    /// What the net does.
    pub task: Task,
    /// Which net.
    pub arch: String,
    /// Training step of its weights.
    pub step: u64,
    /// Sources of the images.
    pub data: Vec<String>,
    /// The mean intersection over union, or AP, of the result that this belongs to.
    pub score: f64,
    /// The classes in the order of the net's.
    pub classes: Vec<Class>,
    /// Of pixels: true class, class that was said, and how many pixels; pairs without any are left
    /// out.
    pub confusion: Vec<(usize, usize, u64)>,
    /// How each image went.
    pub images: Vec<Verdict>,
    /// The worst images, the worst first.
    pub worst: Vec<Example>,
    /// The best, the best first.
    pub best: Vec<Example>,
}

/// How well a class is told.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Class {
    /// What it is called.
    pub name: String,
    /// Its true pixels or objects.
    pub count: u64,
    /// Intersection over union and accuracy of pixels, or AP, AP50 and AP75 of boxes; −1 where one is
    /// not defined.
    pub numbers: Vec<f64>,
    /// AP, AP50 and AP75 of masks, where there are masks.
    pub masks: Option<[f64; 3]>,
    /// Precision of boxes at COCO's 101 steps of recall, at the overlaps .5 and .75; none of a class
    /// without objects.
    pub curves: Option<[Vec<f64>; 2]>,
}

/// How an image went.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Verdict {
    /// The mean intersection over union of the classes that are true or said in it; −1 where no pixel
    /// counts.
    Pixels(f64),
    /// Objects that were found, that were missed, and that are none
    /// ([`mistakes`](crate::eval::dense::mistakes)).
    Objects([usize; 3]),
}

/// An image with what is true and what was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Example {
    /// Its name.
    pub name: String,
    /// How it went.
    pub verdict: Verdict,
    /// The image as an address that holds it.
    pub image: String,
    /// Width and height of that.
    pub size: [u32; 2],
    /// What is true.
    pub truth: Layer,
    /// What was found.
    pub found: Layer,
}

/// What lies over an image.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Layer {
    /// Pixels in the colours of their classes, half transparent, as an address that holds them.
    pub pixels: Option<String>,
    /// Objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<Outlined>,
}

/// An object that is drawn as a box.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outlined {
    /// Its class.
    pub class: usize,
    /// How sure the net is of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
    /// Left, top, width and height in pixels of the shown image.
    pub bbox: [f32; 4],
    /// Whether it was found, or finds an object; none where it counts nowhere.
    pub is_right: Option<bool>,
}

impl Verdict {
    /// The worse first; of as many mistakes the one with fewer objects found.
    fn worse(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Pixels(a), Self::Pixels(b)) => a.total_cmp(b),
            (Self::Objects([a, ..]), Self::Objects([b, ..])) => {
                other.mistakes().cmp(&self.mistakes()).then(a.cmp(b))
            }
            _ => Ordering::Equal,
        }
    }

    /// Objects that were missed or are none.
    pub fn mistakes(&self) -> usize {
        match self {
            Self::Pixels(_) => 0,
            Self::Objects([_, missed, wrong]) => missed + wrong,
        }
    }

    fn is_defined(&self) -> bool {
        !matches!(self, Self::Pixels(share) if *share < 0.0)
    }
}

/// The images to show, the worst and the best.
fn chosen(verdicts: &[Verdict]) -> [Vec<usize>; 2] {
    let mut order: Vec<usize> = (0..verdicts.len()).filter(|&i| verdicts[i].is_defined()).collect();
    order.sort_by(|&a, &b| verdicts[a].worse(&verdicts[b]));
    let best = order.split_off(WORST.min(order.len()));
    [order, best.into_iter().rev().take(BEST).collect()]
}

impl Details {
    /// Of a net whose test on `data` gave `score`, with each image's verdict; `example` draws an image.
    ///
    /// # Errors
    /// Those of `example`.
    pub(super) fn new(
        task: Task,
        net: &Net,
        (data, score): (&[String], f64),
        classes: Vec<Class>,
        images: Vec<Verdict>,
        example: impl FnMut(usize) -> Result<Example>,
    ) -> Result<Self> {
        let [worst, best] = chosen(&images);
        let count = worst.len();
        let mut all: Vec<Example> =
            worst.into_iter().chain(best).map(example).collect::<Result<_>>()?;
        let best = all.split_off(count);
        Ok(Self {
            task,
            arch: net.arch.to_string(),
            step: net.step,
            data: data.to_vec(),
            score,
            classes,
            confusion: Vec::new(),
            images,
            worst: all,
            best,
        })
    }

    /// Writes the file that belongs to the result `name`, such as `seg-….json`, of a run.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&self, run: &Path, name: &str) -> Result<()> {
        let dir = run.join("eval/details");
        files::create_dir(&dir)?;
        files::write_atomic(&dir.join(name), |out| Ok(serde_json::to_writer(out, self)?))
    }
}

impl Example {
    /// An image without anything over it yet.
    pub(super) fn of(name: &str, verdict: Verdict, image: Image) -> Result<Self> {
        let (image, size) = photo(image, overlay::MOST_SIDE)?;
        let (truth, found) = (Layer::default(), Layer::default());
        Ok(Self { name: name.to_owned(), verdict, image, size, truth, found })
    }

    /// Labels of all pixels as a layer over it.
    pub(super) fn labels(&self, labels: &LabelImage) -> Result<Layer> {
        Ok(Layer { pixels: overlay::layer(labels, self.size)?, objects: Vec::new() })
    }

    /// Objects as a layer over it, which has been an image of `size`, height and width. The first ones
    /// come to lie on top.
    pub(super) fn objects(&self, size: [usize; 2], objects: &[Placed]) -> Result<Layer> {
        let [height, width] = size;
        let labels = vec![NO_CLASS; width * height];
        let mut pixels = LabelImage { width, height, labels };
        let masks = objects.iter().rev().filter_map(|object| Some((object.class, object.mask?)));
        for (class, mask) in masks.filter(|(_, mask)| mask.size() == (height as u32, width as u32))
        {
            for at in mask.runs().flat_map(|(from, end)| from as usize..end as usize) {
                pixels.labels[at % height * width + at / height] = class.min(254) as u8;
            }
        }
        let scale = [0, 1].map(|i| f64::from(self.size[i]) / [width, height][i] as f64);
        // A tenth of a pixel is more than can be seen.
        let tenth = |x: f64| ((x * 10.0).round() / 10.0) as f32;
        let outlined = |object: &Placed| {
            let BBox { x, y, w, h } = object.bbox;
            Outlined {
                class: object.class,
                score: object.score.map(|score| ((score * 1e3).round() / 1e3) as f32),
                bbox: [x * scale[0], y * scale[1], w * scale[0], h * scale[1]].map(tenth),
                is_right: object.is_right,
            }
        };
        let objects = objects.iter().map(outlined).collect();
        Ok(Layer { pixels: overlay::layer(&pixels, self.size)?, objects })
    }
}

/// An object in an image.
pub(super) struct Placed<'a> {
    pub class: usize,
    pub score: Option<f64>,
    pub bbox: BBox,
    pub mask: Option<&'a Rle>,
    pub is_right: Option<bool>,
}

impl<'a> Placed<'a> {
    /// What was found, with the class of the net.
    pub(super) fn found(detection: &'a Detection, class: usize, is_right: Option<bool>) -> Self {
        let Detection { score, bbox, mask, .. } = detection;
        Self { class, score: Some(*score), bbox: *bbox, mask: mask.as_ref(), is_right }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_come_first() {
        let shares = [0.5, -1.0, 0.1, 0.9, 0.3, 0.8, 0.7, 0.6, 0.4, 0.2, 0.95];
        let all = shares.map(Verdict::Pixels);
        assert_eq!(chosen(&all), [vec![2, 9, 4, 8, 0, 7], vec![10, 3, 5]]);
        let all = [[3, 0, 0], [9, 1, 1], [0, 1, 1], [0, 0, 0]].map(Verdict::Objects);
        assert_eq!(chosen(&all), [vec![2, 1, 3, 0], vec![]]);
        let many: Vec<Verdict> = (0..20).map(|i| Verdict::Objects([i, 0, i / 4])).collect();
        assert_eq!(chosen(&many), [vec![16, 17, 18, 19, 12, 13], vec![3, 2, 1]]);
    }

    #[test]
    fn objects_are_placed_in_the_shown_image() {
        let (width, height) = (512, 256);
        let image = Image { width, height, rgb: vec![90; 3 * width * height] };
        let example = Example::of("a", Verdict::Objects([1, 0, 0]), image).unwrap();
        assert_eq!(example.size, [256, 128]);
        assert!(example.image.starts_with("data:image/"));
        let mask = Rle::of_pixels(256, 512, |y, x| y < 128 && x < 128).unwrap();
        let bbox = BBox { x: 0.0, y: 10.0, w: 128.0, h: 127.9 };
        let (class, score, is_right) = (3, Some(0.91268), Some(true));
        let objects = [Placed { class, score, bbox, mask: Some(&mask), is_right }];
        let layer = example.objects([height, width], &objects).unwrap();
        let expected =
            Outlined { class, score: Some(0.913), bbox: [0.0, 5.0, 64.0, 64.0], is_right };
        assert_eq!(layer.objects, [expected]);
        assert!(layer.pixels.is_some());
        let objects = [Placed { mask: None, ..objects.into_iter().next().unwrap() }];
        assert!(example.objects([height, width], &objects).unwrap().pixels.is_none());
    }
}
