//! Makes a view of an image, given its parameters. Values stay 8-bit between the steps, and
//! every step rounds as PIL does, so that views are those that published recipes trained on.

use std::cell::RefCell;

use crate::data::blur::blur;
use crate::data::pixels::Normalise;
use crate::data::resample::{ResizeScratch, Window, resize, to_u8};
use crate::data::views::{Adjust, ViewParams};
use crate::data::{Image, vectorised};

/// Memory that [`render`] uses again and again; one a thread.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(in crate::data) resize: ResizeScratch,
    pub(in crate::data) planes: Vec<u8>,
    other: Vec<u8>,
    padded: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Calls `use_it` with this thread's scratch memory.
pub(in crate::data) fn with_scratch<T>(use_it: impl FnOnce(&mut Scratch) -> T) -> T {
    SCRATCH.with_borrow_mut(use_it)
}

/// Pixels that colour is adjusted in at a time: what lies in the first-level cache as f32.
const BLOCK: usize = 1024;

/// Makes one view: `out` becomes `side`×`side`×3, normalised.
pub fn render(
    image: &Image,
    params: &ViewParams,
    normalise: &Normalise,
    side: usize,
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    let Scratch { resize: r, planes, other, padded } = scratch;
    let window = Window { width: side, height: side, x: 0, y: 0 };
    resize(image, params.crop, params.filter, window, [side; 2], r, planes);
    adjust_colours(planes, &params.adjust, params.grey);
    if let Some(sigma) = params.blur_sigma {
        blur(planes, other, padded, side, sigma);
    }
    if let Some(threshold) = params.solarise {
        for v in planes.iter_mut().filter(|v| **v >= threshold) {
            *v = 255 - *v;
        }
    }
    write_normalised(planes, normalise, side, params.flip, out);
}

/// Planes of bytes to normalised pixels, N×H×W×C order. Turns the rows of `planes` round where
/// `flip` says so.
pub(in crate::data) fn write_normalised(
    planes: &mut [u8],
    normalise: &Normalise,
    side: usize,
    flip: bool,
    out: &mut [f32],
) {
    if flip {
        planes.chunks_exact_mut(side).for_each(<[u8]>::reverse);
    }
    let (red, rest) = planes.split_at(side * side);
    let (green, blue) = rest.split_at(side * side);
    interleave(red, green, blue, normalise, out);
}

vectorised! {
    fn interleave(red: &[u8], green: &[u8], blue: &[u8], normalise: &Normalise, out: &mut [f32]) {
        let [scale, shift] = normalise.of_bytes();
        let (out, _) = out.as_chunks_mut::<3>();
        for (((pixel, &r), &g), &b) in out.iter_mut().zip(red).zip(green).zip(blue) {
            pixel[0] = f32::from(r) * scale[0] + shift[0];
            pixel[1] = f32::from(g) * scale[1] + shift[1];
            pixel[2] = f32::from(b) * scale[2] + shift[2];
        }
    }
}

/// Colour jitter and grey. Contrast needs the mean of what comes before it, hence two passes.
fn adjust_colours(planes: &mut [u8], adjust: &[Option<Adjust>; 4], grey: bool) {
    let mut before = [Step::None; 5];
    let mut after = [Step::None; 5];
    let mut contrast = None;
    for (i, a) in adjust.iter().enumerate() {
        let step = match *a {
            None => continue,
            Some(Adjust::Contrast(factor)) => {
                contrast = Some((i, factor));
                continue;
            }
            Some(Adjust::Brightness(factor)) => Step::Blend { with: 0.0, factor },
            Some(Adjust::Saturation(factor)) => Step::Saturate(factor),
            Some(Adjust::Hue(turn)) => Step::Turn(hue_levels(turn)),
        };
        if contrast.is_none() { before[i] = step } else { after[i] = step }
    }
    if grey {
        after[4] = Step::Grey;
    }
    if let Some((i, factor)) = contrast {
        let sum = pass(planes, &before, true);
        let pixels = planes.len() as u64 / 3;
        let mean = ((sum as f64 / pixels as f64) + 0.5) as u64;
        after[i] = Step::Blend { with: mean as f32, factor };
        pass(planes, &after, false);
    } else {
        before[4] = after[4];
        pass(planes, &before, false);
    }
}

/// A turn of the hue in 1/255 of the circle, towards zero, as torchvision has it.
pub(super) fn hue_levels(turn: f32) -> f32 {
    (turn * 255.0) as i32 as f32
}

/// What is done to the colour of each pixel by itself.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    None,
    Blend { with: f32, factor: f32 },
    Saturate(f32),
    Turn(f32),
    Grey,
}

/// Carries steps out on all pixels; returns the sum of the grey values that come of it where
/// that is asked for.
fn pass(planes: &mut [u8], steps: &[Step; 5], with_sum: bool) -> u64 {
    let nothing = steps.iter().all(|s| *s == Step::None);
    if nothing && !with_sum {
        return 0;
    }
    let pixels = planes.len() / 3;
    let (red, rest) = planes.split_at_mut(pixels);
    let (green, blue) = rest.split_at_mut(pixels);
    let blocks = red.chunks_mut(BLOCK).zip(green.chunks_mut(BLOCK)).zip(blue.chunks_mut(BLOCK));
    let mut sum = 0;
    for ((red, green), blue) in blocks {
        let mut colours = Colours::load(red, green, blue);
        for step in steps {
            match *step {
                Step::None => {}
                Step::Blend { with, factor } => blend(&mut colours, with, factor),
                Step::Saturate(factor) => saturate(&mut colours, factor),
                Step::Turn(turn) => turn_hue(&mut colours, turn),
                Step::Grey => make_grey(&mut colours),
            }
        }
        if with_sum {
            sum_grey(&colours, &mut sum);
        }
        if !nothing {
            store(&colours, red, green, blue);
        }
    }
    sum
}

/// A block of pixels: whole numbers 0..=255 as f32, of which the first `len` are used.
struct Colours {
    r: [f32; BLOCK],
    g: [f32; BLOCK],
    b: [f32; BLOCK],
    len: usize,
}

impl Colours {
    fn load(red: &[u8], green: &[u8], blue: &[u8]) -> Self {
        let mut colours =
            Self { r: [0.0; BLOCK], g: [0.0; BLOCK], b: [0.0; BLOCK], len: red.len() };
        load_into(&mut colours, red, green, blue);
        colours
    }
}

vectorised! {
    fn load_into(c: &mut Colours, red: &[u8], green: &[u8], blue: &[u8]) {
        for (to, from) in [(&mut c.r, red), (&mut c.g, green), (&mut c.b, blue)] {
            for (t, f) in to.iter_mut().zip(from) {
                *t = f32::from(*f);
            }
        }
    }
}

vectorised! {
    fn store(c: &Colours, red: &mut [u8], green: &mut [u8], blue: &mut [u8]) {
        for (from, to) in [(&c.r, red), (&c.g, green), (&c.b, blue)] {
            for (t, f) in to.iter_mut().zip(from) {
                *t = to_u8(*f);
            }
        }
    }
}

/// The part before the point of a number that is at least 0 (and below 2³¹).
#[inline(always)]
fn floor(x: f32) -> f32 {
    // SAFETY: all callers pass finite numbers in that range.
    unsafe { x.to_int_unchecked::<i32>() as f32 }
}

/// PIL's grey, ITU-R 601 in 16-bit fixed point. All sums stay below 2²⁴, so f32 is exact.
#[inline(always)]
fn grey_of(r: f32, g: f32, b: f32) -> f32 {
    floor((19595.0 * r + 38470.0 * g + 7471.0 * b + 32768.0) * (1.0 / 65536.0))
}

/// PIL's blend: from `with` towards `v`, beyond it where `factor` is above 1, without rounding.
#[inline(always)]
fn mix(with: f32, v: f32, factor: f32) -> f32 {
    floor((with + factor * (v - with)).clamp(0.0, 255.0))
}

vectorised! {
    fn blend(c: &mut Colours, with: f32, factor: f32) {
        for plane in [&mut c.r, &mut c.g, &mut c.b] {
            for v in &mut plane[..c.len] {
                *v = mix(with, *v, factor);
            }
        }
    }
}

vectorised! {
    fn saturate(c: &mut Colours, factor: f32) {
        for i in 0..c.len.min(BLOCK) {
            let grey = grey_of(c.r[i], c.g[i], c.b[i]);
            c.r[i] = mix(grey, c.r[i], factor);
            c.g[i] = mix(grey, c.g[i], factor);
            c.b[i] = mix(grey, c.b[i], factor);
        }
    }
}

vectorised! {
    fn make_grey(c: &mut Colours) {
        for i in 0..c.len.min(BLOCK) {
            let grey = grey_of(c.r[i], c.g[i], c.b[i]);
            (c.r[i], c.g[i], c.b[i]) = (grey, grey, grey);
        }
    }
}

vectorised! {
    fn sum_grey(c: &Colours, sum: &mut u64) {
        // Whole numbers: 1024 · 255 is exact in i32, in any order.
        let mut total = 0i32;
        for i in 0..c.len.min(BLOCK) {
            // SAFETY: 0..=255.
            total += unsafe { grey_of(c.r[i], c.g[i], c.b[i]).to_int_unchecked::<i32>() };
        }
        *sum += total as u64;
    }
}

vectorised! {
    /// PIL's way through HSV with 8 bits each, in which `turn` (in 1/255 of the circle) is added
    /// to the hue and wraps at 256. Branchless: every case is computed, then chosen.
    fn turn_hue(c: &mut Colours, turn: f32) {
        let turn = if turn < 0.0 { turn + 256.0 } else { turn };
        for i in 0..c.len.min(BLOCK) {
            let (r, g, b) = (c.r[i], c.g[i], c.b[i]);
            let value = r.max(g).max(b);
            let range = value - r.min(g).min(b);
            // Where all three are equal, saturation is 0 and the hue does not matter.
            let apart = range.max(1.0);
            let (rc, gc, bc) = ((value - r) / apart, (value - g) / apart, (value - b) / apart);
            let sector = if r == value {
                bc - gc
            } else if g == value {
                2.0 + rc - bc
            } else {
                4.0 + gc - rc
            };
            let around = sector / 6.0;
            let around = if around < 0.0 { around + 1.0 } else { around };
            let hue = floor(around * 255.0) + turn;
            let hue = if hue >= 256.0 { hue - 256.0 } else { hue };
            let saturation = floor(range / value.max(1.0) * 255.0) / 255.0;
            // Each channel falls from `value` by a trapezoid around its opposite hue.
            let sixths = hue * 6.0 / 255.0;
            let channel = |offset: f32| {
                let k = sixths + offset;
                let k = if k >= 6.0 { k - 6.0 } else { k };
                let depth = k.min(4.0 - k).clamp(0.0, 1.0);
                floor(value - value * saturation * depth + 0.5)
            };
            (c.r[i], c.g[i], c.b[i]) = (channel(5.0), channel(3.0), channel(1.0));
        }
    }
}
