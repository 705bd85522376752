//! Which anchors and proposals of an image losses are computed of, and what they should become.

use super::anchors::Anchors;
use super::coder::Coder;
use super::corners::Corners;
use super::matcher::{Label, Matcher, Matches};
use crate::rng::Philox;

/// How many boxes of an image are sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    /// At most, all together.
    pub boxes: usize,
    /// Positive ones, at most.
    pub positives: usize,
}

/// An anchor that is sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AnchorSample {
    /// Its level, from 0.
    pub level: usize,
    /// Its index within the level.
    pub index: usize,
    /// What its box should differ by, if it stands for an object.
    pub deltas: Option<[f32; 4]>,
}

/// A proposal that is sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoiSample {
    /// Its box.
    pub roi: Corners,
    /// The true box that it stands for, and what it should differ by; of the background none.
    pub target: Option<(usize, [f32; 4])>,
}

impl Sampler {
    /// 256 anchors, half of them positive.
    pub const RPN: Self = Self { boxes: 256, positives: 128 };
    /// 512 proposals, a quarter of them positive.
    pub const ROI: Self = Self { boxes: 512, positives: 128 };

    /// Indices of positive and of negative boxes, each ascending. Where there are more than wanted,
    /// each set is as likely as any other; negative ones take the place of positive ones that there
    /// are too few of.
    pub fn choose(&self, labels: &[Label], rng: &mut Philox) -> [Vec<usize>; 2] {
        let mut some = |label: Label, most: usize| {
            let of_label = labels.iter().enumerate().filter(|(_, l)| **l == label);
            let mut all: Vec<usize> = of_label.map(|(i, _)| i).collect();
            if all.len() > most {
                for i in 0..most {
                    let j = i + rng.below(all.len() - i);
                    all.swap(i, j);
                }
                all.truncate(most);
                all.sort_unstable();
            }
            all
        };
        let positive = some(Label::Positive, self.positives.min(self.boxes));
        let negative = some(Label::Negative, self.boxes - positive.len());
        [positive, negative]
    }

    /// Matches anchors with true boxes, samples, and encodes: positive ones first.
    pub fn anchors(
        &self,
        levels: &[Anchors],
        truths: &[Corners],
        (matcher, coder): (Matcher, Coder),
        rng: &mut Philox,
    ) -> Vec<AnchorSample> {
        let Matches { labels, truth } = matcher.anchors(levels, truths);
        let [positive, negative] = self.choose(&labels, rng);
        let sample = |i: usize, is_object: bool| {
            let (mut level, mut index) = (0, i);
            while index >= levels[level].len() {
                index -= levels[level].len();
                level += 1;
            }
            let deltas = || coder.encode(&levels[level].get(index), &truths[truth[i] as usize]);
            AnchorSample { level, index, deltas: is_object.then(deltas) }
        };
        let positive = positive.into_iter().map(|i| sample(i, true));
        positive.chain(negative.into_iter().map(|i| sample(i, false))).collect()
    }

    /// The same of proposals, to which the true boxes are added.
    pub fn rois(
        &self,
        proposals: &[Corners],
        truths: &[Corners],
        (matcher, coder): (Matcher, Coder),
        rng: &mut Philox,
    ) -> Vec<RoiSample> {
        let rois = [proposals, truths].concat();
        let Matches { labels, truth } = matcher.boxes(&rois, truths);
        let [positive, negative] = self.choose(&labels, rng);
        let object = |i: usize| {
            let (roi, t) = (rois[i], truth[i] as usize);
            RoiSample { roi, target: Some((t, coder.encode(&roi, &truths[t]))) }
        };
        let background = |i: usize| RoiSample { roi: rois[i], target: None };
        positive.into_iter().map(object).chain(negative.into_iter().map(background)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    fn rng(a: u64) -> Philox {
        Philox::new(5, Purpose::Anchors, a, 0)
    }

    #[test]
    fn boxes_are_drawn_evenly_and_negatives_fill_up() {
        let labels: Vec<Label> = (0..100)
            .map(|i| match i % 10 {
                0..3 => Label::Positive,
                3 => Label::Ignored,
                _ => Label::Negative,
            })
            .collect();
        let sampler = Sampler { boxes: 20, positives: 10 };
        let mut met = [0; 100];
        for draw in 0..3000 {
            let [positive, negative] = sampler.choose(&labels, &mut rng(draw));
            assert_eq!((positive.len(), negative.len()), (10, 10));
            assert!(positive.is_sorted() && negative.is_sorted());
            positive.into_iter().chain(negative).for_each(|i| met[i] += 1);
        }
        for (i, (met, label)) in met.into_iter().zip(&labels).enumerate() {
            let expected = match label {
                Label::Positive => 1000,
                Label::Ignored => 0,
                Label::Negative => 500,
            };
            assert!(i32::abs(met - expected) <= 120, "{i}: {met}");
        }
        assert_eq!(sampler.choose(&labels, &mut rng(1)), sampler.choose(&labels, &mut rng(1)));
        let [positive, negative] = sampler.choose(&labels[..14], &mut rng(0));
        assert_eq!((positive, negative.len()), (vec![0, 1, 2, 10, 11, 12], 6));
        let none = Sampler { boxes: 9, positives: 5 }.choose(&[Label::Negative; 20], &mut rng(0));
        assert_eq!(none.map(|list| list.len()), [0, 9]);
    }

    #[test]
    fn samples_carry_their_targets() {
        let levels =
            [Anchors::new(8, &[16.0], &[1.0], [8, 8]), Anchors::new(16, &[32.0], &[1.0], [4, 4])];
        let truths = [levels[0].get(9), levels[1].get(5)];
        let how = (Matcher::RPN, Coder::RPN);
        let found = Sampler::RPN.anchors(&levels, &truths, how, &mut rng(0));
        for (level, index) in [(0, 9), (1, 5)] {
            let sample = AnchorSample { level, index, deltas: Some([0.0; 4]) };
            assert!(found.contains(&sample), "{sample:?}");
        }
        assert!(found.iter().all(|s| s.index < levels[s.level].len()));
        let all = Sampler::RPN.anchors(&levels, &[], how, &mut rng(0));
        assert_eq!((all.len(), all.iter().any(|s| s.deltas.is_some())), (80, false));

        let moved = truths[1].map(|v| v + 2.0);
        let how = (Matcher::ROI, Coder::ROI);
        let found = Sampler::ROI.rois(&[[0.0, 0.0, 3.0, 3.0], moved], &truths, how, &mut rng(0));
        let targets: Vec<_> = found.iter().map(|s| s.target.map(|(t, _)| t)).collect();
        assert_eq!(targets, [Some(1), Some(0), Some(1), None]);
        assert_eq!(found[0].target, Some((1, [-0.625, -0.625, 0.0, 0.0])));
        assert_eq!(found[1].roi, truths[0]);
    }
}
