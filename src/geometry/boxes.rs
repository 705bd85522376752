//! Axis-parallel boxes.

/// A box: its left upper corner, its width and its height, in pixels. Pixel (i, j) covers the
/// box (i, j, 1, 1).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BBox {
    /// Left border.
    pub x: f64,
    /// Upper border.
    pub y: f64,
    /// Width.
    pub w: f64,
    /// Height.
    pub h: f64,
}

impl BBox {
    /// Width times height.
    pub fn area(&self) -> f64 {
        self.w * self.h
    }

    /// What of it lies in an image of this width and height; without width or height where nothing does.
    pub fn within(&self, width: f64, height: f64) -> Self {
        let x = [self.x, self.x + self.w].map(|v| v.clamp(0.0, width));
        let y = [self.y, self.y + self.h].map(|v| v.clamp(0.0, height));
        Self { x: x[0], y: y[0], w: x[1] - x[0], h: y[1] - y[0] }
    }

    /// Whether it has a width and a height.
    pub fn has_area(&self) -> bool {
        self.w > 0.0 && self.h > 0.0
    }

    /// Intersection over union with a true box. Of a `crowd`, a region of many objects, it is the
    /// share of this box that lies within. 0 where they do not meet; every operation is in the order
    /// of COCO's own code, so the bits are the same.
    pub fn iou(&self, truth: &Self, crowd: bool) -> f64 {
        let w = (self.w + self.x).min(truth.w + truth.x) - self.x.max(truth.x);
        let h = (self.h + self.y).min(truth.h + truth.y) - self.y.max(truth.y);
        if w <= 0.0 || h <= 0.0 {
            return 0.0;
        }
        let both = w * h;
        both / if crowd { self.area() } else { self.area() + truth.area() - both }
    }

    /// The same where borders are pixels that belong to the box, as in Pascal VOC: the width of a
    /// box from pixel `x0` to pixel `x1` is x1 − x0 + 1. Boxes are [x0, y0, x1, y1].
    pub fn inclusive_iou(a: &[f64; 4], b: &[f64; 4]) -> f64 {
        let area = |r: &[f64; 4]| (r[2] - r[0] + 1.0) * (r[3] - r[1] + 1.0);
        let w = (a[2].min(b[2]) - a[0].max(b[0]) + 1.0).max(0.0);
        let h = (a[3].min(b[3]) - a[1].max(b[1]) + 1.0).max(0.0);
        let both = w * h;
        // Where ends lie before beginnings, areas mean nothing.
        if both == 0.0 { 0.0 } else { both / (area(a) + area(b) - both) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_by_hand() {
        let a = BBox { x: 0.0, y: 0.0, w: 4.0, h: 2.0 };
        let b = BBox { x: 2.0, y: 1.0, w: 4.0, h: 2.0 };
        assert_eq!(a.iou(&b, false), 2.0 / 14.0);
        assert_eq!(a.iou(&b, true), 2.0 / 8.0);
        assert_eq!(a.iou(&BBox { x: 4.0, ..a }, false), 0.0);
        // Pixels 1 and 2 against pixel 2: one of two.
        assert_eq!(BBox::inclusive_iou(&[1.0, 1.0, 2.0, 1.0], &[2.0, 1.0, 2.0, 1.0]), 0.5);
    }
}
