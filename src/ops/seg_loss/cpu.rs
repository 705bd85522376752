//! The loss in native code. The rows of labels between two rows of logits are a band; a band is
//! computed in blocks of columns, for which the two rows of logits are resized once, class by class,
//! so that the pixels of a row lie side by side in the vectors of the processor.

use crate::error::{Error, Result};
use crate::ops::gemm::scratch;
use crate::ops::passes::{chunks_mut, chunks_mut2, exp, vectorise};
use crate::ops::resize_bilinear::{Axis, blend};
use crate::ops::seg_loss::IGNORED;
use crate::tensor::{Real, Shape, Tensor};

/// Columns of a block.
const LANES: usize = 32;

type Lanes<T> = [T; LANES];

/// Fails on a label that is neither ignored nor from 0 to below `classes`.
pub(super) fn check_labels(shape: Shape, labels: &[i32], classes: usize) -> Result<()> {
    let is_known =
        |label: i32| label == IGNORED || usize::try_from(label).is_ok_and(|l| l < classes);
    let Some(i) = labels.iter().position(|label| !is_known(*label)) else { return Ok(()) };
    let (image, row, column) = (i / shape.positions(), i / shape.w() % shape.h(), i % shape.w());
    Err(Error::data(format!(
        "expected labels from 0 to below {classes}, the number of classes, or {IGNORED}; found {} in \
         row {row}, column {column} of image {image}",
        labels[i]
    )))
}

/// Logits and labels.
pub(super) struct Maps<'a, T> {
    logits: &'a [T],
    labels: &'a [i32],
    /// Of the logits.
    shape: Shape,
    rows: Axis,
    columns: Axis,
}

/// What the forward pass makes of a band.
struct Band<'a, T> {
    lse: &'a mut [T],
    loss: f64,
}

/// Columns `from..to` of the labels among the cells of a row of logits; lanes behind them repeat
/// the last.
struct Block<T> {
    from: usize,
    to: usize,
    /// Where the logits begin of the cell at or before a column, and of the one behind that.
    cells: [[usize; LANES]; 2],
    shares: Lanes<T>,
}

impl<T: Real> Block<T> {
    #[inline(always)]
    fn new(columns: &Axis, from: usize, classes: usize) -> Self {
        let to = columns.size().min(from + LANES);
        let tap = |i: usize| columns.taps[(from + i).min(to - 1)];
        let cell = |next: bool| {
            std::array::from_fn(|i| classes * if next { tap(i).next } else { tap(i).first })
        };
        let shares = std::array::from_fn(|i| T::of(tap(i).share));
        Self { from, to, cells: [cell(false), cell(true)], shares }
    }

    /// A row of logits resized to the block's columns, class by class.
    #[inline(always)]
    fn resize(&self, row: &[T], out: &mut [Lanes<T>]) {
        let classes = out.len();
        for i in 0..LANES {
            let [left, right] = self.cells.map(|cells| &row[cells[i]..][..classes]);
            for ((out, left), right) in out.iter_mut().zip(left).zip(right) {
                out[i] = blend(self.shares[i], *left, *right);
            }
        }
    }

    /// Adds gradients of the columns, class by class, to those of a row of logits.
    #[inline(always)]
    fn gather(&self, g: &[Lanes<T>], row: &mut [T]) {
        for i in 0..self.to - self.from {
            for (cells, share) in self.cells.iter().zip([T::one() - self.shares[i], self.shares[i]])
            {
                for (row, g) in row[cells[i]..].iter_mut().zip(g) {
                    *row += share * g[i];
                }
            }
        }
    }
}

impl<'a, T: Real> Maps<'a, T> {
    pub(super) fn new(logits: &'a Tensor, labels: &'a Tensor, [rows, columns]: [Axis; 2]) -> Self {
        let (shape, logits, labels) = (logits.shape(), logits.host(), labels.host());
        Self { logits, labels, shape, rows, columns }
    }

    /// Σ lse − z\[label\], and log Σ exp z of each pixel.
    pub(super) fn forward(&self, mut lse: &mut [T]) -> f64 {
        let [n, h, _, classes] = self.shape.0;
        let work = lse.len() * classes;
        let mut bands = Vec::with_capacity(n * h);
        for band in 0..n * h {
            let rows = self.rows.starting(band % h).len();
            let (first, rest) = lse.split_at_mut(rows * self.columns.size());
            bands.push(Band { lse: first, loss: 0.0 });
            lse = rest;
        }
        chunks_mut(work, &mut bands, 1, |i, band| {
            let Band { lse, loss } = &mut band[0];
            scratch::with(3 * classes * LANES, |buffer: &mut [T]| {
                *loss = vectorise(
                    #[inline(always)]
                    || self.band_forward(i, buffer, lse),
                );
            });
        });
        bands.iter().map(|band| band.loss).sum()
    }

    /// gx = g · the gradient of the sum.
    pub(super) fn backward(&self, lse: &[T], g: T, gx: &mut [T]) {
        let [_, h, w, classes] = self.shape.0;
        let row = w * classes;
        let work = lse.len() * classes;
        // What a band adds to the row of logits behind it.
        let mut next = vec![T::zero(); gx.len()];
        chunks_mut2(work, (gx, row), (&mut next, row), |i, own, next| {
            scratch::with(4 * classes * LANES, |buffer: &mut [T]| {
                vectorise(
                    #[inline(always)]
                    || self.band_backward(i, buffer, lse, [own, next]),
                );
            });
        });
        chunks_mut(gx.len(), gx, row, |i, gx| {
            if i % h > 0 {
                gx.iter_mut().zip(&next[(i - 1) * row..]).for_each(|(gx, before)| *gx += *before);
            }
            gx.iter_mut().for_each(|gx| *gx *= g);
        });
    }

    /// The rows of logits above and below band `i`.
    fn around(&self, i: usize) -> [&'a [T]; 2] {
        let [_, h, w, classes] = self.shape.0;
        let row = w * classes;
        let lower = if i % h + 1 < h { i + 1 } else { i };
        [i, lower].map(|i| &self.logits[i * row..][..row])
    }

    /// For each row of band `i` of labels: where its pixels begin in all maps, and the share of the
    /// logits below.
    #[inline(always)]
    fn rows(&self, i: usize) -> impl Iterator<Item = (usize, T)> {
        let h = self.shape.h();
        let (image, rows) = (i / h, self.rows.starting(i % h));
        rows.map(move |row| {
            let start = (image * self.rows.size() + row) * self.columns.size();
            (start, T::of(self.rows.taps[row].share))
        })
    }

    fn blocks(&self) -> impl Iterator<Item = Block<T>> {
        let starts = (0..self.columns.size()).step_by(LANES);
        starts.map(|from| Block::new(&self.columns, from, self.shape.c()))
    }

    /// The loss of band `i`; `buffer` has three blocks.
    #[inline(always)]
    fn band_forward(&self, i: usize, buffer: &mut [T], lse: &mut [T]) -> f64 {
        let (width, classes) = (self.columns.size(), self.shape.c());
        let (upper, rest) = buffer.as_chunks_mut::<LANES>().0.split_at_mut(classes);
        let (lower, z) = rest.split_at_mut(classes);
        let mut loss = 0.0;
        for block in self.blocks() {
            for (row, out) in self.around(i).into_iter().zip([&mut *upper, &mut *lower]) {
                block.resize(row, out);
            }
            for ((start, share), lse) in self.rows(i).zip(lse.chunks_mut(width)) {
                let log_sums = log_sum_exp(share, [&*upper, &*lower], z);
                let labels = &self.labels[start + block.from..start + block.to];
                lse[block.from..block.to].copy_from_slice(&log_sums[..labels.len()]);
                for (i, label) in labels.iter().enumerate().filter(|(_, label)| **label >= 0) {
                    loss += (log_sums[i] - z[*label as usize][i]).f64();
                }
            }
        }
        loss
    }

    /// The gradients of the rows of logits above and below band `i`; `buffer` has four blocks.
    #[inline(always)]
    fn band_backward(&self, i: usize, buffer: &mut [T], lse: &[T], [own, next]: [&mut [T]; 2]) {
        let classes = self.shape.c();
        let mut parts = buffer.as_chunks_mut::<LANES>().0.chunks_mut(classes);
        let [Some(upper), Some(lower), Some(g_upper), Some(g_lower)] =
            [(); 4].map(|()| parts.next())
        else {
            return;
        };
        own.fill(T::zero());
        next.fill(T::zero());
        for block in self.blocks() {
            for (row, out) in self.around(i).into_iter().zip([&mut *upper, &mut *lower]) {
                block.resize(row, out);
            }
            g_upper.as_flattened_mut().fill(T::zero());
            g_lower.as_flattened_mut().fill(T::zero());
            for (start, share) in self.rows(i) {
                let pixels = start + block.from..start + block.to;
                let (labels, lse) = (&self.labels[pixels.clone()], &lse[pixels]);
                // exp(z − ∞) is 0: pixels that are ignored, and lanes behind the last column.
                let mut log_sums = [T::infinity(); LANES];
                for ((log_sum, lse), label) in log_sums.iter_mut().zip(lse).zip(labels) {
                    *log_sum = if *label >= 0 { *lse } else { T::infinity() };
                }
                add_softmax(share, [&*upper, &*lower], &log_sums, [&mut *g_upper, &mut *g_lower]);
                for (i, label) in labels.iter().enumerate().filter(|(_, label)| **label >= 0) {
                    g_upper[*label as usize][i] -= T::one() - share;
                    g_lower[*label as usize][i] -= share;
                }
            }
            block.gather(g_upper, own);
            block.gather(g_lower, next);
        }
    }
}

/// z between two rows, and log Σ exp z.
#[inline(always)]
fn log_sum_exp<T: Real>(
    share: T,
    [upper, lower]: [&[Lanes<T>]; 2],
    z: &mut [Lanes<T>],
) -> Lanes<T> {
    let mut most = [T::neg_infinity(); LANES];
    for ((z, upper), lower) in z.iter_mut().zip(upper).zip(lower) {
        for i in 0..LANES {
            z[i] = blend(share, upper[i], lower[i]);
            most[i] = if z[i] > most[i] { z[i] } else { most[i] };
        }
    }
    let mut sums = [T::zero(); LANES];
    for z in z.iter() {
        for i in 0..LANES {
            sums[i] += exp(z[i] - most[i]);
        }
    }
    std::array::from_fn(|i| most[i] + sums[i].ln())
}

/// Adds the shares that two rows have in exp(z − lse), for z between them.
#[inline(always)]
fn add_softmax<T: Real>(
    share: T,
    [upper, lower]: [&[Lanes<T>]; 2],
    lse: &Lanes<T>,
    [g_upper, g_lower]: [&mut [Lanes<T>]; 2],
) {
    let rows = upper.iter().zip(lower).zip(g_upper.iter_mut().zip(g_lower));
    for ((upper, lower), (g_upper, g_lower)) in rows {
        for i in 0..LANES {
            let p = exp(blend(share, upper[i], lower[i]) - lse[i]);
            g_upper[i] += (T::one() - share) * p;
            g_lower[i] += share * p;
        }
    }
}
