// Sums among threads. Which values are added, and in what order, depends on the launch alone,
// so results are the same bits however threads are scheduled.
#pragma once

#include "kernel.h"
#include "vector.h"

// Σ v over all lanes of a warp, in all of them.
DEVICE float warp_sum(float v) {
    UNROLL
    for (u32 with = 16; with > 0; with /= 2) v += shuffle_xor(FULL_WARP, v, with);
    return v;
}

// The greatest v of all lanes of a warp, in all of them; NaN may be passed over.
DEVICE float warp_max(float v) {
    UNROLL
    for (u32 with = 16; with > 0; with /= 2) v = max(v, shuffle_xor(FULL_WARP, v, with));
    return v;
}

// Adds up 2·KEPT values over each two lanes whose numbers differ in the bit `WITH`; the lane
// without the bit keeps the first half of the sums, the other one the second, in v[0] and on.
template <u32 WITH, u32 KEPT, u32 N>
DEVICE void fold(float (&v)[N]) {
    static_assert(2 * KEPT <= N, "values that are not there");
    bool is_upper = lane() & WITH;
    UNROLL
    for (u32 i = 0; i < KEPT; ++i) {
        float lower = v[i], upper = v[KEPT + i];
        v[i] = (is_upper ? upper : lower) + shuffle_xor(FULL_WARP, is_upper ? lower : upper, WITH);
    }
}

// Σ a·b over rows of `channels` elements that a warp has, in all lanes.
template <int N, typename T>
DEVICE float dot(const T* a, const T* b, u32 channels) {
    float sum = 0.0f;
    for (u32 c = lane() * N; c < channels; c += 32 * N) {
        Values<N> u = load<N>(a + c), v = load<N>(b + c);
        UNROLL
        for (int i = 0; i < N; ++i) sum += u[i] * v[i];
    }
    return warp_sum(sum);
}

// The threads of a block over a matrix: `columns` side by side, and as many rows of them as
// there are threads for. Threads that are left over have no place.
struct Tile {
    u32 columns, rows;
    u32 column, row;

    DEVICE explicit Tile(u32 columns)
        : columns(columns), rows(block_size().x / columns), column(thread_index().x % columns),
          row(thread_index().x / columns) {}

    DEVICE bool has_place() const { return row < rows; }
};

// Adds up each of the `K` values over the threads of a column; all of them get the sums.
// `shared` holds K values for each of THREADS, the greatest size of a block; it may be used
// again after a barrier.
template <int THREADS, int K, typename V>
DEVICE void sum_rows(const Tile& tile, V (&values)[K], V* shared) {
    u32 thread = thread_index().x;
    UNROLL
    for (int k = 0; k < K; ++k) shared[k * THREADS + thread] = values[k];
    barrier();
    u32 half = 1;
    while (2 * half < tile.rows) half *= 2;
    for (; half > 0; half /= 2) {
        if (tile.row < half && tile.row + half < tile.rows) {
            UNROLL
            for (int k = 0; k < K; ++k) {
                V* sum = shared + k * THREADS + thread;
                *sum += sum[half * tile.columns];
            }
        }
        barrier();
    }
    UNROLL
    for (int k = 0; k < K; ++k) values[k] = shared[k * THREADS + tile.column];
}
