//! Images and rows on any device: exactly those that were asked for.

use super::{gather, rows_of};
use crate::cx::Cx;
use crate::device::Backend;
use crate::error::Result;
use crate::ops::check::on_schedules;
use crate::ops::{Check, Outcome};
use crate::tensor::{DType, Shape, Tensor};

/// Height, width and channels of an image.
const SIZES: [(&str, [usize; 3]); 4] = [
    ("one element", [1, 1, 1]),
    ("whole vectors", [3, 2, 8]),
    ("no whole vectors", [3, 1, 5]),
    ("several blocks", [17, 13, 16]),
];
/// Images of each of the tensors.
const PARTS: [usize; 3] = [3, 1, 3];
/// The images that are asked for: some twice, some not at all.
const ORDER: [usize; 5] = [4, 0, 6, 6, 2];

/// All checks, as (name, check).
pub fn checks() -> Vec<(String, Check)> {
    let check = |(name, size): (&str, [usize; 3])| -> (String, Check) {
        (format!("index_select/{name}"), Box::new(move |cx| on_schedules(cx, |cx| exact(cx, size))))
    };
    let mut all: Vec<(String, Check)> = SIZES.into_iter().map(check).collect();
    for (name, [h, w, c]) in SIZES {
        let run = move |cx: &Cx| gathered(cx, h * w * c);
        all.push((format!("index_select/gather, {name}"), Box::new(run)));
    }
    all.push(("index_select/gather, wrong inputs".into(), Box::new(refuses)));
    all
}

/// Rows of length `d` by indices: on a device NaN where there is no such row, else an error.
fn gathered(cx: &Cx, d: usize) -> Result<Outcome, String> {
    let types = match cx.backend() {
        Backend::Plan => return Ok(Outcome::Skipped),
        Backend::Cpu => [DType::F32, DType::F64],
        Backend::Driver(_) => [DType::F32, DType::BF16],
    };
    let rows = 7;
    let values: Vec<f32> = (0..rows * d).map(|i| (i % 251) as f32).collect();
    for dtype in types {
        let take = |cx: &Cx, index: &[i32]| -> Result<Vec<f32>> {
            let x = cx.upload(Shape::matrix(rows, d), dtype, &values)?;
            let index = cx.upload_i32(Shape::matrix(index.len(), 1), index)?;
            let y = gather(cx, &x, &index)?;
            if dtype == DType::F64 {
                return Ok(y.to_f64().into_iter().map(|x| x as f32).collect());
            }
            cx.download(&y)
        };
        let exact = |cx: &Cx| -> Result<(), String> {
            let found = take(cx, &ORDER.map(|i| i as i32)).map_err(|e| e.to_string())?;
            let expected: Vec<f32> =
                ORDER.iter().flat_map(|i| &values[i * d..(i + 1) * d]).copied().collect();
            if found != expected {
                return Err(format!("{dtype:?}: other rows than those asked for"));
            }
            for wrong in [-1, rows as i32] {
                let found = take(cx, &[wrong, 3]);
                let noticed = match &found {
                    Ok(y) => {
                        let (none, row) = y.split_at(d);
                        cx.is_device()
                            && none.iter().all(|x| x.is_nan())
                            && row == &values[3 * d..4 * d]
                    }
                    Err(_) => !cx.is_device(),
                };
                if !noticed {
                    return Err(format!("{dtype:?}: row {wrong} gave {found:?}"));
                }
            }
            Ok(())
        };
        exact(cx)?;
        on_schedules(cx, exact)?;
    }
    Ok(Outcome::Passed)
}

fn refuses(cx: &Cx) -> Result<Outcome, String> {
    let run = || -> Result<Vec<bool>> {
        let x = cx.zeros(Shape::matrix(3, 4), DType::F32)?;
        let map = cx.zeros(Shape::nhwc(3, 1, 2, 4), DType::F32)?;
        let index = cx.upload_i32(Shape::matrix(2, 1), &[0, 1])?;
        let wide = cx.upload_i32(Shape::matrix(1, 2), &[0, 1])?;
        let floats = cx.zeros(Shape::matrix(2, 1), DType::F32)?;
        let refused = [
            gather(cx, &map, &index),
            gather(cx, &x, &wide),
            gather(cx, &x, &floats),
            gather(cx, &index, &index),
        ];
        Ok(refused.into_iter().map(|r| r.is_err()).collect())
    };
    let refused = run().map_err(|e| e.to_string())?;
    if refused.iter().all(|r| *r) { Ok(Outcome::Passed) } else { Err(format!("{refused:?}")) }
}

fn exact(cx: &Cx, [h, w, c]: [usize; 3]) -> Result<(), String> {
    let image = h * w * c;
    // Small whole numbers, which all types hold.
    let value = |i: usize| (i % 251) as f32;
    for dtype in [DType::F32, DType::BF16, DType::I32] {
        let select = || -> Result<Vec<f32>> {
            let mut first = 0;
            let mut part = |n: usize| -> Result<Tensor> {
                let values: Vec<f32> = (first..first + n * image).map(value).collect();
                first += n * image;
                let shape = Shape::nhwc(n, h, w, c);
                match dtype {
                    DType::I32 => {
                        let values: Vec<i32> = values.iter().map(|x| *x as i32).collect();
                        cx.upload_i32(shape, &values)
                    }
                    _ => cx.upload(shape, dtype, &values),
                }
            };
            let parts = PARTS.into_iter().map(&mut part).collect::<Result<Vec<_>>>()?;
            let y = rows_of(cx, &parts, &ORDER)?;
            match dtype {
                DType::I32 => Ok(cx.download_i32(&y)?.into_iter().map(|x| x as f32).collect()),
                _ => cx.download(&y),
            }
        };
        let found = select().map_err(|e| e.to_string())?;
        let expected = ORDER.iter().flat_map(|i| (i * image..(i + 1) * image).map(value));
        if let Some(k) = expected.zip(&found).position(|(expected, found)| expected != *found) {
            return Err(format!("{dtype:?}: element {k} is {}", found[k]));
        }
    }
    Ok(())
}
