// Each channel of each image times a factor.
#include "include/kernel.h"
#include "include/vector.h"

struct ScaleChannelsParams {
    u32 pixels, positions, channels;  // pixels: of all images; positions: of one
};

// y = x·s, for s of images × channels. A thread has a vector of channels of one pixel. y may be x.
template <int N, typename T>
DEVICE void scale(const T* x, const float* s, T* y, const ScaleChannelsParams& p) {
    u32 vectors = p.channels / N;
    u32 pixel = global_thread() / vectors;
    if (pixel >= p.pixels) return;
    u32 channel = global_thread() % vectors * N, at = global_thread() * N;
    Values<N> v = load<N>(x + at);
    Values<N> factor = load<N>(s + pixel / p.positions * p.channels + channel);
    UNROLL
    for (int i = 0; i < N; ++i) v[i] *= factor[i];
    store<N>(y + at, v);
}

#define SCALE_CHANNELS(suffix, T, N)                                    \
    KERNEL(scale_channels##suffix, 256,                                 \
           (const T* x, const float* s, T* y, ScaleChannelsParams p)) { \
        scale<N>(x, s, y, p);                                           \
    }

SCALE_CHANNELS(_f32, float, VECTOR<float>)
SCALE_CHANNELS(_bf16, bf16, VECTOR<bf16>)
SCALE_CHANNELS(_scalar_f32, float, 1)
SCALE_CHANNELS(_scalar_bf16, bf16, 1)
