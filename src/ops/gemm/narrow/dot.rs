//! Kernels on vectors of 16 sums: with the instruction that multiplies pairs of bf16 and adds
//! them to a sum (AVX512-BF16), and in f32, in which products of two bf16 are exact.

use super::{Job, Kernel, STEP, TILE, TILE_LANES, WIDTH};

/// 16 sums in an instruction set. Its functions may only be called, inlined, from a function
/// that enables the instruction set, on a machine that has it.
trait Dot: Copy {
    /// Zeros.
    unsafe fn zero() -> Self;
    /// Adds to each sum the pair `a` times the sum's own pair at `b`.
    unsafe fn add(self, a: u32, b: *const u32) -> Self;
    /// Writes the sums.
    unsafe fn store(self, to: *mut f32);
}

/// The product, as many tiles of B wide as `NV`, `MR` rows at a time.
#[inline(always)]
unsafe fn product<D: Dot, const MR: usize, const NV: usize>(job: &Job) {
    let mut product = [0.0; WIDTH * WIDTH];
    const PAIRS: usize = STEP / 2;
    // SAFETY: the caller promises that the job's panels hold all its steps; `product` has a whole tile.
    unsafe {
        for first in (0..WIDTH).step_by(MR) {
            let mut sums = [[D::zero(); NV]; MR];
            for step in 0..job.steps {
                let a = job.a.add(step * WIDTH * STEP + first * STEP).cast::<u32>();
                let b = job.b.add(step * NV * TILE).cast::<u32>();
                for pair in 0..PAIRS {
                    for (i, sums) in sums.iter_mut().enumerate() {
                        let a = *a.add(i * PAIRS + pair);
                        for (j, sum) in sums.iter_mut().enumerate() {
                            *sum = sum.add(a, b.add((j * PAIRS + pair) * TILE_LANES));
                        }
                    }
                }
            }
            for (i, sums) in sums.into_iter().enumerate() {
                for (j, sum) in sums.into_iter().enumerate() {
                    sum.store(product[(first + i) * WIDTH + j * TILE_LANES..].as_mut_ptr());
                }
            }
        }
        job.write(product.as_ptr());
    }
}

/// Both halves of a pair as f32.
#[inline(always)]
fn halves(pair: u32) -> [f32; 2] {
    [f32::from_bits(pair << 16), f32::from_bits(pair & 0xffff_0000)]
}

/// What the compiler makes of arrays.
#[derive(Clone, Copy)]
struct Portable([f32; TILE_LANES]);

impl Dot for Portable {
    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; TILE_LANES])
    }
    #[inline(always)]
    unsafe fn add(self, a: u32, b: *const u32) -> Self {
        // SAFETY: the caller promises that TILE_LANES values lie at `b`.
        let (a, b) = (halves(a), unsafe { *b.cast::<[u32; TILE_LANES]>() }.map(halves));
        // The product is exact: the same as with an instruction that does both.
        let sum = |half: usize, c: [f32; TILE_LANES]| -> [f32; TILE_LANES] {
            std::array::from_fn(|i| a[half] * b[i][half] + c[i])
        };
        Self(sum(1, sum(0, self.0)))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller promises room for TILE_LANES values at `to`.
        unsafe { *to.cast() = self.0 }
    }
}

macro_rules! kernel {
    ($dot:ty, $rows:literal rows, $what:literal $(, $feature:literal)?) => {{
        $(#[target_feature(enable = $feature)])?
        unsafe fn run(job: &Job) {
            // SAFETY: the caller promises that the job is valid and the instructions are there.
            unsafe {
                match job.width {
                    WIDTH => product::<$dot, $rows, 2>(job),
                    _ => product::<$dot, $rows, 1>(job),
                }
            }
        }
        Kernel { run, around: [|| (), || ()], name: $what }
    }};
}

/// The kernels that this machine can run, the fastest first.
pub(super) fn detected() -> Vec<Kernel> {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512f") {
            found.push(kernel!(x86::Avx512, 8 rows, "AVX512-BF16", "avx512f,avx512bf16"));
        }
        if is_x86_feature_detected!("avx2") {
            found.push(kernel!(Portable, 2 rows, "AVX2", "avx2"));
        }
    }
    found.push(kernel!(Portable, 1 rows, "portable"));
    found
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// AVX512-BF16.
    #[derive(Clone, Copy)]
    pub(super) struct Avx512(__m512);

    impl super::Dot for Avx512 {
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: the caller promises that the instructions are there.
            Self(unsafe { _mm512_setzero_ps() })
        }
        #[inline(always)]
        unsafe fn add(self, a: u32, b: *const u32) -> Self {
            // SAFETY: the caller promises the instructions, and 16 pairs at `b`.
            unsafe {
                let (a, b) = (_mm512_set1_epi32(a.cast_signed()), _mm512_loadu_si512(b.cast()));
                let [a, b] = [a, b].map(|v| std::mem::transmute::<__m512i, __m512bh>(v));
                Self(_mm512_dpbf16_ps(self.0, a, b))
            }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller promises the instructions, and room for 16 values at `to`.
            unsafe { _mm512_storeu_ps(to, self.0) }
        }
    }
}
