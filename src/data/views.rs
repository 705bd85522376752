//! Augmentation settings, and the draw of one view's parameters. The draw is a pure function
//! of (seed, position in the run, view, size of the image), apart from what
//! [`render`](super::render) then does to the pixels: a kernel can do that instead.

use serde::{Deserialize, Serialize};

use super::Input;
use super::pixels::{IMAGENET_MEAN, IMAGENET_STD, Normalise};
use super::resample::{Crop, Filter};
use crate::error::{Error, Result};
use crate::rng::{Philox, Purpose};

/// How one of an image's two views is made, in this order: random resized crop, colour jitter,
/// grey, blur, solarisation, flip, normalisation. Semantics are torchvision's on PIL images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Views {
    /// Share of the image's area that a crop takes, least and most.
    pub crop_scale: [f32; 2],
    /// Width over height of a crop, least and most; drawn uniformly in its logarithm.
    pub crop_ratio: [f32; 2],
    /// Whether these are relative to the image's own: 1 keeps its shape, and the view squeezes it.
    pub squeeze: bool,
    /// Filter of the resize.
    pub filter: Filter,
    /// Probability of colour jitter.
    pub jitter_p: f32,
    /// Brightness is multiplied by 1 ± at most this.
    pub brightness: f32,
    /// Contrast is multiplied by 1 ± at most this.
    pub contrast: f32,
    /// Saturation is multiplied by 1 ± at most this.
    pub saturation: f32,
    /// Hue is turned by at most ± this share of the circle; at most 0.5.
    pub hue: f32,
    /// Probability of grey.
    pub grey_p: f32,
    /// Probability of Gaussian blur.
    pub blur_p: f32,
    /// Its standard deviation in pixels of the view, least and most.
    pub blur_sigma: [f32; 2],
    /// Probability of solarisation.
    pub solarise_p: f32,
    /// Values from this on are inverted by it.
    pub solarise_threshold: u8,
    /// Probability of a horizontal flip.
    pub flip_p: f32,
    /// Mean that is subtracted from each channel, on [0, 1].
    pub mean: Vec<f32>,
    /// Deviation that is divided by; as many.
    pub std: Vec<f32>,
}

impl Views {
    /// MoCo v2's view (Chen et al., 2020), which both views of an image follow.
    pub fn moco_v2() -> Self {
        Self {
            crop_scale: [0.2, 1.0],
            crop_ratio: [3.0 / 4.0, 4.0 / 3.0],
            squeeze: false,
            filter: Filter::Bilinear,
            jitter_p: 0.8,
            brightness: 0.4,
            contrast: 0.4,
            saturation: 0.4,
            hue: 0.1,
            grey_p: 0.2,
            blur_p: 0.5,
            blur_sigma: [0.1, 2.0],
            solarise_p: 0.0,
            solarise_threshold: 128,
            flip_p: 0.5,
            mean: IMAGENET_MEAN.to_vec(),
            std: IMAGENET_STD.to_vec(),
        }
    }

    /// The same, normalised as `input` is.
    pub fn of(self, input: &Input) -> Self {
        Self { mean: input.mean.clone(), std: input.std.clone(), ..self }
    }

    /// Crop and flip only: the teacher's view of ReSSL (Zheng et al., 2021).
    pub fn weak() -> Self {
        Self { jitter_p: 0.0, grey_p: 0.0, blur_p: 0.0, ..Self::moco_v2() }
    }

    /// BYOL's two views (Grill et al., 2020): bicubic, always and seldom blurred, the second
    /// solarised now and then.
    pub fn byol() -> [Self; 2] {
        let base = Self {
            crop_scale: [0.08, 1.0],
            filter: Filter::Bicubic,
            saturation: 0.2,
            ..Self::moco_v2()
        };
        [Self { blur_p: 1.0, ..base.clone() }, Self { blur_p: 0.1, solarise_p: 0.2, ..base }]
    }

    /// Errors ([`Kind::Usage`](crate::Kind::Usage)) where a setting is out of its range.
    pub fn check(&self) -> Result<()> {
        let probabilities = [
            ("jitter_p", self.jitter_p),
            ("grey_p", self.grey_p),
            ("blur_p", self.blur_p),
            ("solarise_p", self.solarise_p),
            ("flip_p", self.flip_p),
        ];
        for (name, p) in probabilities {
            expect((0.0..=1.0).contains(&p), name, "a probability, 0 to 1", p)?;
        }
        let strengths = [
            ("brightness", self.brightness, 1.0),
            ("contrast", self.contrast, 1.0),
            ("saturation", self.saturation, 1.0),
            ("hue", self.hue, 0.5),
        ];
        for (name, s, most) in strengths {
            expect((0.0..=most).contains(&s), name, &format!("0 to {most}"), s)?;
        }
        let ranges = [
            ("crop_scale", self.crop_scale, 1.0),
            ("crop_ratio", self.crop_ratio, 100.0),
            ("blur_sigma", self.blur_sigma, 50.0),
        ];
        for (name, [lo, hi], most) in ranges {
            let wanted = format!("two numbers above 0, rising, at most {most}");
            expect(0.0 < lo && lo <= hi && hi <= most, name, &wanted, format!("[{lo}, {hi}]"))?;
        }
        for (name, v) in [("mean", &self.mean), ("std", &self.std)] {
            let fine = v.iter().all(|x| x.is_finite() && (name == "mean" || *x > 0.0));
            let fine = fine && !v.is_empty() && v.len() == self.mean.len();
            let wanted = "a finite number for each channel, above 0 for std";
            expect(fine, name, wanted, format!("{v:?}"))?;
        }
        let turned = self.jitter_p > 0.0 && (self.saturation > 0.0 || self.hue > 0.0);
        if self.mean.len() != 3 && (turned || self.grey_p > 0.0) {
            return Err(Error::usage(format!(
                "views: expected no saturation, hue and grey for images of {} channels, which are no \
                 RGB images",
                self.mean.len()
            )));
        }
        Ok(())
    }

    /// The tables that [`render`](super::render) normalises with.
    pub fn normalise(&self) -> Normalise {
        Normalise::new(&self.mean, &self.std)
    }

    /// The parameters of view `view` (0 or 1) of the image at `position` of the run, counted
    /// from the first image of the first step, for an image of `width`×`height`.
    pub fn draw(
        &self,
        seed: u64,
        position: u64,
        view: u16,
        width: usize,
        height: usize,
    ) -> ViewParams {
        let mut rng = Philox::new(seed, Purpose::Augment, position, view);
        let adjust = if rng.chance(self.jitter_p) { self.draw_jitter(&mut rng) } else { [None; 4] };
        let grey = rng.chance(self.grey_p);
        let blur = rng.chance(self.blur_p);
        let sigma = rng.range(self.blur_sigma[0], self.blur_sigma[1]);
        let solarise = rng.chance(self.solarise_p);
        let flip = rng.chance(self.flip_p);
        ViewParams {
            crop: self.draw_crop(&mut rng, width, height),
            filter: self.filter,
            adjust,
            grey,
            blur_sigma: blur.then_some(sigma),
            solarise: solarise.then_some(self.solarise_threshold),
            flip,
        }
    }

    /// Torchvision's `ColorJitter`: a factor each, in random order. What has no strength is
    /// left out.
    fn draw_jitter(&self, rng: &mut Philox) -> [Option<Adjust>; 4] {
        let mut factor = |strength: f32| rng.range((1.0 - strength).max(0.0), 1.0 + strength);
        let b = Adjust::Brightness(factor(self.brightness));
        let c = Adjust::Contrast(factor(self.contrast));
        let s = Adjust::Saturation(factor(self.saturation));
        let h = Adjust::Hue(rng.range(-self.hue, self.hue));
        let mut all = [
            (self.brightness > 0.0).then_some(b),
            (self.contrast > 0.0).then_some(c),
            (self.saturation > 0.0).then_some(s),
            (self.hue > 0.0).then_some(h),
        ];
        rng.shuffle(&mut all);
        all
    }

    /// Torchvision's `RandomResizedCrop.get_params`: ten tries, then the largest centred crop of
    /// a permitted shape.
    fn draw_crop(&self, rng: &mut Philox, width: usize, height: usize) -> Crop {
        let (w, h) = (width as f64, height as f64);
        let own = if self.squeeze { w / h } else { 1.0 };
        let [lo, hi] = self.crop_ratio.map(|ratio| own * f64::from(ratio));
        for _ in 0..10 {
            let area = w * h * f64::from(rng.range(self.crop_scale[0], self.crop_scale[1]));
            let ratio = f64::from(rng.range(lo.ln() as f32, hi.ln() as f32)).exp();
            let cw = (area * ratio).sqrt().round_ties_even() as usize;
            let ch = (area / ratio).sqrt().round_ties_even() as usize;
            if (1..=width).contains(&cw) && (1..=height).contains(&ch) {
                let y = rng.below(height - ch + 1);
                let x = rng.below(width - cw + 1);
                return Crop { x, y, width: cw, height: ch };
            }
        }
        let shape = w / h;
        let (cw, ch) = if shape < lo {
            (width, (w / lo).round_ties_even() as usize)
        } else if shape > hi {
            ((h * hi).round_ties_even() as usize, height)
        } else {
            (width, height)
        };
        let (cw, ch) = (cw.clamp(1, width), ch.clamp(1, height));
        Crop { x: (width - cw) / 2, y: (height - ch) / 2, width: cw, height: ch }
    }
}

fn expect(fine: bool, name: &str, wanted: &str, found: impl std::fmt::Display) -> Result<()> {
    if fine {
        return Ok(());
    }
    Err(Error::usage(format!("views.{name}: expected {wanted}, found {found}")))
}

/// One step of colour jitter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Adjust {
    /// Blend with black: the factor of the image.
    Brightness(f32),
    /// Blend with the mean of its grey values: the factor of the image.
    Contrast(f32),
    /// Blend with its own grey: the factor of the image.
    Saturation(f32),
    /// Turn of the hue, as a share of the circle, −0.5 to 0.5.
    Hue(f32),
}

/// Everything random about one view of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewParams {
    /// What is cut out and resized.
    pub crop: Crop,
    /// How it is resized.
    pub filter: Filter,
    /// Colour jitter, in this order.
    pub adjust: [Option<Adjust>; 4],
    /// Whether the view is grey.
    pub grey: bool,
    /// Standard deviation of the blur in pixels of the view.
    pub blur_sigma: Option<f32>,
    /// Threshold of solarisation.
    pub solarise: Option<u8>,
    /// Whether left and right change places.
    pub flip: bool,
}

impl ViewParams {
    /// A part of the image, resized and not changed.
    pub fn of(crop: Crop) -> Self {
        Self {
            crop,
            filter: Filter::Bilinear,
            adjust: [None; 4],
            grey: false,
            blur_sigma: None,
            solarise: None,
            flip: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_stay_in_range_and_follow_their_probabilities() {
        let views = Views::moco_v2();
        let n = 4000;
        let (mut blur, mut grey, mut flip, mut jitter) = (0, 0, 0, 0);
        for p in 0..n {
            let v = views.draw(3, p, 0, 500, 375);
            let c = v.crop;
            assert!(c.x + c.width <= 500 && c.y + c.height <= 375);
            let share = (c.width * c.height) as f64 / (500.0 * 375.0);
            let ratio = c.width as f64 / c.height as f64;
            assert!((0.195..=1.0).contains(&share), "{share}");
            assert!((0.74..=1.35).contains(&ratio), "{ratio}");
            blur += u64::from(v.blur_sigma.is_some_and(|s| (0.1..2.0).contains(&s)));
            grey += u64::from(v.grey);
            flip += u64::from(v.flip);
            jitter += u64::from(v.adjust[0].is_some());
        }
        for (hits, p) in [(blur, 0.5), (grey, 0.2), (flip, 0.5), (jitter, 0.8)] {
            assert!((hits as f64 / n as f64 - p).abs() < 0.03, "{hits} of {n}, expected {p}");
        }
    }

    #[test]
    fn extreme_shapes_fall_back_to_the_centre() {
        let c = Views { crop_scale: [1.0, 1.0], ..Views::moco_v2() }.draw(0, 0, 0, 1000, 10).crop;
        assert_eq!(c, Crop { x: 493, y: 0, width: 13, height: 10 });
        let c = Views::moco_v2().draw(0, 0, 1, 1, 1).crop;
        assert_eq!(c, Crop { x: 0, y: 0, width: 1, height: 1 });
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let bad = Views { blur_sigma: [2.0, 1.0], ..Views::moco_v2() }.check().unwrap_err();
        assert!(bad.to_string().contains("views.blur_sigma"), "{bad}");
        assert!(Views { flip_p: f32::NAN, ..Views::moco_v2() }.check().is_err());
        Views::byol().iter().chain([&Views::weak()]).for_each(|v| v.check().unwrap());
    }
}
