// Products of matrices in tiles: a block computes M × N sums over a depth that comes in slices
// of 128 bytes, several of them on their way to shared memory while one is multiplied. Whose
// elements they are is up to the kernel, which hands in how a slice is loaded.
//
// A tile in shared memory lies along the depth (rows of M or N, vectors of the depth) or along
// its side (rows of the depth, vectors of M or N), as the operand lies in global memory. Its
// rows are padded by one vector, which makes them an odd number of vectors: eight rows that
// follow each other start in different banks.
#pragma once

#include "kernel.h"
#include "mma.h"
#include "vector.h"

enum class Along { DEPTH, SIDE };

// Elements of a slice of the depth.
template <typename T>
constexpr int DEPTH = 128 / int(sizeof(T));

template <typename T, int SIDE, Along ALONG>
struct TileShape {
    static constexpr int ROWS = ALONG == Along::DEPTH ? SIDE : DEPTH<T>;
    static constexpr int COLUMNS = ALONG == Along::DEPTH ? DEPTH<T> : SIDE;
    static constexpr int STRIDE = COLUMNS + VECTOR<T>;
    static constexpr int ELEMS = ROWS * STRIDE;
};

// What all products have: `S` is the product itself, whose `multiply` adds a slice's products
// and whose `store_sums` writes the sums as f32 to rows of SUMS_STRIDE elements.
template <typename S, typename T, int M_, int N_, Along A_, Along B_, int STAGES>
struct Tiled {
    static constexpr int M = M_, N = N_;
    using A = TileShape<T, M, A_>;
    using B = TileShape<T, N, B_>;
    static constexpr int SUMS_STRIDE = N + 8;

    // Adds the products over `depth`. `load(a, b, from)` starts to load the slice that begins
    // there, zeros beyond the end. Returns the sums in shared memory.
    template <typename Load>
    DEVICE float* run(u32 depth, Load load) {
        constexpr int STAGE = A::ELEMS + B::ELEMS;
        T* stages = dynamic_shared<T>();
        u32 slices = (depth + DEPTH<T> - 1) / DEPTH<T>;
        UNROLL
        for (u32 s = 0; s < STAGES - 1; ++s) {
            T* a = stages + s * STAGE;
            if (s < slices) load(a, a + A::ELEMS, s * DEPTH<T>);
            copy_async_commit();
        }
        u32 full = 0, empty = STAGES - 1;
        NO_UNROLL
        for (u32 s = 0; s < slices; ++s) {
            copy_async_wait<STAGES - 2>();
            // The slice is there for all, and nobody reads the one before any more.
            barrier();
            if (s + STAGES - 1 < slices) {
                T* a = stages + empty * STAGE;
                load(a, a + A::ELEMS, (s + STAGES - 1) * DEPTH<T>);
            }
            copy_async_commit();
            const T* a = stages + full * STAGE;
            u32 left = depth - s * DEPTH<T>;
            static_cast<S*>(this)->multiply(a, a + A::ELEMS, left);
            full = full + 1 == STAGES ? 0 : full + 1;
            empty = empty + 1 == STAGES ? 0 : empty + 1;
        }
        // All slices have landed, and take no more reads.
        barrier();
        float* tile = dynamic_shared<float>();
        static_cast<S*>(this)->store_sums(tile);
        barrier();
        return tile;
    }
};

template <typename T, int M, int N, Along A, Along B>
struct Product;

// f32: each thread has 8 × 8 sums.
template <int M, int N, Along A_ALONG, Along B_ALONG>
struct Product<float, M, N, A_ALONG, B_ALONG>
    : Tiled<Product<float, M, N, A_ALONG, B_ALONG>, float, M, N, A_ALONG, B_ALONG, 2> {
    using Base = Tiled<Product, float, M, N, A_ALONG, B_ALONG, 2>;
    static constexpr int THREADS = (M / 8) * (N / 8);
    float sums[8][8] = {};

    // Which row or column of the tile is a thread's i-th, where `threads` share them: strided
    // along the depth, in vectors along the side, so that neighbours read different banks.
    template <Along ALONG>
    DEVICE static u32 element(u32 thread, u32 threads, u32 i) {
        return ALONG == Along::DEPTH ? thread + threads * i : i / 4 * 4 * threads + thread * 4 + i % 4;
    }

    // Four of a thread's rows or columns, from the i-th, at four depths.
    template <Along ALONG, int STRIDE>
    DEVICE static void fetch(const float* tile, u32 thread, u32 threads, u32 i, u32 depth,
                             float (&v)[4][4]) {
        UNROLL
        for (u32 j = 0; j < 4; ++j) {
            bool is_deep = ALONG == Along::DEPTH;
            u32 at = is_deep ? element<ALONG>(thread, threads, i + j) * STRIDE + depth
                             : (depth + j) * STRIDE + element<ALONG>(thread, threads, i);
            Values<4> x = load<4>(tile + at);
            UNROLL
            for (u32 k = 0; k < 4; ++k) (is_deep ? v[j][k] : v[k][j]) = x[int(k)];
        }
    }

    DEVICE void multiply(const float* a, const float* b, u32 left) {
        u32 row = thread_index().x / (N / 8), column = thread_index().x % (N / 8);
        u32 end = min(left, u32(DEPTH<float>));
        NO_UNROLL
        for (u32 depth = 0; depth < end; depth += 4) {
            float x[2][4][4], y[4][4];
            UNROLL
            for (u32 i = 0; i < 2; ++i) {
                fetch<A_ALONG, Base::A::STRIDE>(a, row, M / 8, 4 * i, depth, x[i]);
            }
            UNROLL
            for (u32 j = 0; j < 2; ++j) {
                fetch<B_ALONG, Base::B::STRIDE>(b, column, N / 8, 4 * j, depth, y);
                UNROLL
                for (u32 k = 0; k < 4; ++k) add(x, y, j, k);
            }
        }
    }

    DEVICE void add(const float (&x)[2][4][4], const float (&y)[4][4], u32 j, u32 k) {
        UNROLL
        for (u32 r = 0; r < 8; ++r) {
            UNROLL
            for (u32 c = 0; c < 4; ++c) sums[r][4 * j + c] += x[r / 4][r % 4][k] * y[c][k];
        }
    }

    DEVICE void store_sums(float* tile) {
        u32 row = thread_index().x / (N / 8), column = thread_index().x % (N / 8);
        UNROLL
        for (u32 r = 0; r < 8; ++r) {
            float* to = tile + element<A_ALONG>(row, M / 8, r) * Base::SUMS_STRIDE;
            UNROLL
            for (u32 c = 0; c < 8; c += 4) {
                const float* four = sums[r] + c;
                u32 at = element<B_ALONG>(column, N / 8, c);
                if (B_ALONG == Along::SIDE) {
                    store<4>(to + at, Values<4>{{four[0], four[1], four[2], four[3]}});
                } else {
                    UNROLL
                    for (u32 i = 0; i < 4; ++i) to[at + i * (N / 8)] = four[i];
                }
            }
        }
    }
};

// bf16 on tensor cores, sums in f32: each of eight warps has 32 rows.
template <int M, int N, Along A_ALONG, Along B_ALONG>
struct Product<bf16, M, N, A_ALONG, B_ALONG>
    : Tiled<Product<bf16, M, N, A_ALONG, B_ALONG>, bf16, M, N, A_ALONG, B_ALONG, 3> {
    using Base = Tiled<Product, bf16, M, N, A_ALONG, B_ALONG, 3>;
    static constexpr int THREADS = 256;
    static constexpr int WARPS_DOWN = M / 32;
    static constexpr int COLUMNS = N / (8 / WARPS_DOWN);
    static constexpr int EIGHTS = COLUMNS / 8;
    static_assert(COLUMNS % 8 == 0, "a tensor core's tile has 8 columns");
    float sums[2][EIGHTS][4] = {};

    DEVICE void multiply(const bf16* a, const bf16* b, u32 left) {
        u32 row = warp() % WARPS_DOWN * 32, column = warp() / WARPS_DOWN * COLUMNS;
        UNROLL
        for (u32 depth = 0; depth < u32(DEPTH<bf16>); depth += 16) {
            if (depth < left) step(a, b, row, column, depth);
        }
    }

    DEVICE void step(const bf16* a, const bf16* b, u32 row, u32 column, u32 depth) {
        u32 x[2][4];
        UNROLL
        for (u32 i = 0; i < 2; ++i) load_a(a, row + 16 * i, depth, x[i]);
        UNROLL
        for (int j = 0; j + 1 < EIGHTS; j += 2) {
            u32 y[4];
            load_b(b, column + 8 * j, depth, y);
            u32 left[2] = {y[0], y[1]}, right[2] = {y[2], y[3]};
            UNROLL
            for (u32 i = 0; i < 2; ++i) {
                mma_m16n8k16_bf16(sums[i][j], x[i], left);
                mma_m16n8k16_bf16(sums[i][j + 1], x[i], right);
            }
        }
        if constexpr (EIGHTS % 2 == 1) {
            u32 y[2];
            load_b(b, column + 8 * (EIGHTS - 1), depth, y);
            UNROLL
            for (u32 i = 0; i < 2; ++i) mma_m16n8k16_bf16(sums[i][EIGHTS - 1], x[i], y);
        }
    }

    // 16 rows × 16 of the depth. Lanes 8i to 8i + 7 point at the rows of the i-th matrix of
    // 8 × 8, in the order in which the tensor core has them: down, then deep.
    DEVICE static void load_a(const bf16* a, u32 row, u32 depth, u32 (&x)[4]) {
        u32 down = lane() / 8 % 2 * 8, deep = lane() / 16 * 8, at = lane() % 8;
        if constexpr (A_ALONG == Along::DEPTH) {
            ldmatrix_x4(x, a + (row + down + at) * Base::A::STRIDE + depth + deep);
        } else {
            ldmatrix_x4_trans(x, a + (depth + deep + at) * Base::A::STRIDE + row + down);
        }
    }

    // 16 or 8 columns × 16 of the depth: deep, then right.
    template <int REGISTERS>
    DEVICE static void load_b(const bf16* b, u32 column, u32 depth, u32 (&y)[REGISTERS]) {
        u32 deep = lane() / 8 % 2 * 8, at = lane() % 8;
        u32 right = REGISTERS == 4 ? lane() / 16 * 8 : 0;
        if constexpr (B_ALONG == Along::DEPTH) {
            const bf16* from = b + (column + right + at) * Base::B::STRIDE + depth + deep;
            if constexpr (REGISTERS == 4) ldmatrix_x4(y, from); else ldmatrix_x2(y, from);
        } else {
            const bf16* from = b + (depth + deep + at) * Base::B::STRIDE + column + right;
            if constexpr (REGISTERS == 4) ldmatrix_x4_trans(y, from);
            else ldmatrix_x2_trans(y, from);
        }
    }

    DEVICE void store_sums(float* tile) {
        u32 row = warp() % WARPS_DOWN * 32 + lane() / 4;
        u32 column = warp() / WARPS_DOWN * COLUMNS + lane() % 4 * 2;
        UNROLL
        for (u32 i = 0; i < 4; ++i) {
            float* to = tile + (row + 8 * i) * Base::SUMS_STRIDE + column;
            UNROLL
            for (int j = 0; j < EIGHTS; ++j) {
                const float* sum = sums[i / 2][j] + i % 2 * 2;
                store_vec<2>(to + 8 * j, Vec<float, 2>{{sum[0], sum[1]}});
            }
        }
    }
};
