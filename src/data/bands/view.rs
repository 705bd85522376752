//! Views of images with any number of channels, in f32 on [0, 1]. What each step means for RGB images
//! is in `augment`; here contrast is each channel's own, and nothing is done to colours.

use super::Bands;
use crate::data::eval::{centre_window, whole};
use crate::data::pixels::Normalise;
use crate::data::resample::{Crop, Filter, PlaneScratch, Window, resize_plane};
use crate::data::views::{Adjust, ViewParams};

/// Makes one view: `out` becomes `side`×`side`×channels, normalised.
pub(super) fn render(
    bands: &Bands,
    params: &ViewParams,
    normalise: &Normalise,
    side: usize,
    out: &mut [f32],
) {
    let window = Window { width: side, height: side, x: 0, y: 0 };
    each(bands, (params.crop, params.filter, window), normalise, side, out, |plane| {
        for adjust in params.adjust.iter().flatten() {
            adapt(plane, *adjust);
        }
        if let Some(sigma) = params.blur_sigma {
            blur(plane, side, sigma);
        }
        if let Some(threshold) = params.solarise {
            let threshold = f32::from(threshold) / 255.0;
            plane.iter_mut().filter(|v| **v >= threshold).for_each(|v| *v = 1.0 - *v);
        }
        if params.flip {
            plane.chunks_exact_mut(side).for_each(<[f32]>::reverse);
        }
    });
}

/// The centre, resized.
pub(super) fn centre(bands: &Bands, normalise: &Normalise, side: usize, out: &mut [f32]) {
    let (width, height) = (bands.width, bands.height);
    let window = centre_window(width, height, side);
    let part = (whole(width, height), Filter::Bilinear, window);
    each(bands, part, normalise, side, out, |_| ());
}

/// Resizes each channel, changes it, and writes it out, normalised.
fn each(
    bands: &Bands,
    (crop, filter, window): (Crop, Filter, Window),
    normalise: &Normalise,
    side: usize,
    out: &mut [f32],
    change: impl Fn(&mut [f32]),
) {
    let channels = bands.planes().len();
    let mut scratch = PlaneScratch::new(filter, crop, window, side);
    let mut plane = vec![0.0; side * side];
    for (c, samples) in bands.planes().enumerate() {
        resize_plane(samples, bands.width, &mut scratch, &mut plane);
        change(&mut plane);
        let (scale, shift) = normalise.of_unit(c);
        let values = out.iter_mut().skip(c).step_by(channels);
        values.zip(&plane).for_each(|(out, v)| *out = v * scale + shift);
    }
}

/// One step of jitter; colours were refused before.
fn adapt(plane: &mut [f32], adjust: Adjust) {
    let (with, factor) = match adjust {
        Adjust::Brightness(factor) => (0.0, factor),
        Adjust::Contrast(factor) => {
            let sum: f64 = plane.iter().map(|v| f64::from(*v)).sum();
            ((sum / plane.len() as f64) as f32, factor)
        }
        Adjust::Saturation(_) | Adjust::Hue(_) => return,
    };
    plane.iter_mut().for_each(|v| *v = (with + (*v - with) * factor).clamp(0.0, 1.0));
}

/// Gaussian blur with the edges repeated, as far as three deviations.
fn blur(plane: &mut [f32], side: usize, sigma: f32) {
    let reach = (3.0 * sigma).ceil() as usize;
    let weight = |k: usize| {
        let x = (k as f32 - reach as f32) / sigma;
        (-0.5 * x * x).exp()
    };
    let weights: Vec<f32> = (0..=2 * reach).map(weight).collect();
    let sum: f32 = weights.iter().sum();
    let mut from = vec![0.0; plane.len()];
    // Along rows, then along columns.
    for step in [1, side] {
        from.copy_from_slice(plane);
        for (i, out) in plane.iter_mut().enumerate() {
            let at = i / step % side;
            let start = i - at * step;
            let value = |k: usize| {
                let place = (at + k).saturating_sub(reach).min(side - 1);
                from[start + place * step]
            };
            *out = weights.iter().enumerate().map(|(k, w)| w * value(k)).sum::<f32>() / sum;
        }
    }
}
