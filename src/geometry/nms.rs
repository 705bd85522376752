//! Non-maximum suppression.

use std::cmp::Ordering;

use super::Corners;

/// Order of scores: greater ones first, and of equal ones the smaller index.
pub fn best_first(a: (f32, usize), b: (f32, usize)) -> Ordering {
    // What is no number has a place too, or sorting would fail.
    let scores = b.0.partial_cmp(&a.0).unwrap_or_else(|| b.0.total_cmp(&a.0));
    scores.then(a.1.cmp(&b.1))
}

/// Indices of scores, the best first.
pub fn sorted(scores: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_unstable_by(|&a, &b| best_first((scores[a], a), (scores[b], b)));
    order
}

/// Indices of the boxes that stay, the best first. A box goes if its IoU with a better one that
/// stays is greater than `threshold`.
pub fn nms(boxes: &[Corners], scores: &[f32], threshold: f32) -> Vec<usize> {
    nms_per_class(boxes, scores, &vec![0; boxes.len()], threshold)
}

/// The same among the boxes of each class by themselves.
pub fn nms_per_class(
    boxes: &[Corners],
    scores: &[f32],
    classes: &[usize],
    threshold: f32,
) -> Vec<usize> {
    let mut order = sorted(scores);
    let mut of_class: Vec<usize> = (0..order.len()).collect();
    of_class.sort_by_key(|&at| classes[order[at]]);
    let mut stays = vec![true; order.len()];
    for same in of_class.chunk_by(|&a, &b| classes[order[a]] == classes[order[b]]) {
        let some = Columns::new(same.iter().map(|&at| &boxes[order[at]]));
        for (&at, gone) in same.iter().zip(some.suppressed(threshold)) {
            stays[at] = !gone;
        }
    }
    let mut stays = stays.into_iter();
    order.retain(|_| stays.next() == Some(true));
    order
}

/// Boxes by coordinate: so many of them are compared at a time.
struct Columns {
    borders: [Vec<f32>; 4],
    areas: Vec<f32>,
}

impl Columns {
    fn new<'a>(boxes: impl Iterator<Item = &'a Corners> + Clone) -> Self {
        let borders = std::array::from_fn(|i| boxes.clone().map(|b| b[i]).collect());
        Self { borders, areas: boxes.map(super::corners::area).collect() }
    }

    /// Which boxes go, where they are in order.
    fn suppressed(&self, threshold: f32) -> Vec<bool> {
        let n = self.areas.len();
        let mut gone = vec![false; n];
        for i in 0..n {
            if gone[i] {
                continue;
            }
            let after = i + 1..n;
            let [x1, y1, x2, y2] = &self.borders;
            let rest = x1[after.clone()]
                .iter()
                .zip(&y1[after.clone()])
                .zip(&x2[after.clone()])
                .zip(&y2[after.clone()])
                .zip(&self.areas[after.clone()]);
            for (gone, ((((ax1, ay1), ax2), ay2), area)) in gone[after].iter_mut().zip(rest) {
                let w = (ax2.min(x2[i]) - ax1.max(x1[i])).max(0.0);
                let h = (ay2.min(y2[i]) - ay1.max(y1[i])).max(0.0);
                let both = w * h;
                *gone |= both / (self.areas[i] + area - both) > threshold;
            }
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_break_ties_and_classes_are_apart() {
        let a = [0.0, 0.0, 10.0, 10.0];
        let b = [0.0, 0.0, 10.0, 5.0];
        let c = [20.0, 0.0, 30.0, 10.0];
        // An IoU of just the threshold stays.
        assert_eq!(nms(&[a, b, c], &[0.5, 0.5, 0.5], 0.5), [0, 1, 2]);
        assert_eq!(nms(&[b, a, c], &[0.5, 0.5, 0.9], 0.49), [2, 0]);
        // What is suppressed suppresses nothing.
        let chain = [[0.0, 0.0, 10.0, 1.0], [4.0, 0.0, 14.0, 1.0], [8.0, 0.0, 18.0, 1.0]];
        assert_eq!(nms(&chain, &[0.9, 0.8, 0.7], 0.4), [0, 2]);
        assert_eq!(nms_per_class(&[a, a, a, a], &[0.1, 0.4, 0.3, 0.4], &[1, 1, 0, 0], 0.5), [1, 3]);
        assert_eq!(nms(&[], &[], 0.5), [0; 0]);
        // Empty boxes and scores that are no numbers are no reason to fail.
        assert_eq!(nms(&[[1.0; 4]; 2], &[f32::NAN, 0.0], 0.5), [0, 1]);
    }
}
