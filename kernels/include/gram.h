// Products of rows with rows on tensor cores: tiles of A Bᵀ for matrices of bf16 whose rows lie
// side by side in memory. Slices of the depth come through shared memory asynchronously, two
// ahead of what is multiplied.
#pragma once

#include "kernel.h"
#include "mma.h"

// A block of so many threads makes a tile of so many rows and columns; a warp, 32 x 32 of it.
constexpr u32 GRAM_THREADS = 256;
constexpr u32 GRAM_ROWS = 128;
constexpr u32 GRAM_COLUMNS = 64;
constexpr u32 GRAM_DEPTH = 32;
// From a row of a slice to the next: with 16 bytes more, eight rows meet no bank twice.
constexpr u32 GRAM_STRIDE = GRAM_DEPTH + 8;
constexpr u32 GRAM_SLICE = (GRAM_ROWS + GRAM_COLUMNS) * GRAM_STRIDE;
constexpr u32 GRAM_STAGES = 3;

// A warp's part of a tile: 2 x 4 tiles of 16 x 8.
using GramTile = float[2][4][4];

// First row and column of this warp's part of a tile.
DEVICE u32 gram_warp_row() { return warp() / 2 * 32; }
DEVICE u32 gram_warp_column() { return warp() % 2 * 32; }
// Of the values i of a 16 x 8 tile with numbers m and n in a warp's part: row and column in
// the block's tile.
DEVICE u32 gram_row(u32 m, u32 i) { return gram_warp_row() + 16 * m + i / 2 * 8 + lane() / 4; }
DEVICE u32 gram_column(u32 n, u32 i) {
    return gram_warp_column() + 8 * n + lane() % 4 * 2 + i % 2;
}

// Begins to load columns `from` and on of the rows of both; zeros beyond.
DEVICE void gram_load(const bf16* a, u32 a_rows, const bf16* b, u32 b_rows, u32 depth, u32 from,
                      bf16* slice) {
    constexpr u32 VECTORS = GRAM_DEPTH / 8;
    // Not unrolled, for registers.
    NO_UNROLL
    for (u32 i = 0; i < (GRAM_ROWS + GRAM_COLUMNS) * VECTORS / GRAM_THREADS; ++i) {
        u32 v = thread_index().x + i * GRAM_THREADS;
        u32 row = v / VECTORS, at = v % VECTORS * 8;
        bool of_a = row < GRAM_ROWS;
        u32 source = of_a ? row : row - GRAM_ROWS;
        bool exists = source < (of_a ? a_rows : b_rows) && from + at < depth;
        const bf16* x = of_a ? a : b;
        copy_async<16>(slice + row * GRAM_STRIDE + at,
                       exists ? x + source * depth + from + at : x, exists ? 16 : 0);
    }
}

// Adds the products of one slice.
DEVICE void gram_multiply(const bf16* slice, GramTile& tile) {
    const bf16* a_rows = slice + (gram_warp_row() + lane() % 16) * GRAM_STRIDE + lane() / 16 * 8;
    u32 b_row = GRAM_ROWS + gram_warp_column() + lane() / 16 * 8 + lane() % 8;
    const bf16* b_rows = slice + b_row * GRAM_STRIDE + lane() / 8 % 2 * 8;
    // Not unrolled, for registers.
    NO_UNROLL
    for (u32 k = 0; k < GRAM_DEPTH; k += 16) {
        u32 a[2][4], b[2][4];
        UNROLL
        for (u32 m = 0; m < 2; ++m) ldmatrix_x4(a[m], a_rows + 16 * m * GRAM_STRIDE + k);
        UNROLL
        for (u32 n = 0; n < 2; ++n) ldmatrix_x4(b[n], b_rows + 16 * n * GRAM_STRIDE + k);
        UNROLL
        for (u32 m = 0; m < 2; ++m) {
            UNROLL
            for (u32 n = 0; n < 4; ++n) {
                u32 half[2] = {b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]};
                mma_m16n8k16_bf16(tile[m][n], a[m], half);
            }
        }
    }
}

// tile = A Bᵀ over the whole depth, a multiple of 8, for `a_rows` rows from `a` on and `b_rows`
// from `b` on; 0 beyond. `slices` holds GRAM_STAGES slices.
DEVICE void gram(const bf16* a, u32 a_rows, const bf16* b, u32 b_rows, u32 depth, GramTile& tile,
                 bf16* slices) {
    UNROLL
    for (u32 m = 0; m < 2; ++m) {
        UNROLL
        for (u32 n = 0; n < 4; ++n) {
            UNROLL
            for (u32 i = 0; i < 4; ++i) tile[m][n][i] = 0.0f;
        }
    }
    // Steps beyond the depth load zeros and are not multiplied.
    u32 steps = (depth + GRAM_DEPTH - 1) / GRAM_DEPTH;
    UNROLL
    for (u32 s = 0; s + 1 < GRAM_STAGES; ++s) {
        gram_load(a, a_rows, b, b_rows, depth, s * GRAM_DEPTH, slices + s * GRAM_SLICE);
        copy_async_commit();
    }
    u32 stage = 0;
    for (u32 step = 0; step < steps; ++step) {
        copy_async_wait<int(GRAM_STAGES) - 2>();
        // The slice is there for all, and all are done with the one before, which comes next.
        barrier();
        u32 next = stage == 0 ? GRAM_STAGES - 1 : stage - 1;
        gram_load(a, a_rows, b, b_rows, depth, (step + GRAM_STAGES - 1) * GRAM_DEPTH,
                  slices + next * GRAM_SLICE);
        copy_async_commit();
        gram_multiply(slices + stage * GRAM_SLICE, tile);
        stage = stage + 1 == GRAM_STAGES ? 0 : stage + 1;
    }
    copy_async_wait<0>();
    barrier();
}
