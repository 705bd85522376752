//! COCO's rule of matching detections with true objects.

use std::collections::BTreeMap;

use super::{Detected, by_score};

/// Bounds of areas, both included: all, small, medium, large.
pub(super) const AREAS: [(f64, f64); 4] =
    [(0.0, 1e10), (0.0, 1024.0), (1024.0, 9216.0), (9216.0, 1e10)];
/// How many detections of a class count in an image, at most.
pub(super) const MOST_FOUND: usize = 100;

/// A true object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truth {
    /// Number of the image.
    pub image: usize,
    /// Number of the class.
    pub class: usize,
    /// Pixels, as the annotation says.
    pub area: f64,
    /// Whether it is a region of many objects: then any number of detections may match it.
    pub crowd: bool,
    /// Whether it is neither to be found nor missed. Crowds are.
    pub ignore: bool,
}

/// The objects of each class in each image.
pub(super) fn grouped(
    classes: usize,
    truths: &[Truth],
    detections: &[Detected],
) -> Vec<BTreeMap<usize, Group>> {
    let mut groups: Vec<BTreeMap<usize, Group>> = vec![BTreeMap::new(); classes];
    for (i, truth) in truths.iter().enumerate() {
        groups[truth.class].entry(truth.image).or_default().truths.push(i as u32);
    }
    for (i, found) in detections.iter().enumerate() {
        groups[found.class].entry(found.image).or_default().found.push(i as u32);
    }
    groups
}

/// Objects of a class in an image, by their positions.
#[derive(Clone, Default)]
pub(super) struct Group {
    truths: Vec<u32>,
    pub(super) found: Vec<u32>,
}

/// The same with detections by falling score, and overlaps `[detection][truth]`.
pub(super) struct Image {
    pub(super) truths: Vec<u32>,
    pub(super) found: Vec<u32>,
    overlaps: Vec<f64>,
}

impl Image {
    pub(super) fn new(
        group: Group,
        detections: &[Detected],
        iou: &dyn Fn(usize, usize) -> f64,
    ) -> Self {
        let Group { truths: mine, mut found } = group;
        found.sort_by(by_score(detections));
        found.truncate(MOST_FOUND);
        let pairs = found.iter().flat_map(|&d| mine.iter().map(move |&t| (d, t)));
        let overlaps = pairs.map(|(d, t)| iou(d as usize, t as usize)).collect();
        Self { truths: mine, found, overlaps }
    }

    /// The order in which truths are matched: those that count come first.
    pub(super) fn order(&self, truths: &[Truth], area: (f64, f64)) -> Order {
        let ignored = |&i: &usize| {
            let truth = &truths[self.truths[i] as usize];
            truth.ignore || is_outside(truth.area, area)
        };
        let mut places: Vec<usize> = (0..self.truths.len()).collect();
        places.sort_by_key(ignored);
        let real = places.iter().take_while(|i| !ignored(i)).count();
        Order { places, real }
    }

    /// The place in the order of the truth that each detection matches, where overlaps count from
    /// `step` on.
    pub(super) fn places(&self, truths: &[Truth], order: &Order, step: f64) -> Vec<Option<usize>> {
        let Order { places, real } = order;
        let mut taken = vec![false; places.len()];
        let mut place = |d: usize| {
            let overlaps = &self.overlaps[d * places.len()..][..places.len()];
            let mut least = f64::min(step, 1.0 - 1e-10);
            let mut best = None;
            for (place, &i) in places.iter().enumerate() {
                if taken[place] && !truths[self.truths[i] as usize].crowd {
                    continue;
                }
                // A real match is not given up for an ignored one.
                if best.is_some_and(|best| best < *real) && place >= *real {
                    break;
                }
                if overlaps[i] >= least {
                    (least, best) = (overlaps[i], Some(place));
                }
            }
            if let Some(place) = best {
                taken[place] = true;
            }
            best
        };
        (0..self.found.len()).map(&mut place).collect()
    }
}

pub(super) fn is_outside(pixels: f64, area: (f64, f64)) -> bool {
    pixels < area.0 || pixels > area.1
}

/// Truths of an image, by their positions there.
pub(super) struct Order {
    /// Those that count first.
    pub(super) places: Vec<usize>,
    /// How many count.
    pub(super) real: usize,
}
