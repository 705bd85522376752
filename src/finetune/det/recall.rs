//! Whether a detector's anchors suit objects.

use rayon::prelude::*;
use serde::Serialize;

use super::detector;
use super::grid::Grid;
use crate::config::{Config, Task};
use crate::data::annotated::transforms::{Size, shortest_edge};
use crate::data::survey::objects::{Kept, SIZES};
use crate::error::Result;
use crate::geometry::corners::iou;
use crate::geometry::{BBox, Corners};
use crate::nn::dense::{DetNet, RATIOS};

/// The anchors of a detector on images of the size at which they are tested.
pub struct AnchorSet {
    grid: Grid,
    short: usize,
    long: usize,
}

/// How well anchors suit objects of a size: shares of their boxes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recall {
    /// `small`, `medium`, `large` or `all`.
    pub size: &'static str,
    /// How many boxes there are.
    pub boxes: usize,
    /// Share of those whose best anchor has an IoU of at least .5; none without boxes.
    pub iou50: Option<f64>,
    /// The same of .7, from which on an anchor counts as the object's wherever it lies.
    pub iou70: Option<f64>,
    /// Share of those that no anchor overlaps.
    pub none: Option<f64>,
}

impl AnchorSet {
    /// Those that settings ask for.
    ///
    /// # Errors
    /// [`crate::Kind::Usage`] for a space that the task does not fit.
    pub fn new(config: &Config, task: Task) -> Result<Self> {
        let net = DetNet::new(&config.space()?, detector(config, task, 1))?;
        let det = &config.det;
        Ok(Self { grid: Grid::of(&net), short: det.short_test, long: det.long })
    }

    /// Pixels from one position to the next of each level, and the sides of the square anchors there.
    pub fn levels(&self) -> impl Iterator<Item = (usize, &[f64])> {
        self.grid.levels()
    }

    /// Height over width of the anchors of each side.
    pub fn ratios(&self) -> &'static [f64] {
        &RATIOS
    }

    /// The greatest overlap of each box with an anchor, in an image of this width and height.
    pub fn best_overlaps(&self, size: Size, boxes: impl Iterator<Item = BBox>) -> Vec<f32> {
        let fed = shortest_edge(size, self.short, self.long);
        let [sx, sy] = std::array::from_fn(|i| fed[i] as f64 / size[i] as f64);
        let levels = self.grid.anchors(self.grid.padded([fed[1], fed[0]]));
        let best = |b: BBox| {
            let scaled = BBox { x: b.x * sx, y: b.y * sy, w: b.w * sx, h: b.h * sy };
            let (corners, mut best): (Corners, f32) = (scaled.corners(), 0.0);
            for anchors in &levels {
                anchors.near(&corners, |_, anchor| best = best.max(iou(&corners, anchor)));
            }
            best
        };
        boxes.map(best).collect()
    }

    /// How well they suit the boxes of all images whose size is known, by the objects' sizes and at last
    /// all together; in parallel on the current thread pool.
    pub fn recall(&self, images: &[Kept]) -> Vec<Recall> {
        let overlaps = |image: &Kept| {
            let boxes = image.boxes.iter().map(|(bbox, _)| *bbox);
            image.size.map_or(Vec::new(), |size| self.best_overlaps(size, boxes))
        };
        let overlaps: Vec<Vec<f32>> = images.par_iter().map(overlaps).collect();
        let sizes = images.iter().map(|image| image.boxes.iter().map(|(_, size)| *size));
        let pairs: Vec<(usize, f32)> =
            sizes.zip(overlaps).flat_map(|(sizes, overlaps)| sizes.zip(overlaps)).collect();
        let of = |name: &'static str, some: Vec<f32>| {
            let share = |is: &dyn Fn(f32) -> bool| {
                let met = some.iter().filter(|overlap| is(**overlap)).count();
                (!some.is_empty()).then(|| met as f64 / some.len() as f64)
            };
            Recall {
                size: name,
                boxes: some.len(),
                iou50: share(&|overlap| overlap >= 0.5),
                iou70: share(&|overlap| overlap >= 0.7),
                none: share(&|overlap| overlap == 0.0),
            }
        };
        let some =
            |s: usize| pairs.iter().filter(|(size, _)| *size == s).map(|(_, o)| *o).collect();
        let each = SIZES.iter().enumerate().map(|(s, name)| of(name, some(s)));
        each.chain([of("all", pairs.iter().map(|(_, overlap)| *overlap).collect())]).collect()
    }
}
