// Products of rows with rows: tiles of A Bᵀ for matrices whose rows lie side by side in memory,
// and sums along their rows and columns. On tensor cores slices of the depth come through shared
// memory asynchronously, two ahead of what is multiplied.
#pragma once

#include "kernel.h"
#include "mma.h"
#include "gemm_nt.h"
#include "reduce.h"

// A block of so many threads makes a tile of so many rows and columns; a warp, 32 x 32 of it.
constexpr u32 GRAM_THREADS = 256;
constexpr u32 GRAM_ROWS = 128;
constexpr u32 GRAM_COLUMNS = 64;
constexpr u32 GRAM_DEPTH = 32;
constexpr u32 GRAM_SLICE = (GRAM_ROWS + GRAM_COLUMNS) * GRAM_DEPTH;
constexpr u32 GRAM_STAGES = 3;
// Floats of the one slice without tensor cores.
constexpr u32 GRAM_PLAIN_SLICE = (GRAM_ROWS + GRAM_COLUMNS) * PRODUCT_STRIDE;
// Rows and columns of a tile.
constexpr u32 GRAM_LINES = GRAM_ROWS + GRAM_COLUMNS;

// A thread's values of a warp's part of a tile, which is 2 x 4 tiles of 16 x 8: four rows with
// eight columns.
using GramTile = float[2][4][4];
DEVICE float& gram_at(GramTile& tile, u32 r, u32 c) {
    return tile[r / 2][c / 2][r % 2 * 2 + c % 2];
}

// First row and column of this warp's part of a tile.
DEVICE u32 gram_warp_row() { return warp() / 2 * 32; }
DEVICE u32 gram_warp_column() { return warp() % 2 * 32; }
// Where this thread's row r and column c are in the block's tile.
DEVICE u32 gram_row(u32 r) { return gram_warp_row() + 8 * r + lane() / 4; }
DEVICE u32 gram_column(u32 c) { return gram_warp_column() + c / 2 * 8 + lane() % 4 * 2 + c % 2; }

// Where in a slice a vector of 8 of a row is: eight that are written together, of two rows, and
// eight that are read together, of eight rows, meet no bank twice.
DEVICE u32 gram_place(u32 row, u32 vector) {
    return row * GRAM_DEPTH + (vector ^ row / 2 % 4) * 8;
}

// Begins to load columns `from` and on of the rows of both; zeros beyond.
DEVICE void gram_load(const bf16* a, u32 a_rows, const bf16* b, u32 b_rows, u32 depth, u32 from,
                      bf16* slice) {
    constexpr u32 VECTORS = GRAM_DEPTH / 8;
    // Not unrolled, for registers.
    NO_UNROLL
    for (u32 i = 0; i < (GRAM_ROWS + GRAM_COLUMNS) * VECTORS / GRAM_THREADS; ++i) {
        u32 v = thread_index().x + i * GRAM_THREADS;
        u32 row = v / VECTORS, vector = v % VECTORS, at = from + vector * 8;
        bool of_a = row < GRAM_ROWS;
        u32 source = of_a ? row : row - GRAM_ROWS;
        bool exists = source < (of_a ? a_rows : b_rows) && at < depth;
        const bf16* x = of_a ? a : b;
        copy_async<16>(slice + gram_place(row, vector), exists ? x + source * depth + at : x,
                       exists ? 16 : 0);
    }
}

// Adds the products of one slice.
DEVICE void gram_multiply(const bf16* slice, GramTile& tile) {
    u32 a_row = gram_warp_row() + lane() % 16, a_vector = lane() / 16;
    u32 b_row = GRAM_ROWS + gram_warp_column() + lane() / 16 * 8 + lane() % 8;
    u32 b_vector = lane() / 8 % 2;
    // Not unrolled, for registers.
    NO_UNROLL
    for (u32 k = 0; k < GRAM_DEPTH / 8; k += 2) {
        u32 a[2][4], b[2][4];
        UNROLL
        for (u32 m = 0; m < 2; ++m) {
            ldmatrix_x4(a[m], slice + gram_place(a_row + 16 * m, a_vector + k));
        }
        UNROLL
        for (u32 n = 0; n < 2; ++n) {
            ldmatrix_x4(b[n], slice + gram_place(b_row + 16 * n, b_vector + k));
        }
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
    for (u32 i = 0; i < 32; ++i) gram_at(tile, i / 8, i % 8) = 0.0f;
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

// The same without tensor cores, for any depth and type; rows are loaded N elements at once.
// `slice` holds GRAM_PLAIN_SLICE floats.
template <int N, typename T>
DEVICE void gram_plain(const T* a, u32 a_rows, const T* b, u32 b_rows, u32 depth, GramTile& tile,
                       float* slice) {
    UNROLL
    for (u32 i = 0; i < 32; ++i) gram_at(tile, i / 8, i % 8) = 0.0f;
    float* b_slice = slice + GRAM_ROWS * PRODUCT_STRIDE;
    for (u32 from = 0; from < depth; from += PRODUCT_DEPTH) {
        load_slice<N, GRAM_ROWS, PRODUCT_DEPTH>(a, depth, a_rows, depth, from, slice,
                                                PRODUCT_STRIDE);
        load_slice<N, GRAM_COLUMNS, PRODUCT_DEPTH>(b, depth, b_rows, depth, from, b_slice,
                                                   PRODUCT_STRIDE);
        barrier();
        // Not unrolled, for registers.
        NO_UNROLL
        for (u32 k = 0; k < PRODUCT_DEPTH; k += 4) {
            Values<4> right[8];
            UNROLL
            for (u32 c = 0; c < 8; ++c) {
                right[c] = load<4>(b_slice + gram_column(c) * PRODUCT_STRIDE + k);
            }
            UNROLL
            for (u32 r = 0; r < 4; ++r) {
                Values<4> left = load<4>(slice + gram_row(r) * PRODUCT_STRIDE + k);
                UNROLL
                for (u32 c = 0; c < 8; ++c) {
                    UNROLL
                    for (u32 i = 0; i < 4; ++i) gram_at(tile, r, c) += left[i] * right[c][i];
                }
            }
        }
        barrier();
    }
}

// Adds up each of K tiles along its rows and along its columns; the block's threads then find
// the sums by `gram_sum`. `shared` holds 8·K·GRAM_COLUMNS floats.
template <u32 K>
DEVICE void gram_sums(GramTile (&tiles)[K], float* shared) {
    float of_rows[4 * K] = {}, of_columns[8 * K] = {};
    UNROLL
    for (u32 i = 0; i < 32; ++i) {
        UNROLL
        for (u32 k = 0; k < K; ++k) {
            float x = gram_at(tiles[k], i / 8, i % 8);
            of_rows[i / 8 * K + k] += x;
            of_columns[i % 8 * K + k] += x;
        }
    }
    // Of the four rows that four lanes have in common each lane gets one, and likewise of the
    // eight columns.
    fold<2, 2 * K>(of_rows);
    fold<1, K>(of_rows);
    fold<16, 4 * K>(of_columns);
    fold<8, 2 * K>(of_columns);
    fold<4, K>(of_columns);
    float* rows = shared + warp() % 2 * K * GRAM_ROWS + gram_row(lane() % 4);
    float* columns = shared + (4 + warp() / 2) * K * GRAM_COLUMNS + gram_column(lane() / 4);
    UNROLL
    for (u32 k = 0; k < K; ++k) {
        rows[k * GRAM_ROWS] = of_rows[k];
        columns[k * GRAM_COLUMNS] = of_columns[k];
    }
    barrier();
}

// The sum of tile k along one of the GRAM_LINES: rows come first.
template <u32 K>
DEVICE float gram_sum(const float* shared, u32 line, u32 k) {
    if (line < GRAM_ROWS) {
        shared += k * GRAM_ROWS + line;
        return shared[0] + shared[K * GRAM_ROWS];
    }
    shared += (4 * K + k) * GRAM_COLUMNS + line - GRAM_ROWS;
    float sum = shared[0];
    UNROLL
    for (u32 w = 1; w < 4; ++w) sum += shared[w * K * GRAM_COLUMNS];
    return sum;
}
