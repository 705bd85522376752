//! The microkernel: a tile of C, kept in registers, += a few rows of A · a packed panel of B.
//!
//! Rows of A are given as pointers, as in the indirect convolution algorithm (Dukhan, 2019), so
//! that pixels of a feature map are read where they lie and a convolution needs no copy of its
//! input. The depth may be in several stretches ("taps"), for each of which the pointers are
//! moved by an offset. Packed A is the case of one tap with a stride. Rows of C are pointers
//! too, so that they can be scattered.

use std::any::Any;
use std::sync::OnceLock;

use super::simd::{Portable, Simd};
use crate::tensor::Real;

/// Most rows of a tile of any kernel.
pub(crate) const MAX_MR: usize = 8;
/// Most columns of a tile of any kernel.
pub(crate) const MAX_NR: usize = 32;

/// The work of one call: C = alpha · A·B + beta · C on one tile.
pub(crate) struct Job<T> {
    /// MR pointers to the rows of A.
    pub rows: *const *const T,
    /// For each tap, what is added to the pointers, in elements.
    pub offsets: *const usize,
    /// Stretches of depth.
    pub taps: usize,
    /// Depth of one tap.
    pub len: usize,
    /// From one depth to the next in A, in elements.
    pub stride: usize,
    /// Packed panel of B: `taps`·`len` rows of as many columns as the kernel has.
    pub b: *const T,
    /// MR pointers to the rows of C.
    pub c: *const *mut T,
    /// Added to every pointer to a row of C, in elements.
    pub c_offset: usize,
    /// Factor of the product.
    pub alpha: T,
    /// Factor of what is in C; at 0 nothing is read there.
    pub beta: T,
}

type Run<T> = unsafe fn(&Job<T>);

/// The kernels of an instruction set for one type.
pub(crate) struct Kernel<T> {
    /// Rows of a tile.
    pub mr: usize,
    /// Columns of a wide tile.
    pub nr: usize,
    /// Columns of a narrow tile, for what is left at the right.
    pub narrow: usize,
    run_wide: Run<T>,
    run_narrow: Run<T>,
    /// Instruction set.
    pub name: &'static str,
}

impl<T: Real> Kernel<T> {
    /// Columns of the panel that starts where `left` columns are left.
    pub(crate) fn width(&self, left: usize) -> usize {
        if left <= self.narrow { self.narrow } else { self.nr }
    }

    /// Columns of all panels of a matrix of `cols` columns.
    pub(crate) fn padded(&self, cols: usize) -> usize {
        let rest = cols % self.nr;
        cols - rest + if rest > 0 { self.width(rest) } else { 0 }
    }

    /// Runs a job on a tile of `width` columns.
    ///
    /// # Safety
    /// All that the job points to must be there, for whole tiles, and be this call's to write.
    #[inline]
    pub(crate) unsafe fn run(&self, width: usize, job: &Job<T>) {
        let run = if width == self.nr { self.run_wide } else { self.run_narrow };
        // SAFETY: kernels are only handed out where their instructions were detected.
        unsafe { run(job) }
    }
}

#[inline(always)]
unsafe fn tile<S: Simd, const MR: usize, const NV: usize>(job: &Job<S::T>) {
    // SAFETY: the caller promises that the job's pointers are valid for what it describes.
    unsafe {
        let mut acc = [[S::splat(<S::T as Default>::default()); NV]; MR];
        let mut b = job.b;
        let stride = job.stride;
        let rows: [*const S::T; MR] = job.rows.cast::<[_; MR]>().read();
        for tap in 0..job.taps {
            let mut at = *job.offsets.add(tap);
            for _ in 0..job.len {
                let bs: [S::V; NV] = std::array::from_fn(|j| S::load(b.add(j * S::LANES)));
                for (acc, row) in acc.iter_mut().zip(rows) {
                    let a = S::splat(*row.add(at));
                    for (acc, b) in acc.iter_mut().zip(bs) {
                        *acc = S::fma(a, b, *acc);
                    }
                }
                b = b.add(NV * S::LANES);
                at += stride;
            }
        }
        let alpha = S::splat(job.alpha);
        for (i, acc) in acc.iter().enumerate() {
            let c = (*job.c.add(i)).add(job.c_offset);
            for (j, acc) in acc.iter().enumerate() {
                let at = c.add(j * S::LANES);
                let value = match job.beta == <S::T as Default>::default() {
                    true => S::mul(alpha, *acc),
                    false => S::fma(alpha, *acc, S::mul(S::splat(job.beta), S::load(at))),
                };
                S::store(at, value);
            }
        }
    }
}

macro_rules! kernel {
    ($name:ident, $t:ty, $simd:ty, $mr:literal x $nv:literal, $what:literal $(, $feature:literal)?) => {
        static $name: Kernel<$t> = {
            $(#[target_feature(enable = $feature)])?
            unsafe fn wide(job: &Job<$t>) {
                // SAFETY: as the caller promises.
                unsafe { tile::<$simd, $mr, $nv>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn narrow(job: &Job<$t>) {
                // SAFETY: as the caller promises.
                unsafe { tile::<$simd, $mr, 1>(job) }
            }
            const LANES: usize = <$simd as Simd>::LANES;
            assert!($mr <= MAX_MR && $nv * LANES <= MAX_NR);
            Kernel {
                mr: $mr,
                nr: $nv * LANES,
                narrow: LANES,
                run_wide: wide,
                run_narrow: narrow,
                name: $what,
            }
        };
    };
}

kernel!(PORTABLE_F32, f32, Portable<f32>, 4 x 2, "portable");
kernel!(PORTABLE_F64, f64, Portable<f64>, 4 x 2, "portable");

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::simd::{F32x8, F32x16, F64x4, F64x8};
    use super::{Job, Kernel, MAX_MR, MAX_NR, Simd, tile};

    kernel!(AVX2_F32, f32, F32x8, 6 x 2, "AVX2", "avx2,fma");
    kernel!(AVX2_F64, f64, F64x4, 6 x 2, "AVX2", "avx2,fma");
    kernel!(AVX512_F32, f32, F32x16, 8 x 2, "AVX-512", "avx512f");
    kernel!(AVX512_F64, f64, F64x8, 8 x 2, "AVX-512", "avx512f");

    /// The kernels that this machine can run, the fastest first.
    pub(super) fn detected() -> Vec<(&'static Kernel<f32>, &'static Kernel<f64>)> {
        let mut found = Vec::new();
        if is_x86_feature_detected!("avx512f") {
            found.push((&AVX512_F32, &AVX512_F64));
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            found.push((&AVX2_F32, &AVX2_F64));
        }
        found
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod x86 {
    pub(super) fn detected() -> Vec<(&'static super::Kernel<f32>, &'static super::Kernel<f64>)> {
        Vec::new()
    }
}

/// All kernels that this machine can run, the fastest first.
pub(crate) fn all<T: Real>() -> impl Iterator<Item = &'static Kernel<T>> {
    static FOUND: OnceLock<Vec<(&Kernel<f32>, &Kernel<f64>)>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let mut found = x86::detected();
        found.push((&PORTABLE_F32, &PORTABLE_F64));
        found
    });
    found.iter().filter_map(|&(f, d)| {
        let (f, d): (&dyn Any, &dyn Any) = (f, d);
        f.downcast_ref::<Kernel<T>>().or(d.downcast_ref::<Kernel<T>>())
    })
}

/// The fastest kernel that this machine can run.
pub(crate) fn fastest<T: Real>() -> &'static Kernel<T> {
    all().next().expect("T is f32 or f64, for which a portable kernel is there")
}
