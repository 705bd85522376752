//! Vectors of one instruction set each, so that the microkernel is written once.

use crate::tensor::Real;

/// A vector register of an instruction set. Its functions may only be called, inlined, from
/// a function that enables the instruction set, on a machine that has it.
pub(super) trait Simd {
    /// Element.
    type T: Real;
    /// Register.
    type V: Copy;
    /// Elements in a register.
    const LANES: usize;

    /// All lanes `x`.
    unsafe fn splat(x: Self::T) -> Self::V;
    /// `LANES` elements from `p`, which need not be aligned.
    unsafe fn load(p: *const Self::T) -> Self::V;
    /// `LANES` elements to `p`, which need not be aligned.
    unsafe fn store(p: *mut Self::T, v: Self::V);
    /// a · b + c.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// a · b.
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
}

/// Four elements that the compiler maps to what every machine of the target has.
pub(super) struct Portable<T>(std::marker::PhantomData<T>);

impl<T: Real> Simd for Portable<T> {
    type T = T;
    type V = [T; 4];
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: T) -> [T; 4] {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load(p: *const T) -> [T; 4] {
        // SAFETY: the caller promises four values at `p`.
        unsafe { p.cast::<[T; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut T, v: [T; 4]) {
        // SAFETY: the caller promises room for four values at `p`.
        unsafe { p.cast::<[T; 4]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn fma(a: [T; 4], b: [T; 4], c: [T; 4]) -> [T; 4] {
        // Not `mul_add`: without the instruction that is a call.
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn mul(a: [T; 4], b: [T; 4]) -> [T; 4] {
        std::array::from_fn(|i| a[i] * b[i])
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{F32x8, F32x16, F64x4, F64x8};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Simd;
    use std::arch::x86_64::*;

    macro_rules! simd {
        ($doc:literal, $name:ident, $t:ty, $v:ty, $lanes:literal,
         $splat:ident, $load:ident, $store:ident, $fma:ident, $mul:ident) => {
            #[doc = $doc]
            pub(in crate::ops::gemm) struct $name;

            impl Simd for $name {
                type T = $t;
                type V = $v;
                const LANES: usize = $lanes;

                #[inline(always)]
                unsafe fn splat(x: $t) -> $v {
                    // SAFETY: the caller promises that the instruction is there.
                    unsafe { $splat(x) }
                }
                #[inline(always)]
                unsafe fn load(p: *const $t) -> $v {
                    // SAFETY: the caller promises the instruction, and a vector at `p`.
                    unsafe { $load(p) }
                }
                #[inline(always)]
                unsafe fn store(p: *mut $t, v: $v) {
                    // SAFETY: the caller promises the instruction, and room for a vector at `p`.
                    unsafe { $store(p, v) }
                }
                #[inline(always)]
                unsafe fn fma(a: $v, b: $v, c: $v) -> $v {
                    // SAFETY: the caller promises that the instruction is there.
                    unsafe { $fma(a, b, c) }
                }
                #[inline(always)]
                unsafe fn mul(a: $v, b: $v) -> $v {
                    // SAFETY: the caller promises that the instruction is there.
                    unsafe { $mul(a, b) }
                }
            }
        };
    }

    simd!(
        "AVX2 and FMA, f32.",
        F32x8,
        f32,
        __m256,
        8,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_fmadd_ps,
        _mm256_mul_ps
    );
    simd!(
        "AVX2 and FMA, f64.",
        F64x4,
        f64,
        __m256d,
        4,
        _mm256_set1_pd,
        _mm256_loadu_pd,
        _mm256_storeu_pd,
        _mm256_fmadd_pd,
        _mm256_mul_pd
    );
    simd!(
        "AVX-512, f32.",
        F32x16,
        f32,
        __m512,
        16,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_fmadd_ps,
        _mm512_mul_ps
    );
    simd!(
        "AVX-512, f64.",
        F64x8,
        f64,
        __m512d,
        8,
        _mm512_set1_pd,
        _mm512_loadu_pd,
        _mm512_storeu_pd,
        _mm512_fmadd_pd,
        _mm512_mul_pd
    );
}
