//! Which objects a detector found, which it missed, and what it found that is not there, at one
//! overlap and from one score on.

use super::Detected;
use super::matching::{AREAS, Image, Truth, grouped};

/// Least intersection over union of a detection with the object that it finds.
pub const IOU: f64 = 0.5;
/// Least score of a detection that counts.
pub const SCORE: f64 = 0.5;

/// What became of true objects and detections, by their positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Of each true object whether it was found; none of those that need not be.
    pub found: Vec<Option<bool>>,
    /// Of each detection whether it found an object; none below the score, and of those that lie in
    /// a crowd or find what need not be found.
    pub right: Vec<Option<bool>>,
}

/// Judges detections, with COCO's rule of matching: by falling score each takes the object of its
/// class that it overlaps most among those that are left. `iou` tells the overlap of a detection and
/// a truth of the same image and class, by their positions.
pub fn judge(
    classes: usize,
    truths: &[Truth],
    detections: &[Detected],
    iou: &dyn Fn(usize, usize) -> f64,
) -> Judged {
    let found = truths.iter().map(|truth| (!truth.ignore).then_some(false)).collect();
    let mut judged = Judged { found, right: vec![None; detections.len()] };
    let groups = grouped(classes, truths, detections).into_iter().flatten();
    for (_, mut group) in groups {
        group.found.retain(|&d| detections[d as usize].score >= SCORE);
        let image = Image::new(group, detections, iou);
        let order = image.order(truths, AREAS[0]);
        let places = image.places(truths, &order, IOU);
        for (place, &d) in places.into_iter().zip(&image.found) {
            judged.right[d as usize] = match place {
                Some(place) if place < order.real => {
                    judged.found[image.truths[order.places[place]] as usize] = Some(true);
                    Some(true)
                }
                Some(_) => None,
                None => Some(false),
            };
        }
    }
    judged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_object_is_found_once() {
        let truth = |class: usize, ignore: bool| Truth {
            image: 0,
            class,
            area: 100.0,
            crowd: ignore,
            ignore,
        };
        let found = |class: usize, score: f64| Detected { image: 0, class, score, area: 100.0 };
        let truths = [truth(0, false), truth(0, false), truth(0, true), truth(1, false)];
        let all = [
            found(0, 0.6), // Finds the first object a second time.
            found(0, 0.9),
            found(0, 0.7), // Lies in the crowd.
            found(0, 0.4), // Would find the second object, but is not sure enough.
            found(1, 0.8), // Overlaps too little.
        ];
        let iou = |d: usize, t: usize| match (d, t) {
            (0 | 1, 0) | (2, 2) | (3, 1) => 0.8,
            (4, 3) => 0.49,
            _ => 0.0,
        };
        let judged = judge(2, &truths, &all, &iou);
        assert_eq!(judged.found, [Some(true), Some(false), None, Some(false)]);
        assert_eq!(judged.right, [Some(false), Some(true), None, None, Some(false)]);
    }
}
