// Every second row and column. A thread has a vector of channels of one pixel: of the output in
// the forward pass, of the input in the backward pass.
#include "include/kernel.h"
#include "include/place.h"
#include "include/vector.h"

struct SubsampleParams {
    u32 images, height, width, channels;  // of x
    u32 out_height, out_width;
};

// y = x at twice the row and column.
template <int N, typename T>
DEVICE void forward(const T* x, T* y, const SubsampleParams& p) {
    Place<N> out(p.out_height, p.out_width, p.channels);
    if (out.image >= p.images) return;
    u32 pixel = (out.image * p.height + 2 * out.row) * p.width + 2 * out.column;
    Vec<T, N> v = load_vec<N>(x + pixel * p.channels + out.channel);
    store_vec<N>(y + global_thread() * N, v);
}

// gx = gy where the pixel was read, else 0.
template <int N, typename T>
DEVICE void backward(const T* gy, T* gx, const SubsampleParams& p) {
    Place<N> in(p.height, p.width, p.channels);
    if (in.image >= p.images) return;
    Vec<T, N> v;
    UNROLL
    for (int i = 0; i < N; ++i) v[i] = T(0.0f);
    if (in.row % 2 == 0 && in.column % 2 == 0) {
        u32 pixel = (in.image * p.out_height + in.row / 2) * p.out_width + in.column / 2;
        v = load_vec<N>(gy + pixel * p.channels + in.channel);
    }
    store_vec<N>(gx + global_thread() * N, v);
}

#define SUBSAMPLE(suffix, T, N)                                                        \
    KERNEL(subsample_forward##suffix, 256, (const T* x, T* y, SubsampleParams p)) {    \
        forward<N>(x, y, p);                                                           \
    }                                                                                  \
    KERNEL(subsample_backward##suffix, 256, (const T* gy, T* gx, SubsampleParams p)) { \
        backward<N>(gy, gx, p);                                                        \
    }

SUBSAMPLE(_f32, float, VECTOR<float>)
SUBSAMPLE(_bf16, bf16, VECTOR<bf16>)
SUBSAMPLE(_scalar_f32, float, 1)
SUBSAMPLE(_scalar_bf16, bf16, 1)
