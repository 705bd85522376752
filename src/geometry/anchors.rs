//! Anchors: the boxes that a region proposal net starts from.

use super::Corners;

/// Anchors of a feature map: at every position the same boxes, moved by the map's stride. Their
/// indices count positions row by row, and at each position the boxes in their order.
#[derive(Clone, Debug)]
pub struct Anchors {
    stride: f32,
    height: usize,
    width: usize,
    /// The boxes at the first position, with their centres at 0.
    cell: Vec<Corners>,
}

impl Anchors {
    /// Of a map of `height`×`width` positions, `stride` pixels apart: each of `sizes` (the root of
    /// the area, in pixels), and of each one all `ratios` (height over width). They are
    /// detectron2's, not rounded, and its first centre is the corner of the image.
    pub fn new(stride: usize, sizes: &[f64], ratios: &[f64], [height, width]: [usize; 2]) -> Self {
        let anchor = |size: f64, ratio: f64| {
            let w = (size * size / ratio).sqrt();
            let h = ratio * w;
            [-w / 2.0, -h / 2.0, w / 2.0, h / 2.0].map(|v| v as f32)
        };
        let of_size = |&size| ratios.iter().map(move |&ratio| anchor(size, ratio));
        let cell = sizes.iter().flat_map(of_size).collect();
        Self { stride: stride as f32, height, width, cell }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.height * self.width * self.cell.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many each position has.
    pub fn per_position(&self) -> usize {
        self.cell.len()
    }

    /// Pixels from one position to the next.
    pub fn stride(&self) -> f32 {
        self.stride
    }

    /// Positions of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The boxes at the first position.
    pub fn cell(&self) -> &[Corners] {
        &self.cell
    }

    /// The anchor of an index below [`Anchors::len`].
    pub fn get(&self, index: usize) -> Corners {
        let (position, a) = (index / self.cell.len(), index % self.cell.len());
        self.at(position % self.width, position / self.width, a)
    }

    fn at(&self, column: usize, row: usize, a: usize) -> Corners {
        let (x, y) = (column as f32 * self.stride, row as f32 * self.stride);
        let c = self.cell[a];
        [x + c[0], y + c[1], x + c[2], y + c[3]]
    }

    /// Visits all anchors that a box meets, and perhaps some just beside it.
    pub fn near(&self, bbox: &Corners, mut visit: impl FnMut(usize, &Corners)) {
        // Positions whose anchor, from `low` to `high`, reaches from `from` to `to`.
        let range = |from: f32, to: f32, low: f32, high: f32, positions: usize| {
            let first = ((from - high) / self.stride).floor().max(0.0) as usize;
            let end = ((to - low) / self.stride).ceil().max(0.0) as usize;
            first.min(positions)..end.saturating_add(1).min(positions)
        };
        for (a, c) in self.cell.iter().enumerate() {
            let columns = range(bbox[0], bbox[2], c[0], c[2], self.width);
            for row in range(bbox[1], bbox[3], c[1], c[3], self.height) {
                for column in columns.clone() {
                    let index = (row * self.width + column) * self.cell.len() + a;
                    visit(index, &self.at(column, row, a));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::corners::iou;
    use super::*;

    #[test]
    fn every_anchor_that_a_box_meets_is_near_it() {
        let anchors = Anchors::new(8, &[20.0, 60.0], &[0.5, 1.0, 2.0], [7, 9]);
        assert_eq!((anchors.len(), anchors.per_position()), (378, 6));
        for bbox in [[10.0, 10.0, 30.0, 25.0], [-50.0, -9.0, -1.0, 2.0], [500.0, 0.0, 600.0, 9.0]] {
            let mut seen = vec![false; anchors.len()];
            anchors.near(&bbox, |i, anchor| {
                assert_eq!(anchors.get(i), *anchor);
                assert!(!std::mem::replace(&mut seen[i], true));
            });
            let missed = |i: &usize| !seen[*i] && iou(&bbox, &anchors.get(*i)) > 0.0;
            assert_eq!((0..anchors.len()).find(missed), None, "{bbox:?}");
            assert!(seen.iter().filter(|s| **s).count() < 300, "{bbox:?}");
        }
    }
}
