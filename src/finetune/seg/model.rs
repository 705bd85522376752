//! A net that was fine-tuned for segmentation, ready to say the class of each pixel.

use crate::config::{Config, TestMode};
use crate::cx::Cx;
use crate::data::annotated::{LabelImage, transforms};
use crate::data::{Filter, Image, Input};
use crate::error::Result;
use crate::eval::record::{Learnt, Net};
use crate::export::subnet::stats_from_torch;
use crate::finetune::tuned_net::TunedNet;
use crate::nn::dense::{Fcn, SegNet};
use crate::nn::{BnMode, Params, RunningStats};
use crate::ops::resize_bilinear::resize_bilinear;
use crate::space::Arch;
use crate::tape::Tape;
use crate::tensor::{Shape, Tensor};

/// The net, its batch norms' statistics, and how it is tested.
pub struct SegModel {
    net: SegNet,
    params: Params,
    stats: RunningStats,
    config: Config,
    input: Input,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// How it was learnt.
    pub learnt: Learnt,
    /// Training step of its weights.
    pub step: u64,
}

impl SegModel {
    /// That of a run or an export.
    ///
    /// # Errors
    /// [`crate::Kind::Data`] where tensors are not those of its settings.
    pub fn new(cx: &Cx, tuned: TunedNet) -> Result<Self> {
        let net = net(&tuned)?;
        let TunedNet { config, classes, learnt, step, named, origin, .. } = tuned;
        Ok(Self {
            params: Params::from_torch(cx, net.net().specs(), &named, &origin)?.ready(cx)?,
            stats: stats_from_torch(cx, net.net(), &named, &origin)?,
            input: net.net().space().input(),
            net,
            config,
            classes,
            learnt,
            step,
        })
    }

    /// Its architecture.
    pub fn arch(&self) -> Arch {
        *self.net.arch()
    }

    /// What it is, for results.
    pub fn describe(&self) -> Net {
        let preset = &self.config.preset;
        Net::new(self.arch(), preset, &preset.name, self.step, "student")
    }

    /// The settings that it was trained and is tested with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The class of each pixel of an image.
    ///
    /// # Errors
    /// Those of the ops.
    pub fn predict(&self, cx: &Cx, image: &Image) -> Result<LabelImage> {
        let (width, height) = (image.width, image.height);
        let seg = &self.config.seg;
        let [w, h] = match seg.long {
            0 => [width, height],
            long => transforms::fitted([width, height], [long, seg.short]),
        };
        let resized = match [w, h] == [width, height] {
            true => image.clone(),
            false => transforms::resized(image, [w, h], Filter::Bilinear),
        };
        let pixels = self.input.values(&resized);
        let scores = match seg.test {
            TestMode::Whole => self.scores(cx, &pixels, [h, w])?,
            TestMode::Slide => self.slide(cx, &pixels, [h, w])?,
        };
        let scores = match [w, h] == [width, height] {
            true => scores,
            false => resize_bilinear(cx, &scores, height, width, seg.align_corners)?,
        };
        let classes = self.classes.len();
        let best = |scores: &[f32]| {
            let first = |best: usize, c: usize| if scores[c] > scores[best] { c } else { best };
            (1..classes).fold(0, first) as u8
        };
        let values = cx.download(&scores)?;
        let labels = values.chunks_exact(classes).map(best).collect();
        Ok(LabelImage { width, height, labels })
    }

    /// Scores of each pixel of an input, h×w×C.
    fn scores(&self, cx: &Cx, pixels: &[f32], [h, w]: [usize; 2]) -> Result<Tensor> {
        let channels = self.input.channels();
        let x = cx.upload(Shape::nhwc(1, h, w, channels), cx.dtype(), pixels)?;
        let mut tape = Tape::inference(cx);
        let x = tape.constant(x);
        let mut norm = BnMode::Frozen(&self.stats);
        let scores = self.net.forward(&mut tape, &self.params, x, &mut norm, None, None)?;
        resize_bilinear(cx, scores.main.value(), h, w, self.config.seg.align_corners)
    }

    /// The mean of the scores of all windows that a pixel lies in.
    fn slide(&self, cx: &Cx, pixels: &[f32], [h, w]: [usize; 2]) -> Result<Tensor> {
        let (seg, classes, channels) =
            (&self.config.seg, self.classes.len(), self.input.channels());
        let mut sums = vec![0.0; h * w * classes];
        let mut counts = vec![0.0f32; h * w];
        let (rows, columns) = (seg.crop.min(h), seg.crop.min(w));
        for top in windows(h, seg.crop, seg.slide) {
            for left in windows(w, seg.crop, seg.slide) {
                let starts = (top..top + rows).map(|y| y * w + left);
                let window: Vec<f32> = starts
                    .clone()
                    .flat_map(|at| &pixels[at * channels..(at + columns) * channels])
                    .copied()
                    .collect();
                let scores = self.scores(cx, &window, [rows, columns])?;
                let scores = cx.download(&scores)?;
                for (at, scores) in starts.zip(scores.chunks_exact(columns * classes)) {
                    let sums = &mut sums[at * classes..][..columns * classes];
                    sums.iter_mut().zip(scores).for_each(|(sum, score)| *sum += score);
                    counts[at..at + columns].iter_mut().for_each(|count| *count += 1.0);
                }
            }
        }
        for (sums, count) in sums.chunks_exact_mut(classes).zip(&counts) {
            sums.iter_mut().for_each(|sum| *sum /= count);
        }
        cx.upload(Shape::nhwc(1, h, w, classes), cx.dtype(), &sums)
    }
}

/// The layers that settings ask for.
///
/// # Errors
/// [`crate::Kind::Usage`] for an output stride that the space does not have.
pub fn net(tuned: &TunedNet) -> Result<SegNet> {
    let seg = &tuned.config.seg;
    let (classes, aux) = (tuned.classes.len(), seg.aux_weight > 0.0);
    let fcn = Fcn { classes, channels: seg.channels, aux };
    SegNet::new(&tuned.space()?, fcn, seg.output_stride)
}

/// Where windows of `side` pixels begin that cover `length` pixels, `step` apart at most.
fn windows(length: usize, side: usize, step: usize) -> Vec<usize> {
    let count = length.saturating_sub(side).div_ceil(step) + 1;
    (0..count).map(|i| (i * step).min(length.saturating_sub(side))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_all() {
        assert_eq!(windows(100, 40, 30), [0, 30, 60]);
        assert_eq!(windows(101, 40, 30), [0, 30, 60, 61]);
        assert_eq!(windows(40, 40, 30), [0]);
        assert_eq!(windows(25, 40, 30), [0]);
        // Cityscapes' images at 2049x1025.
        assert_eq!(windows(2049, 769, 513), [0, 513, 1026, 1280]);
        assert_eq!(windows(1025, 769, 513), [0, 256]);
    }
}
