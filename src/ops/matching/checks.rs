//! Correspondence on any context, against cosines that are written out.

use super::nearest;
use crate::cx::Cx;
use crate::device::Backend;
use crate::error::Result;
use crate::ops::check::{on_schedules, values};
use crate::ops::l2_normalise::EPS;
use crate::ops::{Check, Fill, Outcome};
use crate::tensor::{DType, Shape};

/// Height, width, channels of student and teacher; kernels have tiles of 64 positions and slices
/// of 32 channels, native code has tiles of 128 by 256 positions.
const SIZES: [(&str, [usize; 4]); 9] = [
    ("one position", [1, 1, 4, 3]),
    ("less than a tile", [7, 7, 40, 64]),
    ("one tile", [8, 8, 16, 24]),
    ("one position more than a tile", [5, 13, 16, 16]),
    ("several tiles", [17, 16, 8, 8]),
    ("no whole vectors", [9, 8, 7, 33]),
    ("a student without whole vectors", [9, 15, 9, 16]),
    ("several slices", [6, 5, 72, 104]),
    ("a student with more channels", [3, 5, 32, 16]),
];
const IMAGES: usize = 2;

/// All checks, as (name, check).
pub fn checks() -> Vec<(String, Check)> {
    let mut all: Vec<(String, Check)> = Vec::new();
    for (name, sizes) in SIZES {
        all.push((format!("matching/{name}"), Box::new(move |cx| greatest(cx, sizes))));
        all.push((format!("matching/{name}, ties"), Box::new(move |cx| first_of_equal(cx, sizes))));
    }
    all.push(("matching/not finite".into(), Box::new(not_finite)));
    all.push(("matching/misfits".into(), Box::new(refuses)));
    all
}

/// Maps of a student and a teacher, and their channels.
struct Maps {
    positions: usize,
    shapes: [Shape; 2],
    values: [Vec<f32>; 2],
}

impl Maps {
    fn new([h, w, student, teacher]: [usize; 4], fill: Fill) -> Self {
        let shapes = [student, teacher].map(|c| Shape::nhwc(IMAGES, h, w, c));
        let values = [0, 1].map(|i| values(shapes[i], fill, 1 + i as u64));
        Self { positions: h * w, shapes, values }
    }

    /// The first channels of position `at` among those of all images.
    fn features(&self, map: usize, at: usize) -> &[f32] {
        let c = self.shapes[map].c();
        &self.values[map][at * c..][..self.shapes[0].c().min(self.shapes[1].c())]
    }

    fn product(&self, student: usize, teacher: usize) -> f64 {
        let pairs = self.features(0, student).iter().zip(self.features(1, teacher));
        pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }

    fn length(&self, map: usize, at: usize) -> f64 {
        let x = self.features(map, at).iter();
        x.map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt().max(EPS)
    }

    /// Rows of the teacher's map that belong to the image of a row of the student's.
    fn candidates(&self, row: usize) -> std::ops::Range<usize> {
        let image = row / self.positions * self.positions;
        image..image + self.positions
    }

    /// What is found with values kept in `dtype`.
    fn nearest(&self, cx: &Cx, dtype: DType) -> Result<Vec<usize>> {
        let [student, teacher] = [0, 1].map(|i| cx.upload(self.shapes[i], dtype, &self.values[i]));
        let index = nearest(cx, &student?, &teacher?)?;
        Ok(cx.download_i32(&index)?.into_iter().map(|i| i as usize).collect())
    }
}

/// Runs `check` with values kept in each type that the context has, in several schedules.
fn in_all_types(
    cx: &Cx,
    check: impl Fn(&Cx, DType) -> Result<(), String>,
) -> Result<Outcome, String> {
    let types = match cx.backend() {
        Backend::Plan => return Ok(Outcome::Skipped),
        Backend::Cpu => [DType::F32, DType::F64],
        Backend::Driver(_) => [DType::F32, DType::BF16],
    };
    for dtype in types {
        check(cx, dtype)?;
        on_schedules(cx, |cx| check(cx, dtype))?;
    }
    Ok(Outcome::Passed)
}

/// No other position has a cosine that is greater by more than rounding.
fn greatest(cx: &Cx, sizes: [usize; 4]) -> Result<Outcome, String> {
    in_all_types(cx, |cx, dtype| {
        let mut maps = Maps::new(sizes, Fill::Normal);
        if dtype == DType::BF16 {
            let round = |x: &mut f32| *x = half::bf16::from_f32(*x).to_f32();
            maps.values.iter_mut().flatten().for_each(round);
        }
        let found = maps.nearest(cx, dtype).map_err(|e| e.to_string())?;
        for (row, found) in found.into_iter().enumerate() {
            let cosine = |at| maps.product(row, at) / (maps.length(0, row) * maps.length(1, at));
            let best = maps.candidates(row).map(cosine).fold(f64::NEG_INFINITY, f64::max);
            if !maps.candidates(row).contains(&found) || cosine(found) < best - 1e-6 {
                return Err(format!("{dtype:?}: row {row} has {found}, which is not the nearest"));
            }
        }
        Ok(())
    })
}

/// Features of 1 and −1 times powers of two, with some of zeros: all arithmetic but the square root
/// of one number is exact, and many cosines are equal.
fn first_of_equal(cx: &Cx, sizes: [usize; 4]) -> Result<Outcome, String> {
    let mut maps = Maps::new(sizes, Fill::Normal);
    for (values, shape) in maps.values.iter_mut().zip(maps.shapes) {
        for (at, row) in values.chunks_mut(shape.c()).enumerate() {
            let size = if at % 5 == 2 { 0.0 } else { [1.0, 0.25, 4.0][at % 3] };
            row.iter_mut().for_each(|x| *x = size * x.signum());
        }
    }
    let sign = |x: &f32| if *x == 0.0 { 0.0 } else { x.signum() };
    let same = |row, at| -> f32 {
        let pairs = maps.features(0, row).iter().zip(maps.features(1, at));
        pairs.map(|(a, b)| sign(a) * sign(b)).sum()
    };
    let expected = |row| {
        let nearer = |best, at| if same(row, at) > same(row, best) { at } else { best };
        maps.candidates(row).reduce(nearer).unwrap_or(0)
    };
    let expected: Vec<usize> = (0..IMAGES * maps.positions).map(expected).collect();
    in_all_types(cx, |cx, dtype| {
        let found = maps.nearest(cx, dtype).map_err(|e| e.to_string())?;
        match found.iter().zip(&expected).position(|(f, e)| f != e) {
            None => Ok(()),
            Some(row) => {
                let (found, expected) = (found[row], expected[row]);
                Err(format!("{dtype:?}: row {row} has {found}, expected {expected}"))
            }
        }
    })
}

/// A position of the teacher's that is not a number is nobody's; one of the student's gets the first
/// of its image.
fn not_finite(cx: &Cx) -> Result<Outcome, String> {
    let mut maps = Maps::new([5, 3, 8, 16], Fill::Normal);
    let (student, teacher) = (17, 18);
    maps.values[0][student * 8] = f32::NAN;
    maps.values[1][teacher * 16] = f32::NAN;
    in_all_types(cx, |cx, dtype| {
        let found = maps.nearest(cx, dtype).map_err(|e| e.to_string())?;
        if found[student] == maps.positions && !found.contains(&teacher) {
            return Ok(());
        }
        Err(format!("{dtype:?}: {found:?}"))
    })
}

fn refuses(cx: &Cx) -> Result<Outcome, String> {
    let run = || -> Result<Vec<bool>> {
        let map = |shape, dtype| cx.zeros(Shape(shape), dtype);
        let student = map([2, 3, 4, 8], DType::F32)?;
        let index = cx.upload_i32(Shape::nhwc(2, 3, 4, 8), &[0; 192])?;
        let refused = [
            nearest(cx, &student, &map([1, 3, 4, 8], DType::F32)?),
            nearest(cx, &student, &map([2, 4, 3, 8], DType::F32)?),
            nearest(cx, &student, &map([2, 3, 4, 0], DType::F32)?),
            nearest(cx, &student, &index),
            nearest(cx, &index, &index),
        ];
        Ok(refused.into_iter().map(|r| r.is_err()).collect())
    };
    let refused = run().map_err(|e| e.to_string())?;
    if refused.iter().all(|r| *r) { Ok(Outcome::Passed) } else { Err(format!("{refused:?}")) }
}
