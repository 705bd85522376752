//! Gaussian blur as PIL does it: three box filters, of a width with a fraction, along each axis,
//! with the edges repeated and 8 bits in between (Gwosdek et al., "Theoretical foundations of
//! Gaussian convolution by extended box filtering", SSVM 2011).

use super::vectorised;

/// A box filter: `centre`/2²⁴ times the values up to `reach` away, and `edge`/2²⁴ times the two
/// after. Whole numbers, as PIL has them: with small widths many results lie halfway between
/// two levels, and three passes along each axis would add up what another rounding makes of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct BoxFilter {
    pub reach: usize,
    pub centre: u32,
    pub edge: u32,
}

impl BoxFilter {
    /// The box that, applied three times, has the deviation `sigma`, in PIL's arithmetic; `None`
    /// where that changes nothing.
    pub(super) fn new(sigma: f32) -> Option<Self> {
        let variance = sigma * sigma / 3.0;
        let length = (12.0 * f64::from(variance) + 1.0).sqrt() as f32;
        let l = ((length - 1.0) / 2.0).floor();
        let a = (2.0 * l + 1.0) * (l * (l + 1.0) - 3.0 * variance)
            / (6.0 * (variance - (l + 1.0) * (l + 1.0)));
        let (reach, width) = (l as usize, (l + a) * 2.0 + 1.0);
        let centre = (16_777_216.0 / width) as u32;
        let edge = (16_777_216 - (2 * reach as u32 + 1) * centre) / 2;
        (width > 1.0).then_some(Self { reach, centre, edge })
    }
}

/// Blurs planes of `side`×`side` bytes; `other` and `padded` are memory to use.
pub(super) fn blur(
    planes: &mut Vec<u8>,
    other: &mut Vec<u8>,
    padded: &mut Vec<u8>,
    side: usize,
    sigma: f32,
) {
    let Some(filter) = BoxFilter::new(sigma) else { return };
    padded.resize(side + 2 * (filter.reach + 1), 0);
    across(planes, padded, side, filter);
    other.resize(planes.len(), 0);
    for _ in 0..3 {
        for (from, to) in planes.chunks_exact(side * side).zip(other.chunks_exact_mut(side * side))
        {
            down(from, to, side, filter);
        }
        std::mem::swap(planes, other);
    }
}

vectorised! {
    /// Three times along every row.
    fn across(planes: &mut [u8], padded: &mut [u8], side: usize, filter: BoxFilter) {
        let reach = filter.reach;
        for row in planes.chunks_exact_mut(side) {
            for _ in 0..3 {
                padded[..=reach].fill(row[0]);
                padded[reach + 1..][..side].copy_from_slice(row);
                padded[reach + 1 + side..].fill(row[side - 1]);
                box_filter(row, filter, |k| &padded[k..][..side]);
            }
        }
    }
}

vectorised! {
    /// Once down every column of a plane.
    fn down(from: &[u8], to: &mut [u8], side: usize, filter: BoxFilter) {
        for (y, out) in to.chunks_exact_mut(side).enumerate() {
            box_filter(out, filter, |k| {
                let y = (y + k).saturating_sub(filter.reach + 1).min(side - 1);
                &from[y * side..][..side]
            });
        }
    }
}

/// Values that are worked on at a time, in registers.
const LANES: usize = 32;

/// A row of results; `shifted(k)` is the row of values `k − reach − 1` away.
#[inline(always)]
fn box_filter<'a>(out: &mut [u8], filter: BoxFilter, shifted: impl Fn(usize) -> &'a [u8]) {
    let BoxFilter { reach, centre, edge } = filter;
    let (first, last) = (shifted(0), shifted(2 * reach + 2));
    let (chunks, rest) = out.as_chunks_mut::<LANES>();
    for (i, out) in chunks.iter_mut().enumerate() {
        let lanes = |row: &'a [u8]| row[i * LANES..][..LANES].iter().map(|&v| u16::from(v));
        // At most 2·50 + 1 values of 255: they fit 16 bits.
        let mut inner = [0u16; LANES];
        for k in 1..=2 * reach + 1 {
            for (s, v) in inner.iter_mut().zip(lanes(shifted(k))) {
                *s += v;
            }
        }
        let outer = lanes(first).zip(lanes(last));
        for ((o, s), (a, b)) in out.iter_mut().zip(inner).zip(outer) {
            *o = weigh(s, a + b, centre, edge);
        }
    }
    let start = first.len() - rest.len();
    for (o, i) in rest.iter_mut().zip(start..) {
        let inner = (1..=2 * reach + 1).map(|k| u16::from(shifted(k)[i])).sum();
        *o = weigh(inner, u16::from(first[i]) + u16::from(last[i]), centre, edge);
    }
}

#[inline(always)]
fn weigh(inner: u16, outer: u16, centre: u32, edge: u32) -> u8 {
    // At most 255 · 2²⁴ + 2²³: it fits.
    ((u32::from(inner) * centre + u32::from(outer) * edge + (1 << 23)) >> 24) as u8
}
