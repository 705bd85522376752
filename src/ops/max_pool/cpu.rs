//! Max-pooling in native code: channels are the inner loops. Backward gathers: each input
//! pixel asks the (at most four) windows that cover it whether it won there, so no two
//! threads write one place.

use crate::ops::passes::{chunks_mut, chunks_mut2, vectorise};
use crate::tensor::{Real, Shape};

/// The nine pixels of the window at (oy, ox), as (offset into the image, tap); where the
/// window reaches over the edge, the first pixel inside stands in: it cannot beat itself.
fn window(oy: usize, ox: usize, [h, w, c]: [usize; 3]) -> [(usize, u32); 9] {
    let pixel = |tap: usize| {
        let (y, x) = (2 * oy + tap / 3, 2 * ox + tap % 3);
        let inside = (1..=h).contains(&y) && (1..=w).contains(&x);
        inside.then(|| (((y - 1) * w + x - 1) * c, tap as u32))
    };
    let first = (0..9).find_map(pixel).unwrap_or_default();
    std::array::from_fn(|tap| pixel(tap).unwrap_or(first))
}

/// y and, for each of its elements, the tap (3·row + column) of its window that won.
pub(super) fn forward<T: Real>(shape: Shape, x: &[T], y: &mut [T], winner: &mut [u8]) {
    let [_, h, w, c] = shape.0;
    let (rows, row) = (h.div_ceil(2), w.div_ceil(2) * c);
    chunks_mut2(x.len(), (y, row), (winner, row), |i, y, winner| {
        let (n, oy) = (i / rows, i % rows);
        let x = &x[n * h * w * c..][..h * w * c];
        vectorise(
            #[inline(always)]
            || {
                let pixels = y.chunks_mut(c).zip(winner.chunks_mut(c)).enumerate();
                for (ox, (y, winner)) in pixels {
                    pool_pixel(x, window(oy, ox, [h, w, c]), y, winner);
                }
            },
        );
    });
}

/// All channels of one output pixel.
#[inline(always)]
fn pool_pixel<T: Real>(x: &[T], window: [(usize, u32); 9], y: &mut [T], winner: &mut [u8]) {
    const LANES: usize = 16;
    let whole = y.len() / LANES * LANES;
    for at in (0..whole).step_by(LANES) {
        pool_lanes::<T, LANES>(&x[at..], window, &mut y[at..], &mut winner[at..]);
    }
    for at in whole..y.len() {
        pool_lanes::<T, 1>(&x[at..], window, &mut y[at..], &mut winner[at..]);
    }
}

/// The first `LANES` channels: the first greatest of the nine pixels, NaN above all.
#[inline(always)]
fn pool_lanes<T: Real, const LANES: usize>(
    x: &[T],
    window: [(usize, u32); 9],
    y: &mut [T],
    winner: &mut [u8],
) {
    let mut best = [T::neg_infinity(); LANES];
    let mut taps = [window[0].1; LANES];
    for (at, tap) in window {
        let x = &x[at..][..LANES];
        for i in 0..LANES {
            let wins = x[i] > best[i] || x[i].is_nan();
            best[i] = if wins { x[i] } else { best[i] };
            taps[i] = if wins { tap } else { taps[i] };
        }
    }
    y[..LANES].copy_from_slice(&best);
    for (winner, tap) in winner[..LANES].iter_mut().zip(taps) {
        *winner = tap as u8;
    }
}

/// Windows, with the tap in each, that cover position `i` of a side of `size`.
fn windows(i: usize, size: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
    let out = size.div_ceil(2);
    (i / 2..=i.div_ceil(2)).filter(move |o| *o < out).map(move |o| (o, i + 1 - 2 * o))
}

/// gx (of shape `shape`) from the gradient of the output and the winners.
pub(super) fn backward<T: Real>(shape: Shape, winner: &[u8], gy: &[T], gx: &mut [T]) {
    let [_, h, w, c] = shape.0;
    let (rows, cols) = (h.div_ceil(2), w.div_ceil(2));
    chunks_mut(gx.len(), gx, w * c, |i, gx| {
        let (n, iy) = (i / h, i % h);
        vectorise(
            #[inline(always)]
            || {
                for (ix, gx) in gx.chunks_mut(c).enumerate() {
                    gx.fill(T::zero());
                    for (oy, ky) in windows(iy, h) {
                        for (ox, kx) in windows(ix, w) {
                            let at = ((n * rows + oy) * cols + ox) * c;
                            let (winner, gy) = (&winner[at..at + c], &gy[at..at + c]);
                            let tap = (3 * ky + kx) as u8;
                            for ((gx, winner), gy) in gx.iter_mut().zip(winner).zip(gy) {
                                *gx += if *winner == tap { *gy } else { T::zero() };
                            }
                        }
                    }
                }
            },
        );
    });
}
