//! Pascal VOC's average precision of boxes, as detectron2's `pascal_voc_evaluation.py` (02b5c4e)
//! computes it, and its mean over steps of intersection over union.

use std::collections::HashMap;

use rayon::prelude::*;

use super::{Detected, by_score};
use crate::geometry::BBox;

/// How precision becomes one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Eleven steps of recall, as in 2007.
    ElevenPoints,
    /// The area under the curve of which each precision is at least those that follow it, as from
    /// 2010 on.
    Area,
}

/// A true object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truth {
    /// Number of the image.
    pub image: usize,
    /// Number of the class.
    pub class: usize,
    /// First and last pixels, counted from 1: x0, y0, x1, y1.
    pub corners: [f64; 4],
    /// Whether it is neither to be found nor missed.
    pub difficult: bool,
}

/// Precision of a class at ten steps of intersection over union, .5 to .95.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassResult {
    /// At each step; 0 where the class has no objects.
    pub aps: [f64; 10],
}

impl ClassResult {
    /// The mean over the steps.
    pub fn ap(&self) -> f64 {
        self.aps.iter().sum::<f64>() / 10.0
    }
}

/// Corners of a box in pixels counted from 1, both included.
pub fn corners(b: &BBox) -> [f64; 4] {
    [b.x + 1.0, b.y + 1.0, b.x + b.w, b.y + b.h]
}

/// A number with so many decimals, as a text file would have kept it.
pub fn rounded(value: f64, decimals: usize) -> f64 {
    format!("{value:.decimals$}").parse().unwrap_or(value)
}

/// Evaluates detections, whose corners stand beside them, against true objects. Of equal scores the
/// first counts first. Gives a result for each of the `classes`.
pub fn evaluate(
    classes: usize,
    truths: &[Truth],
    detections: &[Detected],
    corners: &[[f64; 4]],
    rule: Rule,
) -> Vec<ClassResult> {
    let mut mine: Vec<HashMap<usize, Vec<&Truth>>> = vec![HashMap::new(); classes];
    for truth in truths {
        mine[truth.class].entry(truth.image).or_default().push(truth);
    }
    let mut found: Vec<Vec<u32>> = vec![Vec::new(); classes];
    for (i, detection) in detections.iter().enumerate() {
        found[detection.class].push(i as u32);
    }
    let of_class = |(truths, mut found): (HashMap<usize, Vec<&Truth>>, Vec<u32>)| {
        found.sort_by(by_score(detections));
        let matches: Vec<Option<Match>> = found
            .iter()
            .map(|&d| {
                let truths = truths.get(&detections[d as usize].image)?;
                Match::best(detections[d as usize].image, truths, &corners[d as usize])
            })
            .collect();
        let objects = truths.values().flatten().filter(|truth| !truth.difficult).count();
        let aps = std::array::from_fn(|i| {
            average_precision(&matches, objects, (50 + 5 * i) as f64 / 100.0, rule)
        });
        ClassResult { aps }
    };
    mine.into_par_iter().zip(found).map(of_class).collect()
}

/// The true object that a detection overlaps most.
struct Match {
    /// Its image, and its number there.
    object: (usize, usize),
    iou: f64,
    difficult: bool,
}

impl Match {
    fn best(image: usize, truths: &[&Truth], corners: &[f64; 4]) -> Option<Self> {
        let mut best: Option<Self> = None;
        for (i, truth) in truths.iter().enumerate() {
            let iou = BBox::inclusive_iou(&truth.corners, corners);
            if best.as_ref().is_none_or(|best| iou > best.iou) {
                best = Some(Self { object: (image, i), iou, difficult: truth.difficult });
            }
        }
        best
    }
}

/// Of detections by falling score, where only overlaps above `least` count.
fn average_precision(matches: &[Option<Match>], objects: usize, least: f64, rule: Rule) -> f64 {
    if objects == 0 {
        return 0.0;
    }
    let mut taken = std::collections::HashSet::new();
    let (mut hits, mut misses) = (0.0, 0.0);
    let (mut recall, mut precision) = (Vec::new(), Vec::new());
    for found in matches {
        match found.as_ref().filter(|found| found.iou > least) {
            Some(found) if found.difficult => {}
            Some(found) if taken.insert(found.object) => hits += 1.0,
            _ => misses += 1.0,
        }
        recall.push(hits / objects as f64);
        precision.push(hits / f64::max(hits + misses, f64::EPSILON));
    }
    // A precision is at least those that follow it.
    for i in (1..precision.len()).rev() {
        precision[i - 1] = f64::max(precision[i - 1], precision[i]);
    }
    match rule {
        Rule::ElevenPoints => (0..11)
            .map(|i| {
                // The bits of `np.arange(0, 1.1, .1)`: three tenths are 0.30000000000000004.
                let first = recall.partition_point(|&r| r < f64::from(i) * 0.1);
                precision.get(first).copied().unwrap_or(0.0) / 11.0
            })
            .sum(),
        Rule::Area => {
            let before = std::iter::once(0.0).chain(recall.iter().copied());
            let steps = before.zip(&recall).zip(&precision);
            steps.map(|((from, to), precision)| (to - from) * precision).sum()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: [f64; 4] = [1.0, 1.0, 10.0, 10.0];

    fn truth(image: usize, difficult: bool) -> Truth {
        Truth { image, class: 0, corners: OBJECT, difficult }
    }

    fn aps(truths: &[Truth], found: &[(usize, f64, [f64; 4])], rule: Rule) -> [f64; 10] {
        let detections: Vec<Detected> = found
            .iter()
            .map(|&(image, score, _)| Detected { image, class: 0, score, area: 0.0 })
            .collect();
        let corners: Vec<[f64; 4]> = found.iter().map(|found| found.2).collect();
        evaluate(1, truths, &detections, &corners, rule)[0].aps
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-15, "{a} {b}");
    }

    #[test]
    fn the_first_of_two_is_right_the_second_a_duplicate() {
        let truths = [truth(0, false), truth(1, false)];
        let found = [(0, 0.9, OBJECT), (0, 0.8, OBJECT), (1, 0.7, OBJECT)];
        // Recalls ½, ½, 1; precisions 1, ½, ⅔.
        close(aps(&truths, &found, Rule::Area)[0], 0.5 + 0.5 * 2.0 / 3.0);
        close(aps(&truths, &found, Rule::ElevenPoints)[0], (6.0 + 5.0 * 2.0 / 3.0) / 11.0);
    }

    #[test]
    fn three_of_ten_do_not_reach_the_step_of_three_tenths() {
        let truths: Vec<Truth> = (0..10).map(|i| truth(i, false)).collect();
        let found: Vec<_> = (0..3).map(|i| (i, 0.5, OBJECT)).collect();
        close(aps(&truths, &found, Rule::ElevenPoints)[9], 3.0 / 11.0);
        close(aps(&truths, &found, Rule::Area)[9], 0.3);
    }

    #[test]
    fn difficult_objects_are_neither_found_nor_missed() {
        let truths = [truth(0, false), truth(1, true)];
        let found = [(1, 0.9, OBJECT), (1, 0.8, OBJECT), (0, 0.7, OBJECT)];
        assert_eq!(aps(&truths, &found, Rule::Area), [1.0; 10]);
        assert_eq!(aps(&[truth(0, true)], &found, Rule::Area), [0.0; 10]);
        assert_eq!(aps(&truths, &[], Rule::ElevenPoints), [0.0; 10]);
    }

    #[test]
    fn an_overlap_equal_to_the_step_is_none() {
        // Ten columns of twenty: one half; and nine tenths, which is above .85 only.
        let half = [(0, 0.9, [1.0, 1.0, 20.0, 10.0])];
        assert_eq!(aps(&[truth(0, false)], &half, Rule::Area), [0.0; 10]);
        let most = [(0, 0.9, [1.0, 1.0, 9.0, 10.0])];
        let found = aps(&[truth(0, false)], &most, Rule::Area);
        assert_eq!(found, [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn of_equal_scores_the_first_counts_first() {
        let truths = [truth(0, false)];
        let off = [50.0, 50.0, 60.0, 60.0];
        close(aps(&truths, &[(0, 0.5, OBJECT), (0, 0.5, off)], Rule::Area)[0], 1.0);
        close(aps(&truths, &[(0, 0.5, off), (0, 0.5, OBJECT)], Rule::Area)[0], 0.5);
    }

    #[test]
    fn boxes_count_from_one_and_round_as_text_does() {
        let b = BBox { x: 4.0, y: 0.0, w: 1.0, h: 3.0 };
        assert_eq!(corners(&b), [5.0, 1.0, 5.0, 3.0]);
        assert_eq!((rounded(0.0625, 3), rounded(1.25, 1), rounded(-0.35, 1)), (0.062, 1.2, -0.3));
    }
}
