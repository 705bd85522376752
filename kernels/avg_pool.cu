// Global average pooling: the mean over all positions of an image.
#include "include/kernel.h"
#include "include/reduce.h"
#include "include/vector.h"

struct AvgPoolParams {
    u32 images, positions, channels;
    u32 columns;  // vectors of channels that a block has side by side
    u32 tiles;    // blocks that an image's channels take
};

constexpr int THREADS = 256;

// y = Σ x / positions: a block has some channels of one image.
template <int N, typename T>
DEVICE void forward(const T* x, T* y, const AvgPoolParams& p) {
    SHARED(float, shared, N * THREADS);
    Tile tile(p.columns);
    u32 image = block_index().x / p.tiles;
    u32 channel = (block_index().x % p.tiles * p.columns + tile.column) * N;
    bool busy = tile.has_place() && channel < p.channels;
    Values<N> sum;
    UNROLL
    for (int i = 0; i < N; ++i) sum[i] = 0.0f;
    for (u32 at = tile.row; busy && at < p.positions; at += tile.rows) {
        Values<N> v = load<N>(x + (image * p.positions + at) * p.channels + channel);
        UNROLL
        for (int i = 0; i < N; ++i) sum[i] += v[i];
    }
    sum_rows<THREADS>(tile, sum.at, shared);
    if (!busy || tile.row > 0) return;
    UNROLL
    for (int i = 0; i < N; ++i) sum[i] /= float(p.positions);
    store<N>(y + image * p.channels + channel, sum);
}

// Every position gets its share of the gradient: a thread has a vector of gx.
template <int N, typename T>
DEVICE void backward(const T* gy, T* gx, const AvgPoolParams& p) {
    u32 vectors = p.channels / N;
    u32 image = global_thread() / vectors / p.positions;
    if (image >= p.images) return;
    u32 channel = global_thread() % vectors * N;
    Values<N> g = load<N>(gy + image * p.channels + channel);
    UNROLL
    for (int i = 0; i < N; ++i) g[i] /= float(p.positions);
    store<N>(gx + global_thread() * N, g);
}

#define AVG_POOL(suffix, T, N)                                                     \
    KERNEL(avg_pool_forward##suffix, THREADS, (const T* x, T* y, AvgPoolParams p)) { \
        forward<N>(x, y, p);                                                       \
    }                                                                              \
    KERNEL(avg_pool_backward##suffix, 256, (const T* gy, T* gx, AvgPoolParams p)) { \
        backward<N>(gy, gx, p);                                                    \
    }

AVG_POOL(_f32, float, VECTOR<float>)
AVG_POOL(_bf16, bf16, VECTOR<bf16>)
AVG_POOL(_scalar_f32, float, 1)
AVG_POOL(_scalar_bf16, bf16, 1)
