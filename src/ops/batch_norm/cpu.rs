//! Batch normalisation in native code. It is bound by memory, so passes are few: forward
//! reads x twice; backward reads x and the gradient twice, and works the ReLU's mask out from
//! x again where it can instead of reading y. Sums are taken in parts of fixed size, around a
//! value near the mean so that the variance does not cancel, and the parts added in f64.

use super::layout::{Layout, repeat};
use super::{BatchNorm, EPS, Running, Stats};
use crate::ops::gemm::scratch;
use crate::ops::passes::{chunks_mut, relu_gradient, vectorise};
use crate::tensor::{Real, Shape, Tensor};

/// Rows from which the value is taken that sums are shifted by.
const PROBES: usize = 8;

/// Runs `sum(first, second)` on two wide rows of zeros and folds what it added to them into
/// `out`: the first sums of all channels, then the second.
fn fold_sums<T: Real>(layout: &Layout, out: &mut [f64], sum: impl FnOnce(&mut [T], &mut [T])) {
    scratch::with(2 * layout.wide, |sums: &mut [T]| {
        sums.fill(T::zero());
        let (first, second) = sums.split_at_mut(layout.wide);
        sum(first, second);
        out.fill(0.0);
        let (out_first, out_second) = out.split_at_mut(layout.channels);
        for (out, sums) in [(out_first, first), (out_second, second)] {
            for row in sums.chunks(layout.channels) {
                out.iter_mut().zip(row).for_each(|(o, s)| *o += s.f64());
            }
        }
    });
}

/// first += x − shift, second += (x − shift)², over all wide rows of `x`.
#[inline(always)]
fn sum_powers<T: Real>(x: &[T], shift: &[T], first: &mut [T], second: &mut [T]) {
    let w = shift.len();
    let (first, second) = (&mut first[..w], &mut second[..w]);
    let mut blocks = x.chunks_exact(4 * w);
    for block in &mut blocks {
        let (x0, rest) = block.split_at(w);
        let (x1, rest) = rest.split_at(w);
        let (x2, x3) = rest.split_at(w);
        let x3 = &x3[..w];
        for i in 0..w {
            let d = [x0[i] - shift[i], x1[i] - shift[i], x2[i] - shift[i], x3[i] - shift[i]];
            first[i] += (d[0] + d[1]) + (d[2] + d[3]);
            second[i] += (d[0] * d[0] + d[1] * d[1]) + (d[2] * d[2] + d[3] * d[3]);
        }
    }
    for row in blocks.remainder().chunks(w) {
        for i in 0..row.len() {
            let d = row[i] - shift[i];
            first[i] += d;
            second[i] += d * d;
        }
    }
}

/// Mean and biased variance of each channel in each group: 2·C values a group.
fn moments<T: Real>(layout: &Layout, x: &[T]) -> Vec<f64> {
    let c = layout.channels;
    let shifts: Vec<Vec<T>> = (0..layout.groups)
        .map(|g| {
            let x = &x[layout.group(g)];
            let rows = x.len() / c;
            let probes = PROBES.min(rows);
            let probe = |p: usize, i: usize| x[p * rows / probes * c + i].f64();
            repeat(layout, |i| (0..probes).map(|p| probe(p, i)).sum::<f64>() / probes as f64)
        })
        .collect();
    let mut sums = vec![0.0; layout.groups * layout.parts * 2 * c];
    chunks_mut(layout.elems, &mut sums, 2 * c, |t, sums| {
        let shift: &[T] = &shifts[t / layout.parts];
        fold_sums(layout, sums, |first, second| {
            vectorise(
                #[inline(always)]
                || sum_powers(&x[layout.part(t)], shift, first, second),
            );
        });
    });
    let mut total = layout.total(&sums);
    for (g, total) in total.chunks_mut(2 * c).enumerate() {
        let n = (layout.group(g).len() / c) as f64;
        let (first, second) = total.split_at_mut(c);
        for i in 0..c {
            let mean = first[i] / n;
            let found = second[i] / n - mean * mean;
            // NaN stays, which `max` would make 0.
            second[i] = if found < 0.0 { 0.0 } else { found };
            first[i] = shifts[g][i].f64() + mean;
        }
    }
    total
}

fn inv_std<T: Real>(var: f64) -> T {
    T::of(1.0 / (var + EPS).sqrt())
}

/// Mean and 1/√(var + ε) of each group. Adds mean and unbiased variance of the only group to
/// `running`.
pub(super) fn statistics<T: Real>(
    op: &BatchNorm,
    x: &Tensor,
    stats: &mut Tensor,
    running: Option<&mut Running>,
) {
    let layout = op.layout(x.shape());
    let c = layout.channels;
    let moments = moments(&layout, x.host::<T>());
    for (stats, moments) in stats.host_mut::<T>().chunks_mut(2 * c).zip(moments.chunks(2 * c)) {
        for i in 0..c {
            stats[i] = T::of(moments[i]);
            stats[c + i] = inv_std(moments[c + i]);
        }
    }
    let Some(running) = running else { return };
    let (images, n) = (x.shape().n() as f64, x.shape().rows() as f64);
    let (means, vars) = running.sums.host_mut::<f64>().split_at_mut(c);
    for i in 0..c {
        means[i] += images * T::of(moments[i]).f64();
        vars[i] += images * T::of(moments[c + i] * n / (n - 1.0)).f64();
    }
}

/// Mean and variance from their sums over so many images.
pub(super) fn averages<T: Real>(sums: &Tensor, images: usize, mean: &mut [T], var: &mut [T]) {
    let sums = sums.host::<f64>();
    for (out, sum) in mean.iter_mut().chain(var).zip(sums) {
        *out = T::of(sum / images as f64);
    }
}

/// Mean and 1/√(var + ε).
pub(super) fn given_statistics<T: Real>(mean: &[T], var: &[T], stats: &mut [T]) {
    let (out_mean, out_inv_std) = stats.split_at_mut(mean.len());
    out_mean.copy_from_slice(mean);
    out_inv_std.iter_mut().zip(var).for_each(|(s, v)| *s = inv_std(v.f64()));
}

/// What every pass of a group needs, as wide rows: y = x·scale + bias, and the mean.
struct Affine<T> {
    scale: Vec<T>,
    bias: Vec<T>,
    mean: Vec<T>,
}

/// For each group, from the saved statistics.
fn affine<T: Real>(layout: &Layout, gamma: &[T], beta: &[T], stats: &[T]) -> Vec<Affine<T>> {
    let c = layout.channels;
    stats
        .chunks(2 * c)
        .map(|stats| {
            let (mean, inv_std) = stats.split_at(c);
            let scale = |i: usize| gamma[i].f64() * inv_std[i].f64();
            Affine {
                scale: repeat(layout, scale),
                bias: repeat(layout, |i| beta[i].f64() - mean[i].f64() * scale(i)),
                mean: repeat(layout, |i| mean[i].f64()),
            }
        })
        .collect()
}

impl BatchNorm {
    fn layout(&self, shape: Shape) -> Layout {
        Layout::new(shape, self.group(shape.n()))
    }
}

/// y from x and γ, β, and the statistics of each group.
pub(super) fn normalise<T: Real>(
    op: &BatchNorm,
    x: &Tensor,
    [gamma, beta, stats]: [&Tensor; 3],
    residual: Option<&Tensor>,
    y: &mut Tensor,
) {
    let layout = op.layout(x.shape());
    let x = x.host::<T>();
    let affine = affine(&layout, gamma.host::<T>(), beta.host(), stats.host());
    let residual = residual.map_or(&[][..], |r| r.host::<T>());
    let part = match (op.add, op.relu) {
        (false, false) => normalise_part::<T, false, false>,
        (false, true) => normalise_part::<T, false, true>,
        (true, false) => normalise_part::<T, true, false>,
        (true, true) => normalise_part::<T, true, true>,
    };
    let mut no_sums = vec![(); layout.groups * layout.parts];
    layout.each_part(y.host_mut::<T>(), &mut no_sums, 1, |g, at, y, _| {
        let residual = if op.add { &residual[at.clone()] } else { &[] };
        part(&affine[g], &x[at], residual, y);
    });
}

/// y = x·scale + bias (+ residual), at least 0 with a ReLU (NaN stays NaN).
fn normalise_part<T: Real, const ADD: bool, const RELU: bool>(
    affine: &Affine<T>,
    x: &[T],
    residual: &[T],
    y: &mut [T],
) {
    vectorise(
        #[inline(always)]
        || {
            let w = affine.scale.len();
            for (row, (y, x)) in y.chunks_mut(w).zip(x.chunks(w)).enumerate() {
                let n = y.len();
                let (x, scale, bias) = (&x[..n], &affine.scale[..n], &affine.bias[..n]);
                let residual = if ADD { &residual[row * w..][..n] } else { x };
                for i in 0..n {
                    let mut v = x[i] * scale[i] + bias[i];
                    if ADD {
                        v += residual[i];
                    }
                    y[i] = if RELU && v < T::zero() { T::zero() } else { v };
                }
            }
        },
    );
}

/// Sums over the gradient g of the output, after the ReLU's mask.
#[derive(Default)]
pub(super) struct Sums {
    /// For each group: Σ g and Σ g·(x − mean) of each channel.
    groups: Vec<f64>,
    /// Gradient of γ: Σ g·x̂.
    pub gamma: Vec<f64>,
    /// Gradient of β: Σ g.
    pub beta: Vec<f64>,
}

/// The sums; with a residual and a ReLU, `gy` is masked on the way.
pub(super) fn gradient_sums<T: Real>(op: &BatchNorm, saved: &[Tensor], gy: &mut Tensor) -> Sums {
    let layout = op.layout(saved[0].shape());
    let (c, x, stats) = (layout.channels, saved[0].host::<T>(), saved[3].host::<T>());
    let affine = affine(&layout, saved[1].host::<T>(), saved[2].host(), stats);
    let y = saved.get(4).map(|y| y.host::<T>());
    let sum = if op.relu && !op.add { sum_part::<T, true> } else { sum_part::<T, false> };
    let mut sums = vec![0.0; layout.groups * layout.parts * 2 * c];
    layout.each_part(gy.host_mut::<T>(), &mut sums, 2 * c, |g, at, gy, sums| {
        let y = y.map(|y| &y[at.clone()]);
        fold_sums(&layout, sums, |first, second| sum(&affine[g], &x[at], y, gy, first, second));
    });
    let groups = layout.total(&sums);
    let (mut gamma, mut beta) = (vec![0.0; c], vec![0.0; c]);
    for (sums, stats) in groups.chunks(2 * c).zip(stats.chunks(2 * c)) {
        for i in 0..c {
            beta[i] += sums[i];
            gamma[i] += sums[c + i] * stats[c + i].f64();
        }
    }
    Sums { groups, gamma, beta }
}

/// Masks one part of the gradient by `y`, if given, and adds up [`sum_products`].
fn sum_part<T: Real, const MASK: bool>(
    affine: &Affine<T>,
    x: &[T],
    y: Option<&[T]>,
    g: &mut [T],
    first: &mut [T],
    second: &mut [T],
) {
    vectorise(
        #[inline(always)]
        || {
            // Blocks of four wide rows stay in the first cache between the two loops.
            let block = 4 * affine.scale.len();
            for (i, g) in g.chunks_mut(block).enumerate() {
                let at = i * block..i * block + g.len();
                if let Some(y) = y {
                    for (g, y) in g.iter_mut().zip(&y[at.clone()]) {
                        *g = relu_gradient(*y, *g);
                    }
                }
                sum_products::<T, MASK>(affine, &x[at], g, first, second);
            }
        },
    );
}

/// first += g, second += g·(x − mean), over all wide rows; with `MASK`, g counts only where
/// the output, computed again as in [`normalise_part`], is above 0.
#[inline(always)]
fn sum_products<T: Real, const MASK: bool>(
    affine: &Affine<T>,
    x: &[T],
    g: &[T],
    first: &mut [T],
    second: &mut [T],
) {
    let w = affine.scale.len();
    let (scale, bias, mean) = (&affine.scale[..w], &affine.bias[..w], &affine.mean[..w]);
    let (first, second) = (&mut first[..w], &mut second[..w]);
    let term = |i: usize, x: T, g: T| {
        let g = if MASK { relu_gradient(x * scale[i] + bias[i], g) } else { g };
        (g, g * (x - mean[i]))
    };
    if x.len() == 4 * w {
        let (x0, rest) = x.split_at(w);
        let (x1, rest) = rest.split_at(w);
        let (x2, x3) = rest.split_at(w);
        let (g0, rest) = g.split_at(w);
        let (g1, rest) = rest.split_at(w);
        let (g2, g3) = rest.split_at(w);
        let (x3, g3) = (&x3[..w], &g3[..w]);
        for i in 0..w {
            let (a, b) = (term(i, x0[i], g0[i]), term(i, x1[i], g1[i]));
            let (c, d) = (term(i, x2[i], g2[i]), term(i, x3[i], g3[i]));
            first[i] += (a.0 + b.0) + (c.0 + d.0);
            second[i] += (a.1 + b.1) + (c.1 + d.1);
        }
    } else {
        for (x, g) in x.chunks(w).zip(g.chunks(w)) {
            for i in 0..x.len() {
                let (a, b) = term(i, x[i], g[i]);
                first[i] += a;
                second[i] += b;
            }
        }
    }
}

/// The gradient of x: γ/√(var + ε) · (g − Σg/n − x̂·Σ(g·x̂)/n) in training, γ/√(var + ε) · g
/// with given statistics. g is in `gy`, or in `gx` where that is `None`.
pub(super) fn input_gradient<T: Real>(
    op: &BatchNorm,
    saved: &[Tensor],
    sums: &Sums,
    gy: Option<&Tensor>,
    gx: &mut Tensor,
) {
    let layout = op.layout(saved[0].shape());
    let (c, x, stats) = (layout.channels, saved[0].host::<T>(), saved[3].host::<T>());
    let affine = affine(&layout, saved[1].host::<T>(), saved[2].host(), stats);
    // For each group, as wide rows: Σg/n and Σ(g·(x − mean))/n/(var + ε).
    let terms: Vec<[Vec<T>; 2]> = (0..layout.groups)
        .map(|g| {
            let n = (layout.group(g).len() / c) as f64;
            let weight = if op.stats == Stats::Given { 0.0 } else { 1.0 / n };
            let (sums, stats) = (&sums.groups[2 * c * g..], &stats[2 * c * g..]);
            let inv_var = |i: usize| stats[c + i].f64().powi(2);
            [
                repeat(&layout, |i| sums[i] * weight),
                repeat(&layout, |i| sums[c + i] * inv_var(i) * weight),
            ]
        })
        .collect();
    let part =
        if op.relu && !op.add { gradient_part::<T, true> } else { gradient_part::<T, false> };
    let gy = gy.map(|gy| gy.host::<T>());
    let mut no_sums = vec![(); layout.groups * layout.parts];
    layout.each_part(gx.host_mut::<T>(), &mut no_sums, 1, |g, at, gx, _| {
        let gy = gy.map(|gy| &gy[at.clone()]);
        part(&affine[g], &terms[g], &x[at], gy, gx);
    });
}

/// One part of [`input_gradient`]; `MASK` as in [`sum_products`].
fn gradient_part<T: Real, const MASK: bool>(
    affine: &Affine<T>,
    [mean_g, slope]: &[Vec<T>; 2],
    x: &[T],
    gy: Option<&[T]>,
    gx: &mut [T],
) {
    vectorise(
        #[inline(always)]
        || {
            let w = affine.scale.len();
            for (row, (gx, x)) in gx.chunks_mut(w).zip(x.chunks(w)).enumerate() {
                let n = gx.len();
                if let Some(gy) = gy {
                    gx.copy_from_slice(&gy[row * w..][..n]);
                }
                let (x, mean_g, slope) = (&x[..n], &mean_g[..n], &slope[..n]);
                let (scale, bias) = (&affine.scale[..n], &affine.bias[..n]);
                let mean = &affine.mean[..n];
                for i in 0..n {
                    let g =
                        if MASK { relu_gradient(x[i] * scale[i] + bias[i], gx[i]) } else { gx[i] };
                    gx[i] = scale[i] * (g - mean_g[i] - (x[i] - mean[i]) * slope[i]);
                }
            }
        },
    );
}
