//! Bilinear resizing against its definition, on any context.

use super::resize_bilinear;
use crate::cx::Cx;
use crate::device::Backend;
use crate::error::Result;
use crate::ops::check::{on_schedules, values};
use crate::ops::{Check, Fill, Outcome};
use crate::tensor::{DType, Shape};

/// Shapes, and the sizes that they are resized to.
const SIZES: [(&str, [usize; 4], [usize; 2]); 7] = [
    ("larger, odd size", [2, 5, 4, 3], [13, 11]),
    ("larger, whole vectors", [1, 3, 6, 16], [24, 17]),
    ("smaller", [3, 9, 8, 5], [4, 3]),
    ("higher, narrower", [1, 2, 9, 8], [7, 4]),
    ("the same size", [2, 4, 5, 6], [4, 5]),
    ("of one pixel", [2, 1, 1, 8], [3, 2]),
    ("to one pixel", [2, 5, 6, 3], [1, 1]),
];

/// All checks, as (name, check).
pub fn checks() -> Vec<(String, Check)> {
    let mut all: Vec<(String, Check)> = Vec::new();
    for (name, shape, size) in SIZES {
        for align_corners in [false, true] {
            let corners = if align_corners { ", corners aligned" } else { "" };
            let run = move |cx: &Cx| agrees(cx, Shape(shape), size, align_corners);
            all.push((format!("resize_bilinear/{name}{corners}"), Box::new(run)));
        }
    }
    all.push(("resize_bilinear/wrong inputs".into(), Box::new(refuses)));
    all
}

/// Where position `d` of `size` lies among `cells`: a number of them, and what is left.
fn place(d: usize, cells: usize, size: usize, align_corners: bool) -> (usize, f64) {
    let (d, last) = (d as f64, (cells - 1) as f64);
    let at = match align_corners {
        true => d * last / ((size - 1) as f64).max(1.0),
        false => (d + 0.5) * cells as f64 / size as f64 - 0.5,
    };
    let at = at.clamp(0.0, last);
    (at as usize, at.fract())
}

/// Each element by itself, in f64.
fn expected(x: &[f32], shape: Shape, [height, width]: [usize; 2], align_corners: bool) -> Vec<f64> {
    let [n, h, w, c] = shape.0;
    let mut y = Vec::new();
    for at in 0..n * height * width * c {
        let (image, row) = (at / c / width / height, at / c / width % height);
        let (row, v) = place(row, h, height, align_corners);
        let (column, u) = place(at / c % width, w, width, align_corners);
        let value = |row: usize, column: usize| {
            let pixel = (image * h + row.min(h - 1)) * w + column.min(w - 1);
            f64::from(x[pixel * c + at % c])
        };
        let line = |row| (1.0 - u) * value(row, column) + u * value(row, column + 1);
        y.push((1.0 - v) * line(row) + v * line(row + 1));
    }
    y
}

fn agrees(cx: &Cx, shape: Shape, size: [usize; 2], align_corners: bool) -> Result<Outcome, String> {
    let types = match cx.backend() {
        Backend::Plan => return Ok(Outcome::Skipped),
        Backend::Cpu => [DType::F32, DType::F64],
        Backend::Driver(_) => [DType::F32, DType::BF16],
    };
    // Whole numbers that all types hold.
    let x = values(shape, Fill::Integers { lo: -99, hi: 99 }, 1);
    let expected = expected(&x, shape, size, align_corners);
    let resized = |cx: &Cx, dtype| -> Result<Vec<f32>> {
        let x = cx.upload(shape, dtype, &x)?;
        cx.download(&resize_bilinear(cx, &x, size[0], size[1], align_corners)?)
    };
    for dtype in types {
        let found = resized(cx, dtype).map_err(|e| e.to_string())?;
        // bf16 is rounded once, to 8 bits.
        let allowed = if dtype == DType::BF16 { 99.0 / 256.0 } else { 99.0 * 1e-6 };
        let off = |(e, f): (&f64, &f32)| (e - f64::from(*f)).abs();
        let pairs = expected.iter().zip(&found);
        if found.len() != expected.len() || !pairs.clone().all(|pair| off(pair) <= allowed) {
            let worst = pairs.map(off).fold(0.0, f64::max);
            return Err(format!("{dtype:?}: off by {worst:e}, at most {allowed:e} allowed"));
        }
        on_schedules(cx, |cx| resized(cx, dtype))?;
    }
    Ok(Outcome::Passed)
}

fn refuses(cx: &Cx) -> Result<Outcome, String> {
    let run = || -> Result<Vec<bool>> {
        let x = cx.zeros(Shape::nhwc(1, 2, 3, 4), DType::F32)?;
        let empty = cx.zeros(Shape::nhwc(1, 0, 3, 4), DType::F32)?;
        let whole = cx.zeros(Shape::nhwc(1, 2, 3, 4), DType::I32)?;
        let refused = [
            resize_bilinear(cx, &x, 0, 3, false),
            resize_bilinear(cx, &x, 3, 0, true),
            resize_bilinear(cx, &empty, 3, 3, false),
            resize_bilinear(cx, &whole, 3, 3, false),
        ];
        Ok(refused.into_iter().map(|r| r.is_err()).collect())
    };
    let refused = run().map_err(|e| e.to_string())?;
    if refused.iter().all(|r| *r) { Ok(Outcome::Passed) } else { Err(format!("{refused:?}")) }
}
