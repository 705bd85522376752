//! COCO's average precision and recall, of boxes or masks: what `COCOeval` of cocodataset/cocoapi
//! (8c9bcc3) computes.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::matching::{AREAS, Group, Image, MOST_FOUND, grouped, is_outside};
use super::{Detected, falling, mean_of_defined};

pub use super::matching::Truth;

/// Steps of intersection over union, .5 to .95.
const IOUS: usize = 10;
/// Steps of recall, 0 to 1.
pub const RECALLS: usize = 101;
/// How many detections of a class count in an image, at most.
const MOST: [usize; 3] = [1, 10, MOST_FOUND];

/// Precision of a class at every step of intersection over union, and recall.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassResult {
    /// `[IoU][recall]` for each range of areas, of the best 100 detections; empty where the class has
    /// no object of that area.
    precision: [Vec<[f64; RECALLS]>; 4],
    /// `[IoU]` for all areas with 1, 10 and 100 detections, then small, medium and large ones with
    /// 100; empty likewise.
    recall: [Vec<f64>; 6],
}

/// COCO's twelve numbers; −1 where there is no object to be found.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The mean precision over steps of intersection over union, steps of recall, and classes; of the
    /// steps .5 and .75; of small, medium and large objects.
    pub ap: f64,
    /// At .5.
    pub ap50: f64,
    /// At .75.
    pub ap75: f64,
    /// Of small, medium and large objects.
    pub ap_by_area: [f64; 3],
    /// The mean recall with 1, 10 and 100 detections in an image.
    pub ar: [f64; 3],
    /// Of small, medium and large objects.
    pub ar_by_area: [f64; 3],
}

/// The steps of intersection over union, with the bits of `np.linspace(.5, .95, 10)`.
fn ious() -> [f64; IOUS] {
    let step = (0.95 - 0.5) / 9.0;
    std::array::from_fn(|i| if i == 9 { 0.95 } else { i as f64 * step + 0.5 })
}

/// The steps of recall, with the bits of `np.linspace(0, 1, 101)`.
fn recalls() -> [f64; RECALLS] {
    std::array::from_fn(|i| if i == 100 { 1.0 } else { i as f64 * 0.01 })
}

/// Evaluates detections against true objects, both in the order of their files. Images are numbered
/// in the order of their ids. `iou` tells the overlap of a detection and a truth of the same image
/// and class, by their positions. Gives a result for each of the `classes`.
pub fn evaluate(
    classes: usize,
    truths: &[Truth],
    detections: &[Detected],
    iou: &(dyn Fn(usize, usize) -> f64 + Sync),
) -> Vec<ClassResult> {
    let groups = grouped(classes, truths, detections);
    let of_class = |images: BTreeMap<usize, Group>| {
        let images: Vec<Image> =
            images.into_values().map(|group| Image::new(group, detections, iou)).collect();
        ClassResult::new(&images, truths, detections)
    };
    groups.into_par_iter().map(of_class).collect()
}

/// What became of a detection.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Hit,
    Miss,
    Ignored,
}

/// What became of an image's detections.
struct Matched {
    /// True objects that count.
    real: usize,
    /// `[IoU][detection]`
    fates: Vec<Fate>,
}

impl Matched {
    /// Of an image, where objects of other areas are ignored.
    fn new(image: &Image, truths: &[Truth], detections: &[Detected], area: (f64, f64)) -> Self {
        let order = image.order(truths, area);
        let mut matched = Self { real: order.real, fates: Vec::new() };
        for step in ious() {
            let places = image.places(truths, &order, step);
            let fate = |(place, &found): (Option<usize>, &u32)| match place {
                Some(place) if place < order.real => Fate::Hit,
                Some(_) => Fate::Ignored,
                None if is_outside(detections[found as usize].area, area) => Fate::Ignored,
                None => Fate::Miss,
            };
            matched.fates.extend(places.into_iter().zip(&image.found).map(fate));
        }
        matched
    }
}

impl ClassResult {
    fn new(images: &[Image], truths: &[Truth], detections: &[Detected]) -> Self {
        let mut result = Self { precision: Default::default(), recall: Default::default() };
        for (a, area) in AREAS.into_iter().enumerate() {
            let matched: Vec<Matched> =
                images.iter().map(|image| Matched::new(image, truths, detections, area)).collect();
            let real: usize = matched.iter().map(|image| image.real).sum();
            if real == 0 {
                continue;
            }
            for (m, most) in MOST.into_iter().enumerate().filter(|(m, _)| a == 0 || *m == 2) {
                let curves = Curves::new(images, &matched, detections, most, real);
                if m == 2 {
                    result.precision[a] = curves.precision;
                }
                result.recall[if a == 0 { m } else { 2 + a }] = curves.recall;
            }
        }
        result
    }

    /// The mean precision over steps of intersection over union and recall; −1 where the class has
    /// no object.
    pub fn ap(&self) -> f64 {
        mean_of_defined(self.precision[0].iter().flatten().copied())
    }

    /// The same at the step .5 (0) or .75 (5).
    fn ap_at(&self, step: usize) -> f64 {
        mean_of_defined(self.precision[0].get(step).into_iter().flatten().copied())
    }

    /// Precision at [`RECALLS`] steps of recall from 0 to 1, at the overlaps .5 and .75; none where
    /// the class has no object.
    pub fn curves(&self) -> Option<[&[f64; RECALLS]; 2]> {
        let all = &self.precision[0];
        Some([all.first()?, all.get(5)?])
    }

    /// At .5.
    pub fn ap50(&self) -> f64 {
        self.ap_at(0)
    }

    /// At .75.
    pub fn ap75(&self) -> f64 {
        self.ap_at(5)
    }
}

/// What the detections of a class are worth, the best `most` of each image.
struct Curves {
    precision: Vec<[f64; RECALLS]>,
    recall: Vec<f64>,
}

impl Curves {
    fn new(
        images: &[Image],
        matched: &[Matched],
        detections: &[Detected],
        most: usize,
        real: usize,
    ) -> Self {
        // Which image, which of its detections; of equal scores the first image's come first.
        let places = |(i, image): (usize, &Image)| {
            (0..image.found.len().min(most)).map(move |d| (i, d)).collect::<Vec<_>>()
        };
        let mut places: Vec<(usize, usize)> = images.iter().enumerate().flat_map(places).collect();
        let score = |&(i, d): &(usize, usize)| detections[images[i].found[d] as usize].score;
        places.sort_by(|a, b| falling(score(a), score(b)));
        let mut curves = Self { precision: Vec::new(), recall: Vec::new() };
        let steps = recalls();
        for t in 0..IOUS {
            let fates =
                places.iter().map(|&(i, d)| matched[i].fates[t * images[i].found.len() + d]);
            let (recall, precision) = curve(fates, real);
            curves.recall.push(recall.last().copied().unwrap_or(0.0));
            curves.precision.push(steps.map(|step| {
                let first = recall.partition_point(|&r| r < step);
                precision.get(first).copied().unwrap_or(0.0)
            }));
        }
        curves
    }
}

/// Recall and precision after each detection; a precision is at least those that follow it.
fn curve(fates: impl Iterator<Item = Fate>, real: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut hits, mut misses) = (0.0, 0.0);
    let (mut recall, mut precision) = (Vec::new(), Vec::new());
    for fate in fates {
        match fate {
            Fate::Hit => hits += 1.0,
            Fate::Miss => misses += 1.0,
            Fate::Ignored => {}
        }
        recall.push(hits / real as f64);
        precision.push(hits / (misses + hits + f64::EPSILON));
    }
    for i in (1..precision.len()).rev() {
        precision[i - 1] = f64::max(precision[i - 1], precision[i]);
    }
    (recall, precision)
}

impl Summary {
    /// Over all classes that have objects.
    pub fn of(classes: &[ClassResult]) -> Self {
        let precision = |a: usize, steps: std::ops::Range<usize>| {
            let of_class = |class: &'_ ClassResult| {
                class.precision[a].get(steps.clone()).unwrap_or_default().to_vec()
            };
            mean_of_defined(classes.iter().flat_map(of_class).flatten())
        };
        let recall = |i: usize| {
            mean_of_defined(classes.iter().flat_map(|class| class.recall[i].iter().copied()))
        };
        Self {
            ap: precision(0, 0..IOUS),
            ap50: precision(0, 0..1),
            ap75: precision(0, 5..6),
            ap_by_area: [1, 2, 3].map(|a| precision(a, 0..IOUS)),
            ar: [0, 1, 2].map(recall),
            ar_by_area: [3, 4, 5].map(recall),
        }
    }

    /// None of them defined.
    pub(super) fn undefined() -> Self {
        Self::of(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::super::UNDEFINED;
    use super::*;

    fn truth(image: usize, area: f64) -> Truth {
        Truth { image, class: 0, area, crowd: false, ignore: false }
    }

    fn found(image: usize, score: f64) -> Detected {
        Detected { image, class: 0, score, area: 100.0 }
    }

    /// Up to rounding: COCO's precision of hits alone is a bit below 1.
    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} {b}");
    }

    #[test]
    fn steps_have_numpys_bits() {
        assert_eq!(ious()[8], 0.8999999999999999);
        assert_eq!(ious()[5], 0.75);
        let off: Vec<usize> = (0..RECALLS).filter(|&i| recalls()[i] != i as f64 / 100.0).collect();
        assert_eq!(off.len(), 10);
        assert_eq!(recalls()[35], 0.35000000000000003);
    }

    #[test]
    fn a_recall_of_seven_in_twenty_does_not_reach_step_35() {
        let truths: Vec<Truth> = (0..20).map(|i| truth(i, 100.0)).collect();
        let all: Vec<Detected> = (0..7).map(|i| found(i, 0.5)).collect();
        let result = Summary::of(&evaluate(1, &truths, &all, &|_, _| 1.0));
        close(result.ap50, 35.0 / 101.0);
        close(result.ar[0], 0.35);
        assert_eq!(result.ap_by_area, [result.ap, -1.0, -1.0]);
    }

    #[test]
    fn crowds_match_any_number_and_count_nowhere() {
        let crowd = Truth { crowd: true, ignore: true, ..truth(0, 5000.0) };
        let truths = [truth(0, 100.0), crowd];
        let all = [found(0, 0.9), found(0, 0.8), found(0, 0.7)];
        // The first finds the object; the others lie in the crowd.
        let iou = |d: usize, t: usize| if (d == 0) == (t == 0) { 0.99 } else { 0.0 };
        let classes = evaluate(2, &truths, &all, &iou);
        let result = Summary::of(&classes);
        close(result.ap, 1.0);
        close(result.ar[2], 1.0);
        assert_eq!((classes[0].ap(), classes[1].ap()), (result.ap, -1.0));
        assert_eq!(Summary::of(&classes[1..]).ap, UNDEFINED);
    }

    #[test]
    fn nothing_found_is_zero() {
        let result = Summary::of(&evaluate(1, &[truth(0, 100.0)], &[], &|_, _| 1.0));
        assert_eq!((result.ap, result.ar[0], result.ap_by_area[0]), (0.0, 0.0, 0.0));
    }
}
