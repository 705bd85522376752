//! Images in another order, on any device: exactly those that were asked for.

use super::rows_of;
use crate::cx::Cx;
use crate::error::Result;
use crate::ops::Check;
use crate::ops::check::on_schedules;
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
    SIZES.into_iter().map(check).collect()
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
