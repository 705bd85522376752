// The gradient of a linear layer's bias; its other products are 1×1 convolutions (conv2d.cu).
#include "include/kernel.h"
#include "include/reduce.h"
#include "include/vector.h"

struct LinearBiasParams {
    u32 rows, channels;  // of gy
    u32 columns;         // vectors of channels that a block has side by side
};

constexpr int THREADS = 256;

// gb += Σ gy over rows: a block has some channels.
template <int N, typename T>
DEVICE void bias_gradient(const T* gy, float* gb, const LinearBiasParams& p) {
    SHARED(float, shared, N * THREADS);
    Tile tile(p.columns);
    u32 channel = (block_index().x * p.columns + tile.column) * N;
    bool busy = tile.has_place() && channel < p.channels;
    Values<N> sum;
    UNROLL
    for (int i = 0; i < N; ++i) sum[i] = 0.0f;
    for (u32 row = tile.row; busy && row < p.rows; row += tile.rows) {
        Values<N> g = load<N>(gy + row * p.channels + channel);
        UNROLL
        for (int i = 0; i < N; ++i) sum[i] += g[i];
    }
    sum_rows<THREADS>(tile, sum.at, shared);
    if (!busy || tile.row > 0) return;
    Values<N> before = load<N>(gb + channel);
    UNROLL
    for (int i = 0; i < N; ++i) sum[i] += before[i];
    store<N>(gb + channel, sum);
}

#define LINEAR_BIAS(suffix, T, N)                                        \
    KERNEL(linear_bias_gradient##suffix, THREADS,                        \
           (const T* gy, float* gb, LinearBiasParams p)) {               \
        bias_gradient<N>(gy, gb, p);                                     \
    }

LINEAR_BIAS(_f32, float, VECTOR<float>)
LINEAR_BIAS(_bf16, bf16, VECTOR<bf16>)
LINEAR_BIAS(_scalar_f32, float, 1)
LINEAR_BIAS(_scalar_bf16, bf16, 1)
