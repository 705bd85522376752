// The gradient of a bias, of a linear layer or a convolution: sums over rows of channels. Where
// there are many rows, blocks sum parts of them, and a second launch sums the parts.
#include "include/kernel.h"
#include "include/reduce.h"
#include "include/vector.h"

struct BiasGradientParams {
    u32 rows, channels;  // of gy
    u32 part_rows;       // rows that a block sums
    u32 columns;         // vectors of channels that a block has side by side
    u32 accumulate;      // whether the sums are added to what is there
};

constexpr int THREADS = 256;

// sums[part] = Σ gy over the part's rows: a block has some channels of one part.
template <int N, typename T>
DEVICE void bias_gradient(const T* gy, float* sums, const BiasGradientParams& p) {
    SHARED(float, shared, N * THREADS);
    Tile tile(p.columns);
    u32 channel = (block_index().x * p.columns + tile.column) * N;
    bool busy = tile.has_place() && channel < p.channels;
    u32 begin = block_index().y * p.part_rows, end = min(begin + p.part_rows, p.rows);
    Values<N> sum;
    UNROLL
    for (int i = 0; i < N; ++i) sum[i] = 0.0f;
    for (u32 row = begin + tile.row; busy && row < end; row += tile.rows) {
        Values<N> g = load<N>(gy + row * p.channels + channel);
        UNROLL
        for (int i = 0; i < N; ++i) sum[i] += g[i];
    }
    sum_rows<THREADS>(tile, sum.at, shared);
    if (!busy || tile.row > 0) return;
    sums += block_index().y * p.channels + channel;
    if (p.accumulate) {
        Values<N> before = load<N>(sums);
        UNROLL
        for (int i = 0; i < N; ++i) sum[i] += before[i];
    }
    store<N>(sums, sum);
}

#define BIAS_GRADIENT(suffix, T, N)                                      \
    KERNEL(bias_gradient##suffix, THREADS,                               \
           (const T* gy, float* sums, BiasGradientParams p)) {           \
        bias_gradient<N>(gy, sums, p);                                   \
    }

BIAS_GRADIENT(_f32, float, VECTOR<float>)
BIAS_GRADIENT(_bf16, bf16, VECTOR<bf16>)
BIAS_GRADIENT(_scalar_f32, float, 1)
BIAS_GRADIENT(_scalar_bf16, bf16, 1)
