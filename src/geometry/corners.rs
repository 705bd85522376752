//! Boxes by two corners in f32, as nets and detectron2 have them.

use super::BBox;

/// A box: left, upper, right and lower border (x1, y1, x2, y2), in pixels.
pub type Corners = [f32; 4];

impl BBox {
    /// The box by its corners.
    pub fn corners(&self) -> Corners {
        [self.x, self.y, self.x + self.w, self.y + self.h].map(|v| v as f32)
    }
}

/// Width times height.
pub fn area(b: &Corners) -> f32 {
    (b[2] - b[0]) * (b[3] - b[1])
}

/// Intersection over union; 0 where they do not meet.
pub fn iou(a: &Corners, b: &Corners) -> f32 {
    let w = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
    let h = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    let both = w * h;
    if both > 0.0 { both / (area(a) + area(b) - both) } else { 0.0 }
}

/// The part of a box that lies in an image of this `[height, width]`.
pub fn clip(b: &Corners, [height, width]: [f32; 2]) -> Corners {
    let x = |v: f32| v.clamp(0.0, width);
    let y = |v: f32| v.clamp(0.0, height);
    [x(b[0]), y(b[1]), x(b[2]), y(b[3])]
}

/// Whether a box has a width and a height.
pub fn has_area(b: &Corners) -> bool {
    b[2] > b[0] && b[3] > b[1]
}

/// The level of a feature pyramid whose map a box is read from: ⌊4 + log₂(√area / 224)⌋, held to
/// 2 ..= 5 (Lin et al., "Feature Pyramid Networks", 2017, equation 1).
pub fn fpn_level(b: &Corners) -> usize {
    let level = (4.0 + (area(b).sqrt() / 224.0 + 1e-8).log2()).floor();
    level.clamp(2.0, 5.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_and_levels_by_hand() {
        let a = BBox { x: 1.0, y: 2.0, w: 4.0, h: 2.0 }.corners();
        assert_eq!(a, [1.0, 2.0, 5.0, 4.0]);
        assert_eq!(iou(&a, &[3.0, 3.0, 7.0, 5.0]), 2.0 / 14.0);
        assert_eq!(iou(&a, &[5.0, 2.0, 7.0, 4.0]), 0.0);
        assert_eq!(iou(&[1.0; 4], &[1.0; 4]), 0.0);
        assert_eq!(clip(&[-1.0, 3.0, 9.0, 9.0], [5.0, 8.0]), [0.0, 3.0, 8.0, 5.0]);
        assert!(has_area(&a) && !has_area(&[1.0, 2.0, 1.0, 4.0]) && !has_area(&[f32::NAN; 4]));
        let level = |side: f32| fpn_level(&[0.0, 0.0, side, side]);
        assert_eq!(
            [0.0, 111.9, 112.0, 223.9, 224.0, 448.0, 5000.0].map(level),
            [2, 2, 3, 3, 4, 5, 5]
        );
    }
}
