// Types of kernels: short integer names, bf16, and vectors that are loaded in one access.
#pragma once

#ifdef __CUDACC__
#define DEVICE __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#define NO_UNROLL _Pragma("unroll 1")
// A table: `CONSTANT(float, weights, 2) = {0.5f, 2.0f};` at file scope.
#define CONSTANT(T, name, count) static __constant__ const T name[count]
#else
#include <cmath>
#include <cstring>

#include "../host/intrinsics.h"
// Always inlined, so that an access is reported at the line of the kernel that makes it.
#define DEVICE inline __attribute__((always_inline))
#define UNROLL
#define NO_UNROLL
#define CONSTANT(T, name, count) static const T name[count]
#endif

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;
using i32 = int;
using i64 = long long;

// The bits of a value as another type of the same size.
template <typename To, typename From>
DEVICE To bit_cast(const From& from) {
    static_assert(sizeof(To) == sizeof(From), "bit_cast between types of different sizes");
    To to;
    memcpy(&to, &from, sizeof(To));
    return to;
}

// bfloat16 as it is stored; arithmetic is done in f32.
struct bf16 {
    u16 bits;

    bf16() = default;
    // Rounds to nearest, ties to even; NaN becomes 0x7fff.
    DEVICE explicit bf16(float x) {
#ifdef __CUDACC__
        asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
#else
        u32 b = bit_cast<u32>(x);
        bool is_nan = (b & 0x7fffffff) > 0x7f800000;
        bits = is_nan ? u16(0x7fff) : u16((b + 0x7fff + ((b >> 16) & 1)) >> 16);
#endif
    }
    DEVICE explicit operator float() const { return bit_cast<float>(u32(bits) << 16); }
};

// `N` values that lie side by side and are read or written in one access of at most 16 bytes.
template <typename T, int N>
struct alignas(sizeof(T) * N) Vec {
    static_assert(sizeof(T) * N <= 16, "a thread reads at most 16 bytes at once");
    T at[N];
    DEVICE T& operator[](int i) { return at[i]; }
    DEVICE const T& operator[](int i) const { return at[i]; }
};

namespace detail {
// An integer type of so many bytes: one of these is one access, on both sides.
template <int BYTES>
struct Raw;
#ifdef __CUDACC__
template <> struct Raw<16> { using type = uint4; };
template <> struct Raw<8> { using type = uint2; };
template <> struct Raw<4> { using type = u32; };
template <> struct Raw<2> { using type = u16; };
template <> struct Raw<1> { using type = u8; };
#else
typedef u32 raw16 __attribute__((vector_size(16), may_alias));
typedef u64 raw8 __attribute__((may_alias));
typedef u32 raw4 __attribute__((may_alias));
typedef u16 raw2 __attribute__((may_alias));
template <> struct Raw<16> { using type = raw16; };
template <> struct Raw<8> { using type = raw8; };
template <> struct Raw<4> { using type = raw4; };
template <> struct Raw<2> { using type = raw2; };
template <> struct Raw<1> { using type = u8; };
#endif
}  // namespace detail

// Reads `N` values in one access; `p` is aligned to all of them.
template <int N, typename T>
DEVICE Vec<T, N> load_vec(const T* p) {
    using R = typename detail::Raw<sizeof(T) * N>::type;
    R raw = *reinterpret_cast<const R*>(p);
    return bit_cast<Vec<T, N>>(raw);
}

// Writes `N` values in one access; `p` is aligned to all of them.
template <int N, typename T>
DEVICE void store_vec(T* p, const Vec<T, N>& v) {
    using R = typename detail::Raw<sizeof(T) * N>::type;
    *reinterpret_cast<R*>(p) = bit_cast<R>(v);
}

#ifndef __CUDACC__
// What CUDA has as built-ins. Of a number and NaN they give the number, as there.
template <typename T>
DEVICE T min(T a, T b) { return b < a || a != a ? b : a; }
template <typename T>
DEVICE T max(T a, T b) { return a < b || a != a ? b : a; }
#endif

// The upper half of a product.
DEVICE u32 mul_high(u32 a, u32 b) { return u32((u64(a) * b) >> 32); }
