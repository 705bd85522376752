//! InfoNCE in native code, by tiles of logits. A task takes some rows of q and a strip of the
//! queue; tile after tile it keeps, for each row, the greatest logit so far m, Σ exp(l − m)
//! and Σ exp(l − m)·negative (the online softmax of Milakov and Gimelshein, 2018).

use super::InfoNCE;
use crate::ops::gemm::{MatMut, MatRef, gemm_alone, scratch};
use crate::ops::passes::{chunks_mut, chunks_mut2, dot, exp, exp_in_place, max, vectorise};
use crate::tensor::Real;

/// Rows of q of a task.
const ROWS: usize = 128;
/// Negatives of a tile.
const TILE: usize = 256;
/// Most strips that the queue is cut into.
const STRIPS: usize = 16;

/// How the logits are cut: a function of the shapes alone.
pub(in crate::ops) struct Split {
    n: usize,
    k: usize,
    d: usize,
    blocks: usize,
    strips: usize,
    /// Negatives of a strip.
    strip: usize,
}

impl Split {
    pub(in crate::ops) fn new(n: usize, k: usize, d: usize) -> Self {
        let strip = k.div_ceil(STRIPS).next_multiple_of(TILE);
        Self { n, k, d, blocks: n.div_ceil(ROWS), strips: k.div_ceil(strip), strip }
    }
    /// Elements of one task's results: a row has m, the sum, and the sum of negatives.
    fn part(&self) -> usize {
        ROWS.min(self.n) * (2 + self.d)
    }
    /// What is known of row `i` from each strip, in order: m, the sum, and the sum of negatives.
    fn strips<'a, T: Real>(
        &'a self,
        parts: &'a [T],
        i: usize,
    ) -> impl Iterator<Item = (f64, f64, &'a [T])> + Clone {
        let (d, part, rows) = (self.d, self.part(), ROWS.min(self.n));
        let strips = parts[i / ROWS * self.strips * part..].chunks(part).take(self.strips);
        let row = i % ROWS;
        strips.map(move |part| {
            let (state, sums) = part.split_at(2 * rows);
            (state[2 * row].f64(), state[2 * row + 1].f64(), &sums[row * d..][..d])
        })
    }
    /// Elements of all tasks' results.
    pub(in crate::ops) fn elems(&self) -> usize {
        self.blocks * self.strips * self.part()
    }
}

/// The results of all tasks, by blocks of rows, then strips.
pub(in crate::ops) fn sum_parts<T: Real>(
    split: &Split,
    tau: f64,
    q: &[T],
    queue: &[T],
    parts: &mut [T],
) {
    let d = split.d;
    let work = split.n * split.k * d;
    chunks_mut(work, parts, split.part(), |t, part| {
        let first = t / split.strips * ROWS;
        let rows = ROWS.min(split.n - first);
        let q = MatRef::new(&q[first * d..][..rows * d], rows, d);
        let (state, sums) = part.split_at_mut(2 * ROWS.min(split.n));
        let sums = &mut sums[..rows * d];
        state.chunks_mut(2).for_each(|s| s.copy_from_slice(&[T::neg_infinity(), T::zero()]));
        sums.fill(T::zero());
        let start = t % split.strips * split.strip;
        let strip = &queue[start * d..(start + split.strip).min(split.k) * d];
        for tile in strip.chunks(TILE * d) {
            let cols = tile.len() / d;
            let tile = MatRef::new(tile, cols, d);
            scratch::with(rows * cols, |logits: &mut [T]| {
                let scale = T::of(1.0 / tau);
                gemm_alone(scale, q, tile.t(), T::zero(), MatMut::new(logits, rows, cols));
                vectorise(
                    #[inline(always)]
                    || {
                        let rows = logits.chunks_mut(cols).zip(sums.chunks_mut(d));
                        for ((logits, sum), state) in rows.zip(state.chunks_mut(2)) {
                            take(logits, sum, state);
                        }
                    },
                );
                let logits = MatRef::new(logits, rows, cols);
                gemm_alone(T::one(), logits, tile, T::one(), MatMut::new(sums, rows, d));
            });
        }
    });
}

/// Takes one row of a tile into its state (m and the sum): logits become exp(l − m), and what
/// was summed before is scaled where m grew.
#[inline(always)]
fn take<T: Real>(logits: &mut [T], sum_of_negatives: &mut [T], state: &mut [T]) {
    let most = max(logits);
    if most > state[0] {
        let factor = exp(state[0] - most);
        sum_of_negatives.iter_mut().for_each(|s| *s *= factor);
        state[1] *= factor;
        state[0] = most;
    }
    state[1] += exp_in_place(logits, state[0], T::one());
}

/// Adds the strips in order, and the positive k where it is a logit. Returns the mean loss and
/// fills `direction`, for each row: Σ p·negative + p₀·k − k, τ·N times the gradient of the mean
/// loss. A target stands in k's place with p₀ = 0.
pub(in crate::ops) fn combine<T: Real>(
    op: &InfoNCE,
    split: &Split,
    q: &[T],
    k: &[T],
    parts: &[T],
    direction: &mut [T],
) -> f64 {
    let d = split.d;
    let mut losses = vec![0.0; split.n];
    let work = direction.len() * split.strips;
    chunks_mut2(work, (direction, d), (&mut losses, 1), |i, direction, loss| {
        let (q, k) = (&q[i * d..][..d], &k[i * d..][..d]);
        let of_strips = split.strips(parts, i);
        let positive = dot(q, k).f64() / op.tau;
        let least = if op.own { positive } else { f64::NEG_INFINITY };
        let most = of_strips.clone().fold(least, |m, (strip, _, _)| m.max(strip));
        let own = if op.own { (positive - most).exp() } else { 0.0 };
        let total = of_strips.clone().fold(own, |z, (m, sum, _)| z + sum * (m - most).exp());
        loss[0] = total.ln() + most - positive;
        let own = T::of(own / total - 1.0);
        direction.iter_mut().zip(k).for_each(|(x, k)| *x = own * *k);
        add_strips(of_strips, most, total, direction);
    });
    losses.iter().sum::<f64>() / split.n as f64
}

/// Adds the strips in order: fills Σ p·negative and ln Σ exp(l) of each row.
pub(in crate::ops) fn mean<T: Real>(split: &Split, parts: &[T], mean: &mut [T], log_z: &mut [T]) {
    let work = mean.len() * split.strips;
    chunks_mut2(work, (mean, split.d), (log_z, 1), |i, mean, log_z| {
        let of_strips = split.strips(parts, i);
        let most = of_strips.clone().fold(f64::NEG_INFINITY, |m, (strip, _, _)| m.max(strip));
        let total = of_strips.clone().fold(0.0, |z, (m, sum, _)| z + sum * (m - most).exp());
        log_z[0] = T::of(total.ln() + most);
        mean.fill(T::zero());
        add_strips(of_strips, most, total, mean);
    });
}

/// Adds Σ p·negative over a row's strips, where all logits add up to `total`.
fn add_strips<'a, T: Real>(
    strips: impl Iterator<Item = (f64, f64, &'a [T])>,
    most: f64,
    total: f64,
    to: &mut [T],
) {
    for (m, _, sums) in strips {
        let share = T::of((m - most).exp() / total);
        to.iter_mut().zip(sums).for_each(|(x, s)| *x += share * *s);
    }
}
