//! From what a region proposal net says to proposals, and from what a box head says to detections.

use super::anchors::Anchors;
use super::coder::Coder;
use super::corners::{Corners, clip, has_area};
use super::nms::{best_first, nms_per_class};

/// What a region proposal net says of a feature map of an image.
#[derive(Clone, Copy, Debug)]
pub struct LevelOutput<'a> {
    /// The map's anchors.
    pub anchors: &'a Anchors,
    /// A logit of each anchor.
    pub logits: &'a [f32],
    /// dx, dy, dw, dh of each anchor: four times as many.
    pub deltas: &'a [f32],
}

/// How proposals are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProposalSettings {
    /// Anchors of each level that are considered, those with the greatest logits.
    pub pre: usize,
    /// Proposals of an image, at most.
    pub post: usize,
    /// IoU above which a proposal suppresses another one of its level.
    pub nms: f32,
    /// How boxes differ from anchors.
    pub coder: Coder,
}

/// A box and its logit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Proposal {
    /// The box, within the image.
    pub bbox: Corners,
    /// Its anchor's logit.
    pub logit: f32,
}

/// Proposals of an image of this `[height, width]` (without padding), the best first: per level the
/// `pre` greatest logits, decoded and clipped; those without width or height go, then those that
/// overlap a better one of their level too much. Where logits are equal, levels and then anchors
/// come in their order. What is not finite is left out.
pub fn proposals(
    levels: &[LevelOutput],
    image: [f32; 2],
    settings: &ProposalSettings,
) -> Vec<Proposal> {
    let (mut boxes, mut logits, mut of_level) = (vec![], vec![], vec![]);
    for (level, output) in levels.iter().enumerate() {
        let deltas = output.deltas.as_chunks::<4>().0;
        for i in greatest(output.logits, settings.pre) {
            let bbox = settings.coder.decode(&output.anchors.get(i), &deltas[i]);
            let is_finite = output.logits[i].is_finite() && bbox.iter().all(|v| v.is_finite());
            let bbox = clip(&bbox, image);
            if is_finite && has_area(&bbox) {
                boxes.push(bbox);
                logits.push(output.logits[i]);
                of_level.push(level);
            }
        }
    }
    let mut stay = nms_per_class(&boxes, &logits, &of_level, settings.nms);
    stay.truncate(settings.post);
    stay.into_iter().map(|i| Proposal { bbox: boxes[i], logit: logits[i] }).collect()
}

/// Indices of the `k` greatest values, in order.
fn greatest(values: &[f32], k: usize) -> Vec<usize> {
    let order = |a: &usize, b: &usize| best_first((values[*a], *a), (values[*b], *b));
    let mut all: Vec<usize> = (0..values.len()).collect();
    if k < all.len() {
        all.select_nth_unstable_by(k, order);
        all.truncate(k);
    }
    all.sort_unstable_by(order);
    all
}

/// How detections are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DetectionSettings {
    /// A detection's score is greater than this.
    pub score: f32,
    /// IoU above which a detection suppresses another one of its class.
    pub nms: f32,
    /// Detections of an image, at most.
    pub top_k: usize,
}

/// An object that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Number of the region of interest that it comes from.
    pub roi: usize,
    /// Its class.
    pub class: usize,
    /// Its probability.
    pub score: f32,
    /// Its box, within the image.
    pub bbox: Corners,
}

/// Detections in an image of this `[height, width]`, the best first: of each row of `classes` + 1
/// `scores` (after the softmax; the last is the background's) every class above the threshold, with
/// its box in the row of `classes` `boxes`. Where scores are equal, regions and then classes come in
/// their order. A region with anything that is not finite is left out.
pub fn detections(
    scores: &[f32],
    boxes: &[Corners],
    classes: usize,
    image: [f32; 2],
    settings: &DetectionSettings,
) -> Vec<Found> {
    let mut all = vec![];
    for (roi, (scores, boxes)) in
        scores.chunks_exact(classes + 1).zip(boxes.chunks_exact(classes.max(1))).enumerate()
    {
        if !scores.iter().chain(boxes.as_flattened()).all(|v| v.is_finite()) {
            continue;
        }
        for (class, (&score, bbox)) in scores.iter().zip(boxes).enumerate() {
            if score > settings.score {
                all.push(Found { roi, class, score, bbox: clip(bbox, image) });
            }
        }
    }
    let boxes: Vec<Corners> = all.iter().map(|found| found.bbox).collect();
    let scores: Vec<f32> = all.iter().map(|found| found.score).collect();
    let of_class: Vec<usize> = all.iter().map(|found| found.class).collect();
    let mut stay = nms_per_class(&boxes, &scores, &of_class, settings.nms);
    stay.truncate(settings.top_k);
    stay.into_iter().map(|i| all[i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proposals_are_clipped_sorted_and_counted() {
        let levels =
            [Anchors::new(16, &[16.0], &[1.0], [2, 3]), Anchors::new(32, &[40.0], &[1.0], [1, 1])];
        let logits = [1.0, 3.0, f32::NAN, 2.0, 2.0, -1.0];
        let mut deltas = vec![0.0; 24];
        // The fourth anchor goes out of the image to the left; the fifth covers the second.
        deltas[12] = -2.0;
        deltas[17] = -1.0;
        let output = [
            LevelOutput { anchors: &levels[0], logits: &logits, deltas: &deltas },
            LevelOutput { anchors: &levels[1], logits: &[2.0], deltas: &[0.0; 4] },
        ];
        let settings = ProposalSettings { pre: 9, post: 9, nms: 0.7, coder: Coder::RPN };
        let found = proposals(&output, [32.0, 44.0], &settings);
        let expected = [
            ([8.0, 0.0, 24.0, 8.0], 3.0),
            ([0.0, 0.0, 20.0, 20.0], 2.0),
            ([0.0, 0.0, 8.0, 8.0], 1.0),
            ([24.0, 8.0, 40.0, 24.0], -1.0),
        ];
        let expected = expected.map(|(bbox, logit)| Proposal { bbox, logit });
        assert_eq!(found, expected);
        let few = ProposalSettings { post: 2, ..settings };
        assert_eq!(proposals(&output, [32.0, 44.0], &few), expected[..2]);
        // Of the first level what is no number and 3.0 are the greatest two.
        let early = ProposalSettings { pre: 2, ..settings };
        assert_eq!(proposals(&output, [32.0, 44.0], &early), expected[..2]);
    }

    #[test]
    fn detections_are_of_classes_above_the_threshold() {
        let (a, b) = ([0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 30.0]);
        let scores = [0.3, 0.3, 0.4, 0.5, 0.05, 0.45, f32::NAN, 0.9, 0.1];
        let boxes = [a, b, a, b, a, a];
        let settings = DetectionSettings { score: 0.05, nms: 0.5, top_k: 100 };
        let found = detections(&scores, &boxes, 2, [20.0, 20.0], &settings);
        let object = |roi, class, score, bbox| Found { roi, class, score, bbox };
        let clipped = [1.0, 0.0, 11.0, 20.0];
        assert_eq!(found, [object(1, 0, 0.5, a), object(0, 1, 0.3, clipped)]);
        let one = DetectionSettings { top_k: 1, ..settings };
        assert_eq!(detections(&scores, &boxes, 2, [20.0, 20.0], &one), found[..1]);
        let apart = DetectionSettings { nms: 1.0, ..settings };
        let found = detections(&scores, &boxes, 2, [20.0, 20.0], &apart);
        let order: Vec<_> = found.iter().map(|f| (f.roi, f.class)).collect();
        assert_eq!(order, [(1, 0), (0, 0), (0, 1)]);
    }
}
