// Sum of squares and number of values that are not finite: over many tensors, in a fixed order
// and in f64 (a square of an f32 is exact there), and the number alone for one tensor.
#include "include/kernel.h"
#include "include/reduce.h"
#include "include/multi_tensor.h"

constexpr u32 NORM_THREADS = 256;

struct NormSpan {
    const float* values;
    u32 elems;
    u32 first_chunk;
};

struct NormParams {
    u32 spans;
    u32 chunk;  // elements, a multiple of 4
};

struct NormTotalParams {
    u32 partials;
};

struct NonFiniteParams {
    u32 elems;
};

struct NormSum {
    double squares;
    u64 non_finite;
};

DEVICE bool is_finite(float x) { return (bit_cast<u32>(x) & 0x7f800000u) != 0x7f800000u; }
DEVICE bool is_finite(bf16 x) { return (x.bits & 0x7f80u) != 0x7f80u; }

template <int N>
DEVICE void add_squares(NormSum& sum, const float* values) {
    Vec<float, N> x = load_vec<N>(values);
    UNROLL
    for (int k = 0; k < N; ++k) {
        sum.squares += double(x[k]) * double(x[k]);
        sum.non_finite += !is_finite(x[k]);
    }
}

// Writes the block's sum, added up in a fixed order. The block has NORM_THREADS threads.
DEVICE void store_block_sum(NormSum partial, NormSum* out) {
    SHARED(double, shared_squares, NORM_THREADS);
    SHARED(u64, shared_counts, NORM_THREADS);
    double squares[1] = {partial.squares};
    u64 non_finite[1] = {partial.non_finite};
    Tile tile(1);
    sum_rows<NORM_THREADS>(tile, squares, shared_squares);
    sum_rows<NORM_THREADS>(tile, non_finite, shared_counts);
    if (thread_index().x == 0) {
        out->squares = squares[0];
        out->non_finite = non_finite[0];
    }
}

// One block a chunk; its sum goes to `partials`.
KERNEL(global_norm_chunks_f32, 256, (const NormSpan* spans, NormSum* partials, NormParams p)) {
    u32 chunk = block_index().x;
    const NormSpan* span = spans + span_of_chunk(spans, p.spans, chunk);
    const float* values = span->values;
    u32 begin = (chunk - span->first_chunk) * p.chunk;
    u32 end = min(begin + p.chunk, span->elems);
    u32 whole = begin + (end - begin) / 4 * 4;
    NormSum sum = {0.0, 0};
    for (u32 i = begin + 4 * thread_index().x; i < whole; i += 4 * NORM_THREADS) {
        add_squares<4>(sum, values + i);
    }
    for (u32 i = whole + thread_index().x; i < end; i += NORM_THREADS) {
        add_squares<1>(sum, values + i);
    }
    store_block_sum(sum, partials + chunk);
}

// One block: the sum of all partial sums.
KERNEL(global_norm_total_f32, 256, (const NormSum* partials, NormSum* total, NormTotalParams p)) {
    NormSum sum = {0.0, 0};
    for (u32 i = thread_index().x; i < p.partials; i += NORM_THREADS) {
        sum.squares += partials[i].squares;
        sum.non_finite += partials[i].non_finite;
    }
    store_block_sum(sum, total);
}

// Adds the number of values that are not finite to `count`. A thread reads vectors of 16 bytes
// as far from each other as there are threads.
template <typename T>
DEVICE void count_non_finite(const T* x, u32* count, u32 elems) {
    constexpr u32 N = 16 / sizeof(T);
    u32 found = 0;
    u32 whole = elems / N * N;
    for (u32 i = N * global_thread(); i < whole; i += N * global_threads()) {
        Vec<T, N> values = load_vec<N>(x + i);
        UNROLL
        for (u32 k = 0; k < N; ++k) found += !is_finite(values[k]);
    }
    if (global_thread() < elems - whole) found += !is_finite(x[whole + global_thread()]);
    if (found > 0) atomic_add(count, found);
}

KERNEL(global_norm_non_finite_f32, 256, (const float* x, u32* count, NonFiniteParams p)) {
    count_non_finite(x, count, p.elems);
}
KERNEL(global_norm_non_finite_bf16, 256, (const bf16* x, u32* count, NonFiniteParams p)) {
    count_non_finite(x, count, p.elems);
}
