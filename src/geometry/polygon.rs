//! Polygons as masks, by COCO's rule, to the pixel.
//!
//! The border is drawn on a grid five times as fine. Where it passes from one column of that grid to
//! the next in the middle of a column of pixels, it begins or ends a run of that column.

use super::Rle;
use super::rle::check_size;
use crate::error::{Error, Result};

/// How much finer the grid is.
const SCALE: f64 = 5.0;
/// The farthest coordinate, in pixels: as far as images may be large, twice.
pub(super) const FARTHEST: f64 = 131_072.0;

/// The pixels of a polygon with the corners `xy` (x, y, x, y, …) in an image of such a size.
///
/// # Errors
/// A size that no mask has; fewer than three corners, half a corner; a corner that is farther than
/// 131072 pixels away or no number.
pub fn rasterise(xy: &[f64], height: u32, width: u32) -> Result<Rle> {
    check_size(height, width)?;
    if xy.len() < 6 || xy.len() % 2 == 1 {
        return Err(Error::data(format!(
            "expected a polygon of at least three corners x, y; found {} numbers",
            xy.len()
        )));
    }
    if let Some(far) = xy.iter().find(|c| c.is_nan() || c.abs() > FARTHEST) {
        return Err(Error::data(format!(
            "expected corners of polygons within {FARTHEST} pixels, found {far}"
        )));
    }
    let corners: Vec<(i32, i32)> = xy.chunks_exact(2).map(|c| (fine(c[0]), fine(c[1]))).collect();
    let next = corners.iter().cycle().skip(1);
    let mut borders = Vec::new();
    let mut before: Option<(i32, i32)> = None;
    for (&from, &to) in corners.iter().zip(next) {
        edge(from, to, |u, v| {
            if let Some(before) = before.replace((u, v)).filter(|before| before.0 != u) {
                borders.extend(crossing(before, (u, v), height, width));
            }
        });
    }
    borders.sort_unstable();
    Ok(Rle::of_borders(height, width, borders.into_iter()))
}

/// The nearest line of the fine grid; COCO's code cuts towards zero, also of negative ones.
fn fine(coordinate: f64) -> i32 {
    (SCALE * coordinate + 0.5) as i32
}

/// Points of the fine grid along an edge, both ends included.
fn edge(from: (i32, i32), to: (i32, i32), mut point: impl FnMut(i32, i32)) {
    let (dx, dy) = ((to.0 - from.0).abs(), (to.1 - from.1).abs());
    let flat = dx >= dy;
    // Both directions of an edge have the same points.
    let flip = if flat { from.0 > to.0 } else { from.1 > to.1 };
    let (start, end) = if flip { (to, from) } else { (from, to) };
    let long = dx.max(dy);
    // An edge without length is one point.
    let slope = |rise: i32| if long == 0 { 0.0 } else { f64::from(rise) / f64::from(long) };
    let along =
        |start: i32, slope: f64, t: i32| (f64::from(start) + slope * f64::from(t) + 0.5) as i32;
    for d in 0..=long {
        let t = if flip { long - d } else { d };
        if flat {
            point(t + start.0, along(start.1, slope(end.1 - start.1), t));
        } else {
            point(along(start.0, slope(end.0 - start.0), t), t + start.1);
        }
    }
}

/// Where a step of the border from column to column of the fine grid begins or ends a run.
fn crossing(a: (i32, i32), b: (i32, i32), height: u32, width: u32) -> Option<u32> {
    let down = |fine: i32| (f64::from(fine) + 0.5) / SCALE - 0.5;
    let x = down(if b.0 < a.0 { b.0 } else { b.0 - 1 });
    if x.floor() != x || x < 0.0 || x > f64::from(width - 1) {
        return None;
    }
    let y = down(a.1.min(b.1)).clamp(0.0, f64::from(height)).ceil();
    Some(x as u32 * height + y as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_by_hand() {
        // The pixels (1, 1) to (2, 3) of an image of 4 columns and 5 rows.
        let square = rasterise(&[1.0, 1.0, 3.0, 1.0, 3.0, 4.0, 1.0, 4.0], 5, 4).unwrap();
        assert_eq!(square.counts(), [6, 3, 2, 3, 6]);
        let all = rasterise(&[-9.0, -9.0, 99.0, -9.0, 99.0, 99.0, -9.0, 99.0], 5, 4).unwrap();
        assert_eq!(all.counts(), [0, 20]);
        let none = rasterise(&[1.0, 1.0, 1.0, 1.0, 1.0, 1.0], 5, 4).unwrap();
        assert_eq!(none.counts(), [20]);
    }

    #[test]
    fn what_is_no_polygon_is_an_error() {
        for bad in [&[][..], &[0.0; 4], &[0.0; 7], &[0.0, 1.0, 2.0, 1e6, 3.0, 4.0]] {
            assert!(rasterise(bad, 5, 4).is_err(), "{bad:?}");
        }
        assert!(rasterise(&[0.0, 0.0, 1.0, f64::NAN, 3.0, 4.0], 5, 4).is_err());
        assert!(rasterise(&[0.0; 6], 0, 4).is_err());
    }
}
