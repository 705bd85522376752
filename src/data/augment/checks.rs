//! Views made on a device against those of the CPU: the same bits, before bf16 rounds them.

use half::bf16;

use super::{RgbImages, ViewFormat};
use crate::cx::Cx;
use crate::data::resample::{Crop, Filter};
use crate::data::views::{Adjust, ViewParams, Views};
use crate::data::{Image, Normalise};
use crate::error::Result;
use crate::ops::check::on_schedules;
use crate::ops::{Check, Outcome};
use crate::rng::{Philox, Purpose};
use crate::tensor::{DType, Meta, Shape};

/// Images and what is made of them.
struct Situation {
    name: &'static str,
    side: usize,
    /// Width and height of each.
    sizes: Vec<(usize, usize)>,
    /// The view of image `i` of a size.
    view: fn(usize, (usize, usize)) -> ViewParams,
}

/// All checks, as (name, check). They skip the CPU, which they compare with.
pub fn checks() -> Vec<(String, Check)> {
    let mut all: Vec<(String, Check)> = Vec::new();
    for (i, situation) in situations().into_iter().enumerate() {
        let name = format!("augment/{}", situation.name);
        // Both types and both widths of a pixel, in turn.
        let channels = 3 + i % 2;
        all.push((name, Box::new(move |cx| against_cpu(cx, &situation, channels))));
    }
    all.push(("augment/images copied ahead".into(), Box::new(copied_ahead)));
    all.push(("augment/what does not fit".into(), Box::new(refuses)));
    all
}

fn situations() -> Vec<Situation> {
    let odd = || vec![(40, 30), (33, 77), (1, 1), (64, 64), (500, 3), (2, 19)];
    let situation = |name, side, sizes, view| Situation { name, side, sizes, view };
    vec![
        situation("moco v2 at 32", 32, odd(), |i, s| draw(Views::moco_v2(), i, s)),
        situation("byol at 32, bicubic", 32, odd(), |i, s| draw(views_of_byol(i), i, s)),
        situation("odd side", 7, odd(), |i, s| draw(Views::moco_v2(), i, s)),
        situation("one pixel a view", 1, odd(), |i, s| draw(views_of_byol(i), i, s)),
        situation("images of one pixel", 9, vec![(1, 1); 3], |i, s| draw(all_on(), i, s)),
        situation("crops of one pixel", 6, vec![(50, 40); 2], |i, _| ViewParams {
            crop: Crop { x: 49 * i, y: 39 * i, width: 1, height: 1 },
            ..plain()
        }),
        situation("large crop", 8, vec![(600, 500), (9, 700)], |i, (width, height)| ViewParams {
            crop: Crop { x: 0, y: 0, width, height },
            filter: [Filter::Bilinear, Filter::Bicubic][i],
            ..plain()
        }),
        situation("all orders of jitter", 5, vec![(11, 13); 24], |i, s| ViewParams {
            adjust: order(i),
            grey: i % 5 == 0,
            ..draw(all_on(), i, s)
        }),
        situation("strong jitter", 16, vec![(16, 16); 12], |i, s| {
            draw(
                Views { brightness: 1.0, contrast: 1.0, saturation: 1.0, hue: 0.5, ..all_on() },
                i,
                s,
            )
        }),
        situation("blur of every width", 9, vec![(20, 20); 6], |i, s| ViewParams {
            blur_sigma: Some([0.01, 0.3, 1.0, 2.0, 7.5, 50.0][i]),
            ..draw(all_on(), i, s)
        }),
        situation("more views than blocks", 2, vec![(3, 2); 260], |i, s| draw(all_on(), i, s)),
        situation("pixels kept in global memory", 80, vec![(60, 90), (100, 81)], |i, s| {
            draw(all_on(), i, s)
        }),
        situation("moco v2 at 224", 224, vec![(260, 200)], |i, s| draw(all_on(), i, s)),
    ]
}

fn draw(views: Views, i: usize, (width, height): (usize, usize)) -> ViewParams {
    views.draw(7, i as u64, (i % 2) as u16, width, height)
}

fn views_of_byol(i: usize) -> Views {
    Views { solarise_p: 0.5, ..Views::byol()[i % 2].clone() }
}

/// Everything but grey happens to every view.
fn all_on() -> Views {
    Views { jitter_p: 1.0, blur_p: 1.0, ..Views::moco_v2() }
}

/// Nothing but a crop.
fn plain() -> ViewParams {
    ViewParams::of(Crop { x: 0, y: 0, width: 1, height: 1 })
}

/// Order `i` of the 24 that four adjustments have.
fn order(i: usize) -> [Option<Adjust>; 4] {
    let mut left = vec![
        Adjust::Brightness(1.3),
        Adjust::Contrast(0.7),
        Adjust::Saturation(1.4),
        Adjust::Hue(-0.09),
    ];
    [i / 6, i / 2 % 3, i % 2, 0].map(|k| Some(left.remove(k)))
}

/// Noise, over which every image has a gradient of its own.
pub(super) fn image(i: usize, (width, height): (usize, usize)) -> Image {
    let mut rng = Philox::new(i as u64, Purpose::Check, width as u64, 0);
    let byte = |k: usize| {
        let slope = (k / 3 * (i + 1) * 255) / (width * height * (i + 1)).max(1);
        (slope / 2 + rng.below(128)) as u8
    };
    Image { width, height, rgb: (0..3 * width * height).map(byte).collect() }
}

fn against_cpu(cx: &Cx, s: &Situation, channels: usize) -> Result<Outcome, String> {
    if !cx.is_device() {
        return Ok(Outcome::Skipped);
    }
    let images: Vec<Image> = s.sizes.iter().enumerate().map(|(i, z)| image(i, *z)).collect();
    let views: Vec<ViewParams> = s.sizes.iter().enumerate().map(|(i, z)| (s.view)(i, *z)).collect();
    let normalise = Views::moco_v2().normalise();
    let run = |cx: &Cx, dtype: DType| -> Result<Vec<f32>> {
        let format = ViewFormat { side: s.side, channels, dtype, normalise: normalise.clone() };
        let views = RgbImages::new(cx, images.clone())?.views(cx, &views, &format)?;
        cx.download(&views)
    };
    let expected = Cx::cpu(1).and_then(|cpu| run(&cpu, DType::F32)).map_err(|e| e.to_string())?;
    for dtype in [DType::F32, DType::BF16] {
        on_schedules(cx, |cx| -> Result<Vec<u32>, String> {
            let found = run(cx, dtype).map_err(|e| e.to_string())?;
            let rounded =
                |x: f32| if dtype == DType::BF16 { bf16::from_f32(x).to_f32() } else { x };
            for (k, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let expected = rounded(*expected);
                if found.to_bits() != expected.to_bits() {
                    let (pixel, c) = (k / channels, k % channels);
                    let (x, row) = (pixel % s.side, pixel / s.side);
                    let (n, y) = (row / s.side, row % s.side);
                    return Err(format!(
                        "{dtype:?}, view {n} at ({x}, {y}), channel {c}: {found}, the CPU has \
                         {expected}; {:?} of {:?}",
                        views[n], s.sizes[n]
                    ));
                }
            }
            Ok(found.into_iter().map(f32::to_bits).collect())
        })?;
    }
    Ok(Outcome::Passed)
}

/// Images that came beside other work have the views of those that were waited for.
fn copied_ahead(cx: &Cx) -> Result<Outcome, String> {
    if !cx.is_device() {
        return Ok(Outcome::Skipped);
    }
    let attempt = || -> Result<[Vec<f32>; 2]> {
        let sizes = [(40, 30), (33, 77), (1, 1), (64, 64)];
        let images: Vec<Image> = sizes.iter().enumerate().map(|(i, z)| image(i, *z)).collect();
        let views: Vec<ViewParams> =
            sizes.iter().enumerate().map(|(i, z)| draw(all_on(), i, *z)).collect();
        let normalise = Views::moco_v2().normalise();
        let format = ViewFormat { side: 9, channels: 3, dtype: DType::F32, normalise };
        let rgb: Vec<u8> = images.iter().flat_map(|image| image.rgb.clone()).collect();
        let arriving = cx.staging_slot(rgb.len() + 1000)?.upload(&rgb)?;
        let expected = RgbImages::new(cx, images)?.views(cx, &views, &format)?;
        let found = RgbImages::on_device(&sizes, arriving.arrive()?)?.views(cx, &views, &format)?;
        Ok([cx.download(&found)?, cx.download(&expected)?])
    };
    let [found, expected] = attempt().map_err(|e| e.to_string())?;
    match found.iter().zip(&expected).position(|(a, b)| a.to_bits() != b.to_bits()) {
        Some(k) => Err(format!("value {k}: {} ahead, {} otherwise", found[k], expected[k])),
        None => Ok(Outcome::Passed),
    }
}

/// Images, crops and formats that do not fit are errors, on every context.
fn refuses(cx: &Cx) -> Result<Outcome, String> {
    let normalise = Normalise::new(&[0.5; 3], &[0.5; 3]);
    let format = ViewFormat { side: 4, channels: 3, dtype: DType::F32, normalise };
    let attempt = |image: Image, views: &[ViewParams], format: &ViewFormat| {
        RgbImages::new(cx, vec![image])?.views(cx, views, format)
    };
    let fine = || image(0, (6, 5));
    attempt(fine(), &[plain()], &format).map_err(|e| e.to_string())?;
    let crop = |x, y, width, height| ViewParams { crop: Crop { x, y, width, height }, ..plain() };
    let bytes = cx.alloc(Meta::new(Shape::vector(22), DType::F32)).map_err(|e| e.to_string())?;
    let cut = RgbImages::on_device(&[(6, 5)], bytes).and_then(|p| p.views(cx, &[plain()], &format));
    let twice = ViewParams { adjust: [Some(Adjust::Contrast(1.0)); 4], ..plain() };
    for (what, result) in [
        ("a view too few", attempt(fine(), &[], &format)),
        ("a crop beyond the image", attempt(fine(), &[crop(3, 0, 4, 1)], &format)),
        ("a crop below the image", attempt(fine(), &[crop(0, 5, 1, 1)], &format)),
        ("an empty crop", attempt(fine(), &[crop(0, 0, 0, 1)], &format)),
        ("contrast twice", attempt(fine(), &[twice], &format)),
        ("an empty image", attempt(Image::default(), &[plain()], &format)),
        ("an image cut short", attempt(Image { rgb: vec![0; 9], ..fine() }, &[plain()], &format)),
        ("images of more bytes than are on the device", cut),
        ("no pixels", attempt(fine(), &[plain()], &ViewFormat { side: 0, ..format.clone() })),
        (
            "two channels",
            attempt(fine(), &[plain()], &ViewFormat { channels: 2, ..format.clone() }),
        ),
    ] {
        if result.is_ok() {
            return Err(format!("took {what}"));
        }
    }
    Ok(Outcome::Passed)
}
