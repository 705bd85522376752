//! Windows of other images on any device: exactly those that were asked for.

use super::{Window, cut_mix};
use crate::cx::Cx;
use crate::device::Backend;
use crate::error::Result;
use crate::ops::check::on_schedules;
use crate::ops::{Check, Outcome};
use crate::tensor::{DType, Shape};

/// Images of each batch.
const IMAGES: usize = 5;
/// Whose window each image gets: one twice, one its own.
const PARTNERS: [usize; IMAGES] = [3, 1, 0, 0, 2];

/// Height, width and channels, and a window: top, left, bottom, right.
const CASES: [(&str, [usize; 3], [usize; 4]); 5] = [
    ("inside", [7, 9, 3], [2, 3, 6, 8]),
    ("all of it", [4, 4, 3], [0, 0, 4, 4]),
    ("an empty window", [4, 4, 3], [2, 1, 2, 4]),
    ("one column at the border", [5, 8, 1], [0, 7, 5, 8]),
    ("several blocks", [17, 19, 4], [5, 0, 17, 11]),
];

/// All checks, as (name, check).
pub fn checks() -> Vec<(String, Check)> {
    let check = |(name, size, window)| -> (String, Check) {
        let run = move |cx: &Cx| {
            if cx.is_plan() {
                return Ok(Outcome::Skipped);
            }
            exact(cx, size, window)?;
            on_schedules(cx, |cx| exact(cx, size, window))?;
            Ok(Outcome::Passed)
        };
        (format!("cut_mix/{name}"), Box::new(run))
    };
    let mut all: Vec<(String, Check)> = CASES.into_iter().map(check).collect();
    all.push(("cut_mix/wrong inputs".into(), Box::new(refuses)));
    all
}

fn window([top, left, bottom, right]: [usize; 4]) -> Window {
    Window { top, left, bottom, right }
}

fn exact(cx: &Cx, [h, w, c]: [usize; 3], edges: [usize; 4]) -> Result<(), String> {
    let image = h * w * c;
    // Small whole numbers, which all types hold.
    let value = |i: usize| (i % 251) as f32;
    let values: Vec<f32> = (0..IMAGES * image).map(value).collect();
    let [top, left, bottom, right] = edges;
    let expected = |i: usize| {
        let (row, column) = (i % image / (w * c), i % (w * c) / c);
        let inside = (top..bottom).contains(&row) && (left..right).contains(&column);
        value(if inside { PARTNERS[i / image] * image + i % image } else { i })
    };
    let types = match cx.backend() {
        Backend::Cpu => [DType::F32, DType::F64],
        _ => [DType::F32, DType::BF16],
    };
    for dtype in types {
        let mixed = || -> Result<Vec<f32>> {
            let x = cx.upload(Shape::nhwc(IMAGES, h, w, c), dtype, &values)?;
            let y = cut_mix(cx, &x, &PARTNERS, &window(edges))?;
            match dtype {
                DType::F64 => Ok(y.to_f64().into_iter().map(|y| y as f32).collect()),
                _ => cx.download(&y),
            }
        };
        let found = mixed().map_err(|e| e.to_string())?;
        if let Some(i) = (0..found.len()).find(|&i| found[i] != expected(i)) {
            return Err(format!("{dtype:?}: element {i} is {}, not {}", found[i], expected(i)));
        }
    }
    Ok(())
}

fn refuses(cx: &Cx) -> Result<Outcome, String> {
    let run = || -> Result<Vec<bool>> {
        let x = cx.zeros(Shape::nhwc(2, 3, 4, 1), DType::F32)?;
        let fits = window([0, 0, 3, 4]);
        let refused = [
            cut_mix(cx, &x, &[1, 2], &fits),
            cut_mix(cx, &x, &[0], &fits),
            cut_mix(cx, &x, &[1, 0], &window([0, 0, 4, 4])),
            cut_mix(cx, &x, &[1, 0], &window([2, 0, 1, 4])),
        ];
        Ok(refused.into_iter().map(|r| r.is_err()).collect())
    };
    let refused = run().map_err(|e| e.to_string())?;
    if refused.iter().all(|r| *r) { Ok(Outcome::Passed) } else { Err(format!("{refused:?}")) }
}
