//! Masks as run lengths, in COCO's order: down the columns, from left to right, beginning with
//! pixels that do not belong to the mask.

use super::BBox;
use crate::error::{Error, Result};

/// Pixels of an image, at most: positions are 32-bit integers.
const MOST_PIXELS: u64 = u32::MAX as u64;

/// A mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rle {
    height: u32,
    width: u32,
    /// Lengths of the runs: outside, inside, outside, …; their sum is height·width.
    counts: Vec<u32>,
}

impl Rle {
    /// A mask of such runs.
    ///
    /// # Errors
    /// A size of 0 or of more than 2³² pixels; runs that do not fill it.
    pub fn new(height: u32, width: u32, counts: Vec<u32>) -> Result<Self> {
        check_size(height, width)?;
        let (sum, pixels) =
            (counts.iter().map(|&c| u64::from(c)).sum::<u64>(), area(height, width));
        if sum != pixels {
            return Err(Error::data(format!(
                "expected run lengths that add up to the {pixels} pixels of its size {height}x{width} \
                 (height, width), found a sum of {sum}"
            )));
        }
        Ok(Self { height, width, counts })
    }

    /// A mask from the sorted positions of its borders: each one turns inside into outside or back.
    pub(super) fn of_borders(height: u32, width: u32, borders: impl Iterator<Item = u32>) -> Self {
        let end = area(height, width) as u32;
        let mut counts = Vec::new();
        let mut from = 0;
        let mut borders = borders.peekable();
        while let Some(at) = borders.next() {
            // Two at the same place are none.
            if borders.next_if_eq(&at).is_none() && at < end {
                counts.push(at - from);
                from = at;
            }
        }
        counts.push(end - from);
        Self { height, width, counts }
    }

    /// Decodes COCO's compressed form: each length is a difference to that of two runs before (from
    /// the fourth run on), in groups of five bits, the lowest first, as characters from `0` on.
    ///
    /// # Errors
    /// As [`Rle::new`]; a character that is none of these, a length out of range, an end within one.
    pub fn from_text(height: u32, width: u32, text: &str) -> Result<Self> {
        let mut counts: Vec<u32> = Vec::new();
        let mut bytes = text.bytes().enumerate();
        while let Some(first) = bytes.next() {
            let (mut value, mut shift, mut next) = (0i64, 0, Some(first));
            loop {
                let group = next.and_then(|(_, b)| b.checked_sub(48)).filter(|&group| group < 64);
                let Some(group) = group.filter(|_| shift < 40) else {
                    return Err(damaged(next.map_or(text.len(), |(at, _)| at)));
                };
                value |= i64::from(group & 0x1f) << shift;
                shift += 5;
                if group & 0x20 == 0 {
                    // The highest bit is the sign.
                    value |= if group & 0x10 != 0 { -1 << shift } else { 0 };
                    break;
                }
                next = bytes.next();
            }
            if let Some(at) = counts.len().checked_sub(2).filter(|&at| at > 0) {
                value += i64::from(counts[at]);
            }
            counts.push(u32::try_from(value).map_err(|_| damaged(first.0))?);
        }
        Self::new(height, width, counts)
    }

    /// The compressed form.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (i, &count) in self.counts.iter().enumerate() {
            let before = if i > 2 { self.counts[i - 2] } else { 0 };
            let mut value = i64::from(count) - i64::from(before);
            loop {
                let group = (value & 0x1f) as u8;
                value >>= 5;
                let more = value != if group & 0x10 != 0 { -1 } else { 0 };
                text.push(char::from(48 + group + if more { 0x20 } else { 0 }));
                if !more {
                    break;
                }
            }
        }
        text
    }

    /// Height and width.
    pub fn size(&self) -> (u32, u32) {
        (self.height, self.width)
    }

    /// Lengths of the runs: outside, inside, outside, …
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// Pixels of the mask.
    pub fn area(&self) -> u64 {
        self.counts.iter().skip(1).step_by(2).map(|&c| u64::from(c)).sum()
    }

    /// Runs of pixels of the mask: first position, and the one after the last.
    pub fn runs(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let mut at = 0;
        self.counts.chunks(2).filter_map(move |pair| {
            let from = at + pair[0];
            at = from + pair.get(1).copied().unwrap_or(0);
            (from < at).then_some((from, at))
        })
    }

    /// The smallest box that holds all pixels; of no pixels all zeros.
    pub fn bbox(&self) -> BBox {
        let h = self.height;
        let (mut x0, mut y0, mut x1, mut y1) = (u32::MAX, u32::MAX, 0, 0);
        for (from, end) in self.runs() {
            let (left, right) = (from / h, (end - 1) / h);
            let whole = left < right;
            (x0, x1) = (x0.min(left), x1.max(right));
            y0 = y0.min(if whole { 0 } else { from % h });
            y1 = y1.max(if whole { h - 1 } else { (end - 1) % h });
        }
        if x0 == u32::MAX {
            return BBox::default();
        }
        let [x, y, w, h] = [x0, y0, x1 - x0 + 1, y1 - y0 + 1].map(f64::from);
        BBox { x, y, w, h }
    }

    /// The mask whose row `y` and column `x` are these rows and columns of this one: a nearest resize,
    /// a crop or a flip.
    ///
    /// # Errors
    /// No rows or columns, or more than a mask has; one that this mask does not have.
    pub fn pick(&self, rows: &[u32], columns: &[u32]) -> Result<Self> {
        let (height, width) = (rows.len() as u32, columns.len() as u32);
        check_size(height, width)?;
        if rows.iter().any(|&y| y >= self.height) || columns.iter().any(|&x| x >= self.width) {
            return Err(Error::data(format!(
                "expected rows and columns of a mask of {}x{} (height, width), found others",
                self.height, self.width
            )));
        }
        let mut inside = vec![false; area(self.height, self.width) as usize];
        self.runs().for_each(|(from, end)| inside[from as usize..end as usize].fill(true));
        let from = |y: u32, x: u32| columns[x as usize] * self.height + rows[y as usize];
        Self::of_pixels(height, width, |y, x| inside[from(y, x) as usize])
    }

    /// The mask of the pixels, by row and column, that are `inside`.
    ///
    /// # Errors
    /// A size that no mask has.
    pub fn of_pixels(height: u32, width: u32, inside: impl Fn(u32, u32) -> bool) -> Result<Self> {
        check_size(height, width)?;
        let (mut borders, mut was) = (vec![], false);
        for at in 0..height * width {
            if inside(at % height, at / height) != was {
                was = !was;
                borders.push(at);
            }
        }
        Ok(Self::of_borders(height, width, borders.into_iter()))
    }

    /// Pixels that two masks of the same size have in common.
    fn intersection(&self, other: &Self) -> u64 {
        let (mut left, mut right) = (self.runs(), other.runs());
        let (mut a, mut b) = (left.next(), right.next());
        let mut pixels = 0;
        while let (Some(l), Some(r)) = (a, b) {
            pixels += u64::from(l.1.min(r.1).saturating_sub(l.0.max(r.0)));
            if l.1 <= r.1 { a = left.next() } else { b = right.next() }
        }
        pixels
    }

    /// Intersection over union with a true mask; of a `crowd` the share of this mask that lies
    /// within. 0 where they do not meet, and where their sizes differ.
    pub fn iou(&self, truth: &Self, crowd: bool) -> f64 {
        if self.size() != truth.size() {
            return 0.0;
        }
        let both = self.intersection(truth);
        let all = if crowd { self.area() } else { self.area() + truth.area() - both };
        if both == 0 { 0.0 } else { both as f64 / all as f64 }
    }

    /// The union of masks of one size; none of no masks, and where sizes differ.
    pub fn union(masks: &[Self]) -> Option<Self> {
        let (first, rest) = masks.split_first()?;
        if rest.is_empty() || rest.iter().any(|mask| mask.size() != first.size()) {
            return rest.is_empty().then(|| first.clone());
        }
        let mut runs: Vec<(u32, u32)> = masks.iter().flat_map(Self::runs).collect();
        runs.sort_unstable();
        let mut joined: Vec<(u32, u32)> = Vec::new();
        for (from, end) in runs {
            match joined.last_mut().filter(|last| from <= last.1) {
                Some(last) => last.1 = last.1.max(end),
                None => joined.push((from, end)),
            }
        }
        let borders = joined.into_iter().flat_map(|(from, end)| [from, end]);
        Some(Self::of_borders(first.height, first.width, borders))
    }
}

fn area(height: u32, width: u32) -> u64 {
    u64::from(height) * u64::from(width)
}

/// Errors: a size that no mask has.
pub(super) fn check_size(height: u32, width: u32) -> Result<()> {
    match area(height, width) {
        1..=MOST_PIXELS => Ok(()),
        _ => Err(Error::data(format!(
            "expected a mask of 1 to {MOST_PIXELS} pixels, found the size {height}x{width} (height, \
             width)"
        ))),
    }
}

fn damaged(at: usize) -> Error {
    Error::data(format!(
        "expected run lengths as COCO compresses them, found a damaged one at character {at}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(counts: &[u32]) -> Rle {
        Rle::new(4, 5, counts.to_vec()).unwrap()
    }

    #[test]
    fn text_and_runs_are_the_same_mask() {
        for counts in [&[20][..], &[0, 20], &[1, 2, 3, 4, 10], &[0, 1, 1, 1, 1, 16]] {
            let mask = mask(counts);
            assert_eq!(Rle::from_text(4, 5, &mask.to_text()).unwrap(), mask);
        }
        let long = Rle::new(60_000, 60_000, vec![5, 3_000_000_000, 7, 1, 599_999_987]).unwrap();
        assert_eq!(Rle::from_text(60_000, 60_000, &long.to_text()).unwrap(), long);
    }

    #[test]
    fn damaged_text_and_sizes_are_errors() {
        for (text, what) in [
            ("d", "at character 1"),
            ("1 ", "at character 1"),
            ("é", "at character 0"),
            ("OOOO", "at character 0"),
            ("oooooooooo0", "at character 8"),
            ("4", "a sum of 4"),
            ("", "a sum of 0"),
        ] {
            let e = Rle::from_text(4, 5, text).unwrap_err().to_string();
            assert!(e.contains(what), "{text}: {e}");
        }
        assert!(Rle::new(0, 5, vec![]).is_err());
        assert!(Rle::new(u32::MAX, 2, vec![]).is_err());
    }

    #[test]
    fn areas_boxes_and_overlaps_by_hand() {
        // Rows 1 and 2 of column 0, row 2 of column 1.
        let a = mask(&[1, 2, 3, 1, 13]);
        assert_eq!(a.area(), 3);
        assert_eq!(a.bbox(), BBox { x: 0.0, y: 1.0, w: 2.0, h: 2.0 });
        // From row 3 of column 0 to row 0 of column 1: two whole columns.
        assert_eq!(mask(&[3, 2, 15]).bbox(), BBox { x: 0.0, y: 0.0, w: 2.0, h: 4.0 });
        assert_eq!(mask(&[20]).bbox(), BBox::default());
        let b = mask(&[2, 5, 13]);
        assert_eq!((a.iou(&b, false), a.iou(&b, true)), (2.0 / 6.0, 2.0 / 3.0));
        assert_eq!(a.iou(&mask(&[20]), false), 0.0);
        assert_eq!(Rle::union(&[a.clone(), b]).unwrap().counts(), [1, 6, 13]);
        assert_eq!(Rle::union(std::slice::from_ref(&a)), Some(a));
        assert_eq!(Rle::union(&[]), None);
    }

    #[test]
    fn rows_and_columns_are_picked() {
        // Rows 1 and 2 of column 0, row 2 of column 1.
        let a = mask(&[1, 2, 3, 1, 13]);
        assert_eq!(a.pick(&[0, 1, 2, 3], &[0, 1, 2, 3, 4]).unwrap(), a);
        assert_eq!(a.pick(&[0, 1, 2, 3], &[4, 3, 2, 1, 0]).unwrap().counts(), [14, 1, 2, 2, 1]);
        assert_eq!(a.pick(&[1, 2], &[0, 0, 1]).unwrap().counts(), [0, 4, 1, 1]);
        assert!(a.pick(&[4], &[0]).is_err() && a.pick(&[0], &[5]).is_err());
        assert!(a.pick(&[], &[0]).is_err());
    }
}
