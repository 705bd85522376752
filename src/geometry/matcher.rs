//! Which true box each anchor or proposal stands for, as detectron2 decides it.

use super::anchors::Anchors;
use super::corners::{Corners, iou};

/// What a net should say of a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// That it shows no object.
    Negative,
    /// Whatever it likes.
    Ignored,
    /// That it shows an object.
    Positive,
}

/// When a box is positive or negative.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Matcher {
    /// Boxes whose largest IoU lies below this are negative.
    pub low: f32,
    /// Boxes whose largest IoU is at least this are positive; those between are ignored.
    pub high: f32,
    /// Whether also those boxes are positive that no other has a greater IoU with some true box
    /// than. They still stand for the true box that they have their own largest IoU with.
    pub low_quality: bool,
}

/// What a [`Matcher`] says of boxes, in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Matches {
    /// Positive, negative, or neither.
    pub labels: Vec<Label>,
    /// The first true box with the largest IoU; 0 where none meets it.
    pub truth: Vec<u32>,
}

impl Matcher {
    /// That of region proposals.
    pub const RPN: Self = Self { low: 0.3, high: 0.7, low_quality: true };
    /// That of box heads.
    pub const ROI: Self = Self { low: 0.5, high: 0.5, low_quality: false };

    /// Matches anchors, whose indices count through all levels, with true boxes. Only anchors near
    /// a true box are looked at; the rest is negative.
    pub fn anchors(&self, levels: &[Anchors], truths: &[Corners]) -> Matches {
        let mut best = Best::new(levels.iter().map(Anchors::len).sum());
        for (t, truth) in truths.iter().enumerate() {
            best.begin(t);
            let mut first = 0;
            for level in levels {
                level.near(truth, |i, anchor| best.offer(first + i, iou(truth, anchor)));
                first += level.len();
            }
        }
        best.finish(self)
    }

    /// Matches boxes with true boxes.
    pub fn boxes(&self, boxes: &[Corners], truths: &[Corners]) -> Matches {
        let mut best = Best::new(boxes.len());
        for (t, truth) in truths.iter().enumerate() {
            best.begin(t);
            for (i, bbox) in boxes.iter().enumerate() {
                best.offer(i, iou(truth, bbox));
            }
        }
        best.finish(self)
    }
}

/// Largest IoUs so far.
struct Best {
    /// Of each box, and with which true box.
    iou: Vec<f32>,
    truth: Vec<u32>,
    current: u32,
    /// Of the current true box, and the boxes that have it, from `ties_from` on.
    most: f32,
    ties: Vec<usize>,
    ties_from: usize,
}

impl Best {
    fn new(boxes: usize) -> Self {
        let (iou, truth) = (vec![0.0; boxes], vec![0; boxes]);
        Self { iou, truth, current: 0, most: 0.0, ties: vec![], ties_from: 0 }
    }

    fn begin(&mut self, truth: usize) {
        (self.current, self.most, self.ties_from) = (truth as u32, 0.0, self.ties.len());
    }

    /// The IoU of a box with the current true box.
    fn offer(&mut self, i: usize, iou: f32) {
        if iou > self.iou[i] {
            (self.iou[i], self.truth[i]) = (iou, self.current);
        }
        // A true box that meets nothing is no reason to call everything positive.
        if iou > 0.0 && iou >= self.most {
            if iou > self.most {
                self.most = iou;
                self.ties.truncate(self.ties_from);
            }
            self.ties.push(i);
        }
    }

    fn finish(self, matcher: &Matcher) -> Matches {
        let label = |&iou: &f32| match iou {
            iou if iou >= matcher.high => Label::Positive,
            iou if iou < matcher.low => Label::Negative,
            _ => Label::Ignored,
        };
        let mut labels: Vec<Label> = self.iou.iter().map(label).collect();
        if matcher.low_quality {
            self.ties.into_iter().for_each(|i| labels[i] = Label::Positive);
        }
        Matches { labels, truth: self.truth }
    }
}

#[cfg(test)]
mod tests {
    use super::Label::{Ignored, Negative, Positive};
    use super::*;

    const TRUTHS: [Corners; 3] =
        [[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0], [90.0, 90.0, 99.0, 99.0]];

    #[test]
    fn the_best_boxes_of_a_true_box_are_positive_unless_none_meets_it() {
        let boxes = [
            [0.0, 0.0, 10.0, 7.0],
            [0.0, 0.0, 10.0, 5.0],
            // Both have 2/10 with the second true box.
            [20.0, 0.0, 30.0, 2.0],
            [20.0, 8.0, 30.0, 10.0],
            [20.0, 0.0, 30.0, 1.0],
            [50.0, 50.0, 60.0, 60.0],
        ];
        let found = Matcher::RPN.boxes(&boxes, &TRUTHS);
        assert_eq!(found.labels, [Positive, Ignored, Positive, Positive, Negative, Negative]);
        assert_eq!(found.truth, [0, 0, 1, 1, 1, 0]);
        let found = Matcher::ROI.boxes(&boxes, &TRUTHS);
        assert_eq!(found.labels, [Positive, Positive, Negative, Negative, Negative, Negative]);
        assert_eq!(Matcher::RPN.boxes(&boxes, &[]).labels, [Negative; 6]);
        // The same true box twice: the first counts.
        assert_eq!(Matcher::ROI.boxes(&boxes[..1], &[TRUTHS[0]; 2]).truth, [0]);
    }

    #[test]
    fn anchors_are_matched_as_boxes_are() {
        let sizes = [[16.0], [32.0], [64.0]];
        let levels: Vec<Anchors> = [4, 8, 16]
            .iter()
            .zip(&sizes)
            .map(|(&stride, size)| {
                Anchors::new(stride, size, &[0.5, 1.0, 2.0], [128 / stride, 96 / stride])
            })
            .collect();
        let all: Vec<Corners> =
            levels.iter().flat_map(|l| (0..l.len()).map(|i| l.get(i))).collect();
        let truths = [
            TRUTHS[0],
            [16.0, 16.0, 48.0, 48.0],
            [3.5, 60.0, 90.0, 77.0],
            [30.0, 30.0, 33.0, 90.0],
        ];
        let found = Matcher::RPN.anchors(&levels, &truths);
        assert_eq!(found, Matcher::RPN.boxes(&all, &truths));
        let count = |label| found.labels.iter().filter(|l| **l == label).count();
        assert!(count(Positive) > 3 && count(Ignored) > 10 && count(Negative) > 1000);
    }
}
