//! Resizing as PIL does it: a filter as wide as the scale asks (so that nothing aliases),
//! horizontally, then vertically, with 8 bits in between.

use super::{Image, vectorised};

/// Part of an image, in its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crop {
    /// Left edge.
    pub x: usize,
    /// Upper edge.
    pub y: usize,
    /// Width, at least 1.
    pub width: usize,
    /// Height, at least 1.
    pub height: usize,
}

crate::choice! {
    /// The filter of a resize.
    pub enum Filter("filter") {
        /// A triangle.
        Bilinear = "bilinear",
        /// Keys' cubic with a = −0.5.
        Bicubic = "bicubic",
    }
}

impl Filter {
    /// Half its width at scale 1.
    pub(super) fn support(self) -> f64 {
        match self {
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
        }
    }

    fn at(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let x = x.abs();
        match self {
            Filter::Bilinear => (1.0 - x).max(0.0),
            Filter::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Filter::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            Filter::Bicubic => 0.0,
        }
    }
}

/// Along one axis: output `i` is Σ_k `weights[i·taps + k]` · input `first[i] + k`.
#[derive(Debug, Default)]
struct Axis {
    first: Vec<usize>,
    weights: Vec<f32>,
    taps: usize,
    row: Vec<f64>,
}

impl Axis {
    /// For outputs `start .. start + count` of a resize from `input` to `output` samples.
    fn plan(&mut self, filter: Filter, input: usize, output: usize, start: usize, count: usize) {
        let scale = input as f64 / output as f64;
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let window = |i: usize| {
            let centre = ((start + i) as f64 + 0.5) * scale;
            let lo = ((centre - support + 0.5) as usize).min(input - 1);
            let hi = ((centre + support + 0.5) as usize).clamp(lo + 1, input);
            (centre, lo, hi)
        };
        self.taps = (0..count).map(&window).map(|(_, lo, hi)| hi - lo).max().unwrap_or(1);
        self.first.clear();
        self.weights.clear();
        for i in 0..count {
            let (centre, lo, hi) = window(i);
            self.row.clear();
            self.row.extend((lo..hi).map(|x| filter.at((x as f64 - centre + 0.5) / stretch)));
            let sum: f64 = self.row.iter().sum();
            // Every output has the same number of taps; those it does not need weigh nothing.
            let first = lo.min(input - self.taps);
            self.first.push(first);
            self.weights.extend(std::iter::repeat_n(0.0, lo - first));
            self.weights.extend(self.row.iter().map(|w| (w / sum) as f32));
            self.weights.extend(std::iter::repeat_n(0.0, self.taps - (lo - first) - (hi - lo)));
        }
    }
}

/// Memory that a resize uses again and again.
#[derive(Debug, Default)]
pub(super) struct ResizeScratch {
    across: Axis,
    down: Axis,
    /// One row of the image.
    line: Vec<f32>,
    /// A row that was resized, before it is rounded.
    sums: Vec<[f32; 4]>,
    /// All rows, resized horizontally; four bytes a pixel, of which the last means nothing.
    between: Vec<[u8; 4]>,
    /// One row, resized both ways.
    done: Vec<[u8; 4]>,
}

/// Where in the resized image the part that is kept begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Size of the whole resized image.
    pub width: usize,
    pub height: usize,
    /// Left and upper edge of what is kept.
    pub x: usize,
    pub y: usize,
}

/// Cuts `crop` out of an image, resizes it to the size of `window`, and keeps the
/// `width`×`height` pixels there. `planes` becomes red, green, blue: `3·width·height` bytes.
pub(super) fn resize(
    image: &Image,
    crop: Crop,
    filter: Filter,
    window: Window,
    [width, height]: [usize; 2],
    scratch: &mut ResizeScratch,
    planes: &mut Vec<u8>,
) {
    let ResizeScratch { across, down, line, sums, between, done } = scratch;
    across.plan(filter, crop.width, window.width, window.x, width);
    down.plan(filter, crop.height, window.height, window.y, height);
    // Rows that no output needs are not resized.
    let top = down.first.iter().copied().min().unwrap_or(0);
    let bottom = down.first.iter().copied().max().unwrap_or(0) + down.taps;
    // One more, so that four values can be read where a pixel begins.
    line.resize(3 * crop.width + 1, 0.0);
    sums.resize(width, [0.0; 4]);
    between.resize((bottom - top) * width, [0; 4]);
    for (y, out) in (top..bottom).zip(between.chunks_exact_mut(width)) {
        let start = 3 * ((crop.y + y) * image.width + crop.x);
        let row = &image.rgb[start..start + 3 * crop.width];
        across_row(row, line, across, sums);
        round_row(sums.as_flattened(), out.as_flattened_mut());
    }
    planes.resize(3 * width * height, 0);
    done.resize(width, [0; 4]);
    let (red, rest) = planes.split_at_mut(width * height);
    let (green, blue) = rest.split_at_mut(width * height);
    let rows = red.chunks_exact_mut(width).zip(green.chunks_exact_mut(width));
    for (y, ((r, g), b)) in rows.zip(blue.chunks_exact_mut(width)).enumerate() {
        let weights = &down.weights[y * down.taps..(y + 1) * down.taps];
        let from = &between[(down.first[y] - top) * width..][..down.taps * width];
        down_row(from.as_flattened(), weights, sums.as_flattened_mut());
        round_row(sums.as_flattened(), done.as_flattened_mut());
        split_row(done, r, g, b);
    }
}

/// What resizing planes of one size takes.
pub(super) struct PlaneScratch {
    crop: Crop,
    side: usize,
    across: Axis,
    down: Axis,
    between: Vec<f32>,
}

impl PlaneScratch {
    /// For the same part as [`resize`] keeps.
    pub(super) fn new(filter: Filter, crop: Crop, window: Window, side: usize) -> Self {
        let [mut across, mut down] = [Axis::default(), Axis::default()];
        across.plan(filter, crop.width, window.width, window.x, side);
        down.plan(filter, crop.height, window.height, window.y, side);
        Self { crop, side, across, down, between: vec![0.0; crop.height * side] }
    }
}

/// [`resize`] of a plane of 16 bits, whose rows are `width` long, to `side`×`side` values on [0, 1],
/// unrounded.
pub(super) fn resize_plane(
    plane: &[u16],
    width: usize,
    scratch: &mut PlaneScratch,
    out: &mut [f32],
) {
    let PlaneScratch { crop, side, across, down, between } = scratch;
    let rows = plane.chunks_exact(width).skip(crop.y).map(|row| &row[crop.x..][..crop.width]);
    for (row, to) in rows.zip(between.chunks_exact_mut(*side)) {
        let weights = across.weights.chunks_exact(across.taps);
        for ((to, &first), weights) in to.iter_mut().zip(&across.first).zip(weights) {
            let taps = weights.iter().zip(&row[first..]);
            *to = taps.map(|(w, &v)| w * f32::from(v)).sum::<f32>() / 65_535.0;
        }
    }
    let weights = down.weights.chunks_exact(down.taps);
    for ((to, &first), weights) in out.chunks_exact_mut(*side).zip(&down.first).zip(weights) {
        to.fill(0.0);
        for (w, row) in weights.iter().zip(between.chunks_exact(*side).skip(first)) {
            to.iter_mut().zip(row).for_each(|(to, v)| *to += w * v);
        }
        // A cubic filter overshoots.
        to.iter_mut().for_each(|v| *v = v.clamp(0.0, 1.0));
    }
}

vectorised! {
    /// One row of an image, horizontally.
    fn across_row(row: &[u8], line: &mut [f32], axis: &Axis, out: &mut [[f32; 4]]) {
        let Axis { first, weights, taps, .. } = axis;
        for (l, &v) in line.iter_mut().zip(row) {
            *l = f32::from(v);
        }
        // The usual numbers of taps have loops of their own, which are unrolled.
        match *taps {
            1 => across_taps::<1>(line, first, weights, out),
            2 => across_taps::<2>(line, first, weights, out),
            3 => across_taps::<3>(line, first, weights, out),
            4 => across_taps::<4>(line, first, weights, out),
            5 => across_taps::<5>(line, first, weights, out),
            6 => across_taps::<6>(line, first, weights, out),
            7 => across_taps::<7>(line, first, weights, out),
            8 => across_taps::<8>(line, first, weights, out),
            taps => {
                for ((o, &first), w) in out.iter_mut().zip(first).zip(weights.chunks_exact(taps)) {
                    *o = weigh(&line[3 * first..3 * (first + taps) + 1], w);
                }
            }
        }
    }
}

#[inline(always)]
fn across_taps<const T: usize>(
    line: &[f32],
    first: &[usize],
    weights: &[f32],
    out: &mut [[f32; 4]],
) {
    let (weights, _) = weights.as_chunks::<T>();
    for ((o, &first), w) in out.iter_mut().zip(first).zip(weights) {
        *o = weigh(&line[3 * first..][..3 * T + 1], w);
    }
}

/// Σ of pixels times weights, and a half. The fourth value of a pixel is the next one's first: four
/// lanes are as quick as three.
#[inline(always)]
fn weigh(pixels: &[f32], weights: &[f32]) -> [f32; 4] {
    let mut sum = [0.5f32; 4];
    for (k, w) in weights.iter().enumerate() {
        let pixel = &pixels[3 * k..3 * k + 4];
        for (s, p) in sum.iter_mut().zip(pixel) {
            *s += w * p;
        }
    }
    sum
}

vectorised! {
    fn round_row(sums: &[f32], out: &mut [u8]) {
        for (o, &s) in out.iter_mut().zip(sums) {
            *o = to_u8(s);
        }
    }
}

/// Values that are worked on at a time, in registers.
const LANES: usize = 32;

vectorised! {
    /// One row from as many as there are weights, one after the other.
    fn down_row(rows: &[u8], weights: &[f32], out: &mut [f32]) {
        let width = out.len();
        let (chunks, rest) = out.as_chunks_mut::<LANES>();
        for (i, out) in chunks.iter_mut().enumerate() {
            let mut sum = [0.5f32; LANES];
            for (k, w) in weights.iter().enumerate() {
                let row = &rows[k * width + i * LANES..][..LANES];
                for (s, &v) in sum.iter_mut().zip(row) {
                    *s += w * f32::from(v);
                }
            }
            *out = sum;
        }
        let start = width - rest.len();
        for (i, out) in rest.iter_mut().enumerate() {
            let column = rows[start + i..].iter().step_by(width);
            *out = weights.iter().zip(column).fold(0.5, |s, (w, &v)| s + w * f32::from(v));
        }
    }
}

vectorised! {
    fn split_row(row: &[[u8; 4]], red: &mut [u8], green: &mut [u8], blue: &mut [u8]) {
        for (((p, r), g), b) in row.iter().zip(red).zip(green).zip(blue) {
            let p = u32::from_le_bytes(*p);
            (*r, *g, *b) = (p as u8, (p >> 8) as u8, (p >> 16) as u8);
        }
    }
}

/// The part before the point, held to 0..=255.
#[inline(always)]
pub(super) fn to_u8(x: f32) -> u8 {
    // `max` first: it also turns what is no number into 0.
    let held = x.clamp(0.0, 255.0);
    // SAFETY: a finite number that fits.
    unsafe { held.to_int_unchecked::<i32>() as u8 }
}
