// A feature map and one of half its size. A thread has a vector of channels of one pixel: of the
// output in the forward pass, of the smaller map in the backward pass.
#include "include/kernel.h"
#include "include/place.h"
#include "include/vector.h"

struct UpsampleAddParams {
    u32 images, height, width, channels;  // of a
    u32 half_height, half_width;          // of b
};

// y = a + b at half the row and column.
template <int N, typename T>
DEVICE void forward(const T* a, const T* b, T* y, const UpsampleAddParams& p) {
    Place<N> out(p.height, p.width, p.channels);
    if (out.image >= p.images) return;
    u32 pixel = (out.image * p.half_height + out.row / 2) * p.half_width + out.column / 2;
    Values<N> sum = load<N>(a + global_thread() * N);
    Values<N> half = load<N>(b + pixel * p.channels + out.channel);
    UNROLL
    for (int i = 0; i < N; ++i) sum[i] += half[i];
    store<N>(y + global_thread() * N, sum);
}

// gb = Σ gy over the at most four pixels that read it.
template <int N, typename T>
DEVICE void backward(const T* gy, T* gb, const UpsampleAddParams& p) {
    Place<N> half(p.half_height, p.half_width, p.channels);
    if (half.image >= p.images) return;
    Values<N> sum;
    UNROLL
    for (int i = 0; i < N; ++i) sum[i] = 0.0f;
    u32 end_row = min(2 * half.row + 2, p.height), end_column = min(2 * half.column + 2, p.width);
    for (u32 row = 2 * half.row; row < end_row; ++row) {
        for (u32 column = 2 * half.column; column < end_column; ++column) {
            u32 pixel = (half.image * p.height + row) * p.width + column;
            Values<N> g = load<N>(gy + pixel * p.channels + half.channel);
            UNROLL
            for (int i = 0; i < N; ++i) sum[i] += g[i];
        }
    }
    store<N>(gb + global_thread() * N, sum);
}

#define UPSAMPLE_ADD(suffix, T, N)                                                          \
    KERNEL(upsample_add_forward##suffix, 256,                                               \
           (const T* a, const T* b, T* y, UpsampleAddParams p)) {                           \
        forward<N>(a, b, y, p);                                                             \
    }                                                                                       \
    KERNEL(upsample_add_backward##suffix, 256, (const T* gy, T* gb, UpsampleAddParams p)) { \
        backward<N>(gy, gb, p);                                                             \
    }

UPSAMPLE_ADD(_f32, float, VECTOR<float>)
UPSAMPLE_ADD(_bf16, bf16, VECTOR<bf16>)
UPSAMPLE_ADD(_scalar_f32, float, 1)
UPSAMPLE_ADD(_scalar_bf16, bf16, 1)
