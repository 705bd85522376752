// Sums that LARS makes its ratios of: for each parameter w with its gradient g, Σw², Σw·g and Σg²,
// in f64 and in a fixed order (a product of two f32 is exact there).
#include "include/kernel.h"
#include "include/reduce.h"
#include "include/multi_tensor.h"

constexpr u32 LARS_THREADS = 256;

struct LarsSpan {
    const float* weight;
    const float* gradient;
    u32 elems;
    u32 first_chunk;
};

struct LarsParams {
    u32 spans;
    u32 chunk;  // elements, a multiple of 4
    u32 chunks;
};

struct LarsSums {
    double weight;
    double product;
    double gradient;
};

template <int N>
DEVICE void add_products(LarsSums& sums, const float* weight, const float* gradient) {
    Vec<float, N> w = load_vec<N>(weight);
    Vec<float, N> g = load_vec<N>(gradient);
    UNROLL
    for (int k = 0; k < N; ++k) {
        sums.weight += double(w[k]) * double(w[k]);
        sums.product += double(w[k]) * double(g[k]);
        sums.gradient += double(g[k]) * double(g[k]);
    }
}

// Writes the block's sums, added up in a fixed order. The block has LARS_THREADS threads.
DEVICE void store_block_sums(const LarsSums& partial, LarsSums* out) {
    SHARED(double, shared, 3 * LARS_THREADS);
    double sums[3] = {partial.weight, partial.product, partial.gradient};
    sum_rows<LARS_THREADS>(Tile(1), sums, shared);
    if (thread_index().x == 0) *out = {sums[0], sums[1], sums[2]};
}

// One block a chunk; its sums go to `partials`.
KERNEL(lars_chunks_f32, 256, (const LarsSpan* spans, LarsSums* partials, LarsParams p)) {
    u32 chunk = block_index().x;
    const LarsSpan* span = spans + span_of_chunk(spans, p.spans, chunk);
    const float* weight = span->weight;
    const float* gradient = span->gradient;
    u32 begin = (chunk - span->first_chunk) * p.chunk;
    u32 end = min(begin + p.chunk, span->elems);
    u32 whole = begin + (end - begin) / 4 * 4;
    LarsSums sums = {0.0, 0.0, 0.0};
    for (u32 i = begin + 4 * thread_index().x; i < whole; i += 4 * LARS_THREADS) {
        add_products<4>(sums, weight + i, gradient + i);
    }
    for (u32 i = whole + thread_index().x; i < end; i += LARS_THREADS) {
        add_products<1>(sums, weight + i, gradient + i);
    }
    store_block_sums(sums, partials + chunk);
}

// One block a parameter: the sums of its chunks' go to `totals`.
KERNEL(lars_totals_f32, 256,
       (const LarsSpan* spans, const LarsSums* partials, LarsSums* totals, LarsParams p)) {
    u32 span = block_index().x;
    u32 first = spans[span].first_chunk;
    u32 end = span + 1 < p.spans ? spans[span + 1].first_chunk : p.chunks;
    LarsSums sums = {0.0, 0.0, 0.0};
    for (u32 i = first + thread_index().x; i < end; i += LARS_THREADS) {
        sums.weight += partials[i].weight;
        sums.product += partials[i].product;
        sums.gradient += partials[i].gradient;
    }
    store_block_sums(sums, totals + span);
}
