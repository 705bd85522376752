// Max-pooling: 3×3 windows, stride 2, padding 1. A thread has a vector of channels of one
// pixel: of the output in the forward pass, of the input in the backward pass.
#include "include/kernel.h"
#include "include/place.h"
#include "include/vector.h"

struct MaxPoolParams {
    u32 images, height, width, channels;  // of x
    u32 out_height, out_width;
};

// y and, for each of its elements, the tap (3·row + column) of its window that won: the first
// greatest, NaN above all.
template <int N, typename T>
DEVICE void forward(const T* x, T* y, u8* winner, const MaxPoolParams& p) {
    Place<N> out(p.out_height, p.out_width, p.channels);
    if (out.image >= p.images) return;
    Values<N> best;
    Vec<u8, N> taps;
    UNROLL
    for (int i = 0; i < N; ++i) {
        best[i] = 0.0f;
        taps[i] = 0;
    }
    bool found = false;
    UNROLL
    for (u32 tap = 0; tap < 9; ++tap) {
        // Counted from 1, so that the padding is row 0 and column 0.
        u32 row = 2 * out.row + tap / 3, column = 2 * out.column + tap % 3;
        if (row < 1 || row > p.height || column < 1 || column > p.width) continue;
        u32 pixel = (out.image * p.height + row - 1) * p.width + column - 1;
        Values<N> v = load<N>(x + pixel * p.channels + out.channel);
        UNROLL
        for (int i = 0; i < N; ++i) {
            if (!found || v[i] > best[i] || v[i] != v[i]) {
                best[i] = v[i];
                taps[i] = u8(tap);
            }
        }
        found = true;
    }
    u32 at = global_thread() * N;
    store<N>(y + at, best);
    store_vec<N>(winner + at, taps);
}

// gx = Σ gy over the windows that the pixel won, of the at most four that cover it.
template <int N, typename T>
DEVICE void backward(const u8* winner, const T* gy, T* gx, const MaxPoolParams& p) {
    Place<N> in(p.height, p.width, p.channels);
    if (in.image >= p.images) return;
    Values<N> sum;
    UNROLL
    for (int i = 0; i < N; ++i) sum[i] = 0.0f;
    u32 last_row = min((in.row + 1) / 2, p.out_height - 1);
    u32 last_column = min((in.column + 1) / 2, p.out_width - 1);
    for (u32 row = in.row / 2; row <= last_row; ++row) {
        for (u32 column = in.column / 2; column <= last_column; ++column) {
            u32 tap = 3 * (in.row + 1 - 2 * row) + in.column + 1 - 2 * column;
            u32 pixel = (in.image * p.out_height + row) * p.out_width + column;
            u32 at = pixel * p.channels + in.channel;
            Vec<u8, N> taps = load_vec<N>(winner + at);
            Values<N> g = load<N>(gy + at);
            UNROLL
            for (int i = 0; i < N; ++i) sum[i] += taps[i] == tap ? g[i] : 0.0f;
        }
    }
    store<N>(gx + global_thread() * N, sum);
}

#define MAX_POOL(suffix, T, N)                                                               \
    KERNEL(max_pool_forward##suffix, 256, (const T* x, T* y, u8* winner, MaxPoolParams p)) { \
        forward<N>(x, y, winner, p);                                                         \
    }                                                                                        \
    KERNEL(max_pool_backward##suffix, 256,                                                   \
           (const u8* winner, const T* gy, T* gx, MaxPoolParams p)) {                        \
        backward<N>(winner, gy, gx, p);                                                      \
    }

MAX_POOL(_f32, float, VECTOR<float>)
MAX_POOL(_bf16, bf16, VECTOR<bf16>)
MAX_POOL(_scalar_f32, float, 1)
MAX_POOL(_scalar_bf16, bf16, 1)
