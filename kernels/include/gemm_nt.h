// Products of rows with rows: tiles of A Bᵀ for matrices whose rows lie side by side in memory,
// staged through shared memory as f32, a slice of the depth after the other.
#pragma once

#include "kernel.h"
#include "vector.h"

// A block of so many threads makes a square tile of so many rows and columns. Of it thread t
// has rows t / 16 + 16i and columns t % 16 + 16j, i and j below 4.
constexpr u32 PRODUCT_THREADS = 256;
constexpr u32 PRODUCT_TILE = 64;
constexpr u32 PRODUCT_SIDE = 16;
// Depth of a slice, and floats from a row of it to the next: with four more, accesses of 16
// bytes to eight rows meet no bank twice.
constexpr u32 PRODUCT_DEPTH = 32;
constexpr u32 PRODUCT_STRIDE = PRODUCT_DEPTH + 4;
// Floats of a slice.
constexpr u32 PRODUCT_SLICE = PRODUCT_TILE * PRODUCT_STRIDE;

// Place of this thread in a tile: its first row and column.
DEVICE u32 product_row() { return thread_index().x / PRODUCT_SIDE; }
DEVICE u32 product_column() { return thread_index().x % PRODUCT_SIDE; }

// Loads columns `from` and on of ROWS rows of x, WIDTH of them, to `out`; zeros beyond `rows` and
// `columns`. From a row to the next there are `x_stride` elements, and in `out` `stride`.
template <int N, u32 ROWS, u32 WIDTH, typename T>
DEVICE void load_slice(const T* x, u32 x_stride, u32 rows, u32 columns, u32 from, float* out,
                       u32 stride) {
    constexpr u32 VECTORS = WIDTH / N;
    for (u32 v = thread_index().x; v < ROWS * VECTORS; v += PRODUCT_THREADS) {
        u32 row = v / VECTORS, at = v % VECTORS * N;
        Values<N> values = {};
        if (row < rows && from + at < columns) values = load<N>(x + row * x_stride + from + at);
        store<N>(out + row * stride + at, values);
    }
}

// Adds the products of one slice.
DEVICE void add_products(const float* a, const float* b, float (&s)[4][4]) {
    a += product_row() * PRODUCT_STRIDE;
    b += product_column() * PRODUCT_STRIDE;
    // Not unrolled: that would take registers for the loads of several steps.
    NO_UNROLL
    for (u32 k = 0; k < PRODUCT_DEPTH; k += 4) {
        Values<4> right[4];
        UNROLL
        for (u32 j = 0; j < 4; ++j) {
            right[j] = load<4>(b + PRODUCT_SIDE * j * PRODUCT_STRIDE + k);
        }
        UNROLL
        for (u32 i = 0; i < 4; ++i) {
            Values<4> left = load<4>(a + PRODUCT_SIDE * i * PRODUCT_STRIDE + k);
            UNROLL
            for (u32 j = 0; j < 4; ++j) {
                UNROLL
                for (u32 c = 0; c < 4; ++c) s[i][j] += left[c] * right[j][c];
            }
        }
    }
}

// s = A Bᵀ over the first `depth` columns, for `a_rows` rows from `a` on and `b_rows` from `b` on, at
// most PRODUCT_TILE; 0 beyond. From a row to the next there are `a_stride` and `b_stride` elements.
// The slices may be written again after a barrier.
template <int N, typename T>
DEVICE void products(const T* a, u32 a_stride, u32 a_rows, const T* b, u32 b_stride, u32 b_rows,
                     u32 depth, float (&s)[4][4], float* a_slice, float* b_slice) {
    UNROLL
    for (u32 i = 0; i < 4; ++i) {
        UNROLL
        for (u32 j = 0; j < 4; ++j) s[i][j] = 0.0f;
    }
    for (u32 from = 0; from < depth; from += PRODUCT_DEPTH) {
        barrier();
        load_slice<N, PRODUCT_TILE, PRODUCT_DEPTH>(a, a_stride, a_rows, depth, from, a_slice,
                                                   PRODUCT_STRIDE);
        load_slice<N, PRODUCT_TILE, PRODUCT_DEPTH>(b, b_stride, b_rows, depth, from, b_slice,
                                                   PRODUCT_STRIDE);
        barrier();
        add_products(a_slice, b_slice, s);
    }
}

// The same for whole rows.
template <int N, typename T>
DEVICE void products(const T* a, u32 a_rows, const T* b, u32 b_rows, u32 depth,
                     float (&s)[4][4], float* a_slice, float* b_slice) {
    products<N>(a, depth, a_rows, b, depth, b_rows, depth, s, a_slice, b_slice);
}

// Σ and greatest of v over the threads that share rows of a tile, in all of them.
DEVICE float product_row_sum(float v) {
    UNROLL
    for (u32 with = PRODUCT_SIDE / 2; with > 0; with /= 2) v += shuffle_xor(FULL_WARP, v, with);
    return v;
}
DEVICE float product_row_max(float v) {
    UNROLL
    for (u32 with = PRODUCT_SIDE / 2; with > 0; with /= 2) {
        v = max(v, shuffle_xor(FULL_WARP, v, with));
    }
    return v;
}
