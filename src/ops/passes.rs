//! Passes over memory: how the elementwise ops split their work over threads and reach the
//! vector units. Splits and orders of summation depend on shapes alone, so that results are
//! the same for any number of threads and on any processor.

use rayon::prelude::*;

use crate::tensor::{DType, Real};

/// Elements that a thread takes at a time in elementwise passes (64 KiB of f32): the split
/// does not depend on the number of threads.
pub const CHUNK: usize = 16 * 1024;

/// Elements below which a pass stays on the calling thread: waking another takes longer.
pub const SERIAL: usize = 32 * 1024;

/// Runs `f` compiled for the widest vectors that the processor has. It pays for loops over
/// slices; `f` and what it calls must be inlined (`#[inline(always)]`). No operations are
/// fused, so the results are those of the portable code, bit for bit.
#[inline(always)]
pub fn vectorise<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn on_avx2<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has what the function enables.
            return unsafe { on_avx2(f) };
        }
    }
    f()
}

/// Calls `f(i, chunk)` for the consecutive chunks of `out`, on all threads where the pass
/// touches at least [`SERIAL`] elements (`work`).
pub fn chunks_mut<T: Send>(
    work: usize,
    out: &mut [T],
    chunk: usize,
    f: impl Fn(usize, &mut [T]) + Send + Sync,
) {
    if work < SERIAL {
        out.chunks_mut(chunk).enumerate().for_each(|(i, out)| f(i, out));
    } else {
        out.par_chunks_mut(chunk).enumerate().for_each(|(i, out)| f(i, out));
    }
}

/// As [`chunks_mut`] with two outputs: `f(i, a's chunk, b's chunk)`.
pub fn chunks_mut2<A: Send, B: Send>(
    work: usize,
    (a, a_chunk): (&mut [A], usize),
    (b, b_chunk): (&mut [B], usize),
    f: impl Fn(usize, &mut [A], &mut [B]) + Send + Sync,
) {
    if work < SERIAL {
        let both = a.chunks_mut(a_chunk).zip(b.chunks_mut(b_chunk));
        both.enumerate().for_each(|(i, (a, b))| f(i, a, b));
    } else {
        let both = a.par_chunks_mut(a_chunk).zip(b.par_chunks_mut(b_chunk));
        both.enumerate().for_each(|(i, (a, b))| f(i, a, b));
    }
}

/// The gradient behind a ReLU: g where its output y is above 0 (or NaN), else 0.
#[inline(always)]
pub fn relu_gradient<T: Real>(y: T, g: T) -> T {
    let masked = if y <= T::zero() { T::zero() } else { g };
    // Adding 0 keeps the compiler from storing under a mask, which is far slower.
    masked + T::zero()
}

/// Σ aᵢ·bᵢ, in sixteen partial sums.
#[inline(always)]
pub fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    const LANES: usize = 16;
    let mut sums = [T::zero(); LANES];
    let (mut a, mut b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    for (a, b) in (&mut a).zip(&mut b) {
        for i in 0..LANES {
            sums[i] += a[i] * b[i];
        }
    }
    let rest = a.remainder().iter().zip(b.remainder()).fold(T::zero(), |sum, (a, b)| sum + *a * *b);
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            let other = sums[i + width];
            sums[i] += other;
        }
        width /= 2;
    }
    sums[0] + rest
}

/// Greatest value (−∞ of none), in sixteen partial maxima; NaN only where all are.
#[inline(always)]
pub fn max<T: Real>(x: &[T]) -> T {
    const LANES: usize = 16;
    let mut best = [T::neg_infinity(); LANES];
    let mut x = x.chunks_exact(LANES);
    for x in &mut x {
        for i in 0..LANES {
            best[i] = if x[i] > best[i] { x[i] } else { best[i] };
        }
    }
    best.iter().chain(x.remainder()).fold(T::neg_infinity(), |m, v| if *v > m { *v } else { m })
}

/// x ← exp((x − shift) · scale), and returns their sum. In f32 within 2·10⁻⁷ of the exact
/// value, relative; results below 2⁻¹²⁶ become 0.
#[inline(always)]
pub fn exp_in_place<T: Real>(x: &mut [T], shift: T, scale: T) -> T {
    for x in x.iter_mut() {
        *x = exp((*x - shift) * scale);
    }
    sum(x)
}

/// Σ xᵢ, in sixteen partial sums.
#[inline(always)]
pub fn sum<T: Real>(x: &[T]) -> T {
    const LANES: usize = 16;
    let mut sums = [T::zero(); LANES];
    let mut x = x.chunks_exact(LANES);
    for x in &mut x {
        for i in 0..LANES {
            sums[i] += x[i];
        }
    }
    let rest = x.remainder().iter().fold(T::zero(), |sum, x| sum + *x);
    sums.iter().fold(rest, |sum, x| sum + *x)
}

/// eˣ, written so that a loop over it uses vectors for f32.
#[inline(always)]
pub fn exp<T: Real>(x: T) -> T {
    // Known at compile time; the casts are between the same types.
    match T::DTYPE {
        DType::F32 => bytemuck::cast(exp_f32(bytemuck::cast(x))),
        _ => x.exp(),
    }
}

/// eˣ = 2ⁿ·eʳ with |r| ≤ ln 2 / 2, eʳ by a polynomial of degree 7 (Taylor's to degree 2,
/// then minimax: Cephes, `expf`).
#[inline(always)]
fn exp_f32(x: f32) -> f32 {
    /// Adding and subtracting it rounds to a whole number.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts, the first exact in its products with n.
    const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let clamped = if x > 88.0 { 88.0 } else { x };
    let clamped = if clamped < -87.3 { -87.3 } else { clamped };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * LN2[0] - n * LN2[1];
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + coefficient;
    }
    let fraction = p * r * r + r + 1.0;
    // The low bits of `shifted` hold n; they become the exponent.
    let power = f32::from_bits((shifted.to_bits().wrapping_add(127)) << 23);
    let value = fraction * power;
    let value = if x < -87.3 { 0.0 } else { value };
    // NaN passes through all of this.
    if x > 88.0 { f32::INFINITY } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_everywhere() {
        let mut worst = 0.0f64;
        for i in -870_000..880_000 {
            let x = i as f32 * 1e-4;
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - exact).abs() / exact);
        }
        assert!(worst < 2e-7, "{worst}");
        assert_eq!((exp(0.0f32), exp(-100.0f32), exp(-1e30f32)), (1.0, 0.0, 0.0));
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(100.0f32), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
        assert_eq!(exp(1.5f64), 1.5f64.exp());
    }

    #[test]
    fn reductions_take_every_element() {
        for n in 0..70 {
            let x: Vec<f64> = (0..n).map(|i| f64::from((i * 7) % 31)).collect();
            let expected = x.iter().map(|x| x * x).sum::<f64>();
            assert_eq!(dot(&x, &x), expected);
            assert_eq!(max(&x), x.iter().copied().fold(f64::NEG_INFINITY, f64::max));
            let mut e = x.clone();
            let sum = exp_in_place(&mut e, 1.0, 0.5);
            let expected: f64 = x.iter().map(|x| ((x - 1.0) * 0.5).exp()).sum();
            assert!((sum - expected).abs() <= 1e-9 * expected, "{n}");
        }
    }
}
