//! Masks in regions of interest, and masks in images.

use std::ops::Range;

use super::corners::{Corners, has_area};
use super::polygon::{FARTHEST, rasterise};
use super::{Mask, Rle};
use crate::error::Result;

/// Puts the `side`×`side` `probabilities` of a mask, rows from the top, into its box in an image of
/// this height and width: bilinear between the centres of cells, 0 beyond them, and the pixels of at
/// least `threshold` belong to the mask (detectron2's `paste_masks_in_image`).
///
/// # Errors
/// A size that no mask has.
pub fn paste(
    probabilities: &[f32],
    side: usize,
    bbox: &Corners,
    (height, width): (u32, u32),
    threshold: f32,
) -> Result<Rle> {
    super::rle::check_size(height, width)?;
    let mut borders = vec![];
    if has_area(bbox) && bbox.iter().all(|v| v.is_finite()) {
        let rows = taps(bbox[1], bbox[3], side, height);
        for (x, across) in taps(bbox[0], bbox[2], side, width) {
            let mut inside = false;
            let mut end = 0;
            for (y, down) in &rows {
                let mut value = 0.0;
                for (row, wy) in down {
                    for (column, wx) in &across {
                        value += probabilities[row * side + column] * (wx * wy);
                    }
                }
                if (value >= threshold) != inside {
                    inside = !inside;
                    borders.push(x * height + y);
                }
                end = x * height + y + 1;
            }
            if inside {
                borders.push(end);
            }
        }
    }
    Ok(Rle::of_borders(height, width, borders.into_iter()))
}

/// Of each pixel of an image's axis that a box touches: the cells that it lies between, and how near
/// it is to each. Every operation is one of torch's `grid_sample`.
fn taps(low: f32, high: f32, cells: usize, pixels: u32) -> Vec<(u32, Vec<(usize, f32)>)> {
    let first = (low.floor() - 1.0).max(0.0) as u32;
    let end = ((high.ceil() + 1.0).max(0.0) as u32).min(pixels);
    let of_pixel = |pixel: u32| {
        let at = (pixel as f32 + 0.5 - low) / (high - low) * 2.0 - 1.0;
        let at = ((at + 1.0) * cells as f32 - 1.0) / 2.0;
        let cell = at.floor();
        let beyond = at - cell;
        let both = [(cell, 1.0 - beyond), (cell + 1.0, beyond)];
        let within = both.into_iter().filter(|(cell, _)| (0.0..cells as f32).contains(cell));
        (pixel, within.map(|(cell, weight)| (cell as usize, weight)).collect())
    };
    (first..end).map(of_pixel).collect()
}

/// What a mask head should say of an object in a region of interest: `side`×`side` cells, rows from
/// the top. Polygons are moved and scaled to the cells and rasterised by COCO's rule; of other masks
/// it is where RoIAlign (aligned, as many samples as pixels) gives at least ½. Both as in detectron2.
///
/// # Errors
/// Polygons that [`rasterise`] refuses.
pub fn mask_target(mask: &Mask, roi: &Corners, side: usize) -> Result<Vec<bool>> {
    match mask {
        Mask::Polygons(polygons) => of_polygons(polygons, roi, side),
        Mask::Rle(rle) => Ok(of_rle(rle, roi, side)),
    }
}

fn of_polygons(polygons: &[Vec<f64>], roi: &Corners, side: usize) -> Result<Vec<bool>> {
    let origin = [roi[0], roi[1]].map(f64::from);
    let scale = [roi[2] - roi[0], roi[3] - roi[1]].map(|len| side as f64 / f64::from(len).max(0.1));
    let mut cells = vec![false; side * side];
    for xy in polygons {
        let corner = |(i, c): (usize, &f64)| {
            // Very small regions would send corners beyond what is drawn.
            ((c - origin[i % 2]) * scale[i % 2]).clamp(-FARTHEST, FARTHEST)
        };
        let moved: Vec<f64> = xy.iter().enumerate().map(corner).collect();
        let part = rasterise(&moved, side as u32, side as u32)?;
        for at in part.runs().flat_map(|(from, end)| from as usize..end as usize) {
            cells[at % side * side + at / side] = true;
        }
    }
    Ok(cells)
}

fn of_rle(mask: &Rle, roi: &Corners, side: usize) -> Vec<bool> {
    let (height, width) = mask.size();
    let rows = Samples::new(roi[1], roi[3], side, height);
    let columns = Samples::new(roi[0], roi[2], side, width);
    let window = Window::of(mask, rows.touched(), columns.touched());
    let all = (rows.per_cell * columns.per_cell).max(1) as f32;
    let cell = |i: usize| {
        let (down, across) = (&rows.cells[i / side], &columns.cells[i % side]);
        let mut sum = 0.0;
        for y in down {
            for x in across {
                let at = |a: usize, b: usize| {
                    (y.weights[a] * x.weights[b]) * window.at(y.pixels[a], x.pixels[b])
                };
                sum += at(0, 0) + at(0, 1) + at(1, 0) + at(1, 1);
            }
        }
        sum / all >= 0.5
    };
    (0..side * side).map(cell).collect()
}

/// RoIAlign's samples along an axis.
struct Samples {
    /// How many each cell has, also outside of the image, where all is 0.
    per_cell: usize,
    /// Of each cell those in the image.
    cells: Vec<Vec<Sample>>,
}

/// The pixels that a sample lies between, and their weights.
struct Sample {
    pixels: [usize; 2],
    weights: [f32; 2],
}

impl Samples {
    fn new(low: f32, high: f32, cells: usize, pixels: u32) -> Self {
        let cell = (high - low) / cells as f32;
        let per_cell = cell.ceil().max(0.0) as usize;
        let sample = |c: usize, i: usize| {
            let at = (low - 0.5) + c as f32 * cell + (i as f32 + 0.5) * cell / per_cell as f32;
            if !(-1.0..=pixels as f32).contains(&at) {
                return None;
            }
            let (at, last) = (at.max(0.0), pixels as usize - 1);
            let first = at as usize;
            if first >= last {
                return Some(Sample { pixels: [last; 2], weights: [1.0, 0.0] });
            }
            let beyond = at - first as f32;
            Some(Sample { pixels: [first, first + 1], weights: [1.0 - beyond, beyond] })
        };
        let cells = (0..cells).map(|c| (0..per_cell).filter_map(|i| sample(c, i)).collect());
        Self { per_cell, cells: cells.collect() }
    }

    /// The pixels from the first to the last.
    fn touched(&self) -> Range<usize> {
        let all = || self.cells.iter().flatten().flat_map(|s| s.pixels);
        all().min().map_or(0..0, |first| first..1 + all().max().unwrap_or(first))
    }
}

/// Pixels of a part of a mask.
struct Window {
    top: usize,
    left: usize,
    height: usize,
    /// Down the columns.
    inside: Vec<bool>,
}

impl Window {
    fn of(mask: &Rle, rows: Range<usize>, columns: Range<usize>) -> Self {
        let whole = mask.size().0 as usize;
        let height = rows.len();
        let mut inside = vec![false; height * columns.len()];
        for (from, end) in mask.runs() {
            let (from, end) = (from as usize, end as usize);
            for x in columns.start.max(from / whole)..columns.end.min((end - 1) / whole + 1) {
                // The part of the run in this column.
                let top = rows.start.max(from.saturating_sub(x * whole));
                let bottom = rows.end.min(end - x * whole);
                if top < bottom {
                    let at = (x - columns.start) * height;
                    inside[at + top - rows.start..at + bottom - rows.start].fill(true);
                }
            }
        }
        Self { top: rows.start, left: columns.start, height, inside }
    }

    fn at(&self, y: usize, x: usize) -> f32 {
        f32::from(u8::from(self.inside[(x - self.left) * self.height + y - self.top]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels(mask: &Rle) -> Vec<u32> {
        mask.runs().flat_map(|(from, end)| from..end).collect()
    }

    #[test]
    fn masks_fill_their_boxes() {
        // Cells of 2×2 pixels, of which the first column belongs to the mask.
        let mask = [1.0, 0.0, 1.0, 0.0];
        let found = paste(&mask, 2, &[1.0, 1.0, 5.0, 5.0], (6, 7), 0.5).unwrap();
        // The mask ends half a cell beyond its cells' centres, where it is still at least a half.
        assert_eq!(pixels(&found), [7, 8, 9, 10, 13, 14, 15, 16]);
        // A box that leaves the image, one beside it, one without width.
        let all = paste(&[1.0], 1, &[-3.0, -3.0, 6.0, 5.0], (2, 3), 0.5).unwrap();
        assert_eq!(all.area(), 6);
        for bbox in [[50.0, 0.0, 60.0, 2.0], [1.0, 1.0, 1.0, 2.0], [0.0, 0.0, f32::NAN, 1.0]] {
            assert_eq!(paste(&[1.0], 1, &bbox, (2, 3), 0.5).unwrap().area(), 0, "{bbox:?}");
        }
        assert!(paste(&[1.0], 1, &[0.0, 0.0, 1.0, 1.0], (0, 3), 0.5).is_err());
    }

    #[test]
    fn targets_of_polygons_and_of_their_pixels_agree() {
        let square = vec![10.0, 20.0, 30.0, 20.0, 30.0, 40.0, 10.0, 40.0];
        let pixels = Mask::Rle(rasterise(&square, 64, 48).unwrap());
        let polygons = Mask::Polygons(vec![square]);
        for (roi, inside) in [
            ([10.0, 20.0, 30.0, 40.0], 16),
            ([10.0, 10.0, 30.0, 30.0], 8),
            ([20.0, 0.0, 40.0, 80.0], 2),
            ([40.0, 50.0, 48.0, 64.0], 0),
            ([-30.0, 20.0, 10.0, 40.0], 0),
        ] {
            let [a, b] = [&polygons, &pixels].map(|mask| mask_target(mask, &roi, 4).unwrap());
            assert_eq!(a, b, "{roi:?}");
            assert_eq!(a.iter().filter(|inside| **inside).count(), inside, "{roi:?}");
        }
        // No width, and a polygon that is far away from a very small region.
        for roi in [[20.0, 30.0, 20.0, 30.0], [1e6, 30.0, 1e6 + 0.1, 30.1]] {
            mask_target(&polygons, &roi, 28).unwrap();
            mask_target(&pixels, &roi, 28).unwrap();
        }
    }
}
