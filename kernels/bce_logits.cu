// Binary cross-entropy of logits, of one channel of each pixel. Where a selected channel is not
// there, the loss and the row's gradient are NaN.
#include "include/kernel.h"
#include "include/reduce.h"

struct BceLogitsParams {
    u32 pixels, positions, channels;  // all pixels, those of a row, and channels of each
    float weight;                     // of a pixel's gradient
};

constexpr int THREADS = 256;
constexpr u32 EACH = 16;  // pixels of a thread of the forward pass

// The channel that counts in a pixel: the first where none is selected.
DEVICE u32 channel_of(u32 pixel, const i32* select, const BceLogitsParams& p) {
    return select ? u32(select[pixel / p.positions]) : 0;
}

// The sum of the losses of each block's pixels.
template <typename T>
DEVICE void forward(const T* x, const float* targets, const i32* select, float* sums,
                    const BceLogitsParams& p) {
    SHARED(float, shared, THREADS);
    u32 first = block_index().x * THREADS * EACH + thread_index().x;
    float sum[1] = {0.0f};
    for (u32 i = 0; i < EACH; ++i) {
        u32 pixel = first + i * THREADS;
        if (pixel >= p.pixels) break;
        u32 channel = channel_of(pixel, select, p);
        if (channel >= p.channels) {
            sum[0] = NAN;
            continue;
        }
        float v = float(x[pixel * p.channels + channel]);
        sum[0] += max(v, 0.0f) - v * targets[pixel] + log1pf(expf(-fabsf(v)));
    }
    sum_rows<THREADS>(Tile(1), sum, shared);
    if (thread_index().x == 0) sums[block_index().x] = sum[0];
}

// gx = weight · gradient of the loss · (σ(x) − target), where it counts; it is 0 before. A thread
// has a pixel.
template <typename T>
DEVICE void backward(const T* x, const float* targets, const i32* select, const float* gy, T* gx,
                     const BceLogitsParams& p) {
    u32 pixel = global_thread();
    if (pixel >= p.pixels) return;
    u32 channel = channel_of(pixel, select, p), at = pixel * p.channels;
    if (channel >= p.channels) {
        for (u32 c = 0; c < p.channels; ++c) gx[at + c] = T(NAN);
        return;
    }
    float share = 1.0f / (1.0f + expf(-float(x[at + channel])));
    gx[at + channel] = T(gy[0] * p.weight * (share - targets[pixel]));
}

#define BCE_LOGITS(suffix, T)                                                                  \
    KERNEL(bce_logits_forward##suffix, THREADS,                                                \
           (const T* x, const float* targets, const i32* select, float* sums,                  \
            BceLogitsParams p)) {                                                              \
        forward(x, targets, select, sums, p);                                                  \
    }                                                                                          \
    KERNEL(bce_logits_backward##suffix, 256,                                                   \
           (const T* x, const float* targets, const i32* select, const float* gy, T* gx,       \
            BceLogitsParams p)) {                                                              \
        backward(x, targets, select, gy, gx, p);                                               \
    }

BCE_LOGITS(_f32, float)
BCE_LOGITS(_bf16, bf16)
