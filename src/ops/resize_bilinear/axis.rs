//! How the positions of one side lie between the cells of another: the taps of bilinear resizing.

use std::ops::Range;

use crate::tensor::Real;

/// A position between two cells: its value is (1 − share)·first + share·next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::ops) struct Tap {
    /// The cell at or before it.
    pub(in crate::ops) first: usize,
    /// The cell behind that, or the same at the end.
    pub(in crate::ops) next: usize,
    /// How far the position lies from the first towards the next, below 1.
    pub(in crate::ops) share: f64,
}

/// One side of an image and of what it is resized to.
#[derive(Clone, Debug)]
pub(in crate::ops) struct Axis {
    /// A tap for each position, in order: their cells never fall.
    pub(in crate::ops) taps: Vec<Tap>,
}

impl Axis {
    /// Of `cells` resized to `size` positions, both at least 1, as in PyTorch's `interpolate`: position
    /// d lies at d·(cells − 1)/(size − 1) with `align_corners`, else at (d + ½)·cells/size − ½, at least
    /// 0. Both are fractions of whole numbers, so that no rounding moves a position to another cell.
    pub(in crate::ops) fn new(cells: usize, size: usize, align_corners: bool) -> Self {
        let last = cells - 1;
        let tap = |d: usize| {
            let (place, unit) = match align_corners {
                true => (d * last, (size - 1).max(1)),
                false => (((2 * d + 1) * cells).saturating_sub(size), 2 * size),
            };
            match place / unit {
                first if first < last => {
                    Tap { first, next: first + 1, share: (place % unit) as f64 / unit as f64 }
                }
                _ => Tap { first: last, next: last, share: 0.0 },
            }
        };
        Self { taps: (0..size).map(tap).collect() }
    }

    /// Number of positions.
    pub(in crate::ops) fn size(&self) -> usize {
        self.taps.len()
    }

    /// The positions from a cell to before the next: those of all cells are all positions, in order.
    pub(in crate::ops) fn starting(&self, cell: usize) -> Range<usize> {
        let end = |before: usize| self.taps.partition_point(|tap| tap.first < before);
        end(cell)..end(cell + 1)
    }

    /// The positions that a cell may have a share of.
    pub(in crate::ops) fn touching(&self, cell: usize) -> Range<usize> {
        self.taps.partition_point(|tap| tap.first + 1 < cell)..self.starting(cell).end
    }
}

/// (1 − share)·a + share·b.
#[inline(always)]
pub(in crate::ops) fn blend<T: Real>(share: T, a: T, b: T) -> T {
    (T::one() - share) * a + share * b
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First cell and share of each position.
    fn taps(cells: usize, size: usize, align_corners: bool) -> Vec<(usize, f64)> {
        Axis::new(cells, size, align_corners).taps.iter().map(|t| (t.first, t.share)).collect()
    }

    #[test]
    fn positions_worked_out_by_hand() {
        assert_eq!(
            taps(2, 6, false),
            [(0, 0.0), (0, 0.0), (0, 1.0 / 3.0), (0, 2.0 / 3.0), (1, 0.0), (1, 0.0)]
        );
        assert_eq!(taps(3, 5, true), [(0, 0.0), (0, 0.5), (1, 0.0), (1, 0.5), (2, 0.0)]);
        assert_eq!(taps(5, 2, false), [(0, 0.75), (3, 0.25)]);
        assert_eq!(taps(5, 3, true), [(0, 0.0), (2, 0.0), (4, 0.0)]);
        assert_eq!(taps(4, 1, true), [(0, 0.0)]);
        assert_eq!(taps(4, 1, false), [(1, 0.5)]);
        assert_eq!(taps(1, 3, true), [(0, 0.0); 3]);
        assert_eq!(taps(1, 3, false), [(0, 0.0); 3]);
    }

    #[test]
    fn the_same_size_is_left_alone() {
        for align_corners in [true, false] {
            for size in 1..100 {
                let expected: Vec<(usize, f64)> = (0..size).map(|i| (i, 0.0)).collect();
                assert_eq!(taps(size, size, align_corners), expected);
            }
        }
    }

    #[test]
    fn ranges_hold_the_positions_of_a_cell_and_no_others() {
        for (cells, size) in [(1, 1), (1, 9), (5, 23), (97, 769), (23, 5), (9, 1), (7, 8)] {
            for align_corners in [true, false] {
                let axis = Axis::new(cells, size, align_corners);
                for cell in 0..cells {
                    let own = |d: &usize| axis.taps[*d].first == cell;
                    let expected: Vec<usize> = (0..size).filter(own).collect();
                    assert_eq!(axis.starting(cell).collect::<Vec<_>>(), expected);
                    let shared = |d: &usize| own(d) || axis.taps[*d].next == cell;
                    let expected: Vec<usize> = (0..size).filter(shared).collect();
                    assert_eq!(axis.touching(cell).collect::<Vec<_>>(), expected);
                }
            }
        }
    }
}
