// How far rows are from others of unit length.
#include "include/kernel.h"
#include "include/reduce.h"
#include "include/vector.h"

struct CosineParams {
    u32 rows, channels;
};

struct CosineBackwardParams {
    u32 elems;
    float factor;
};

// 2 − 2·p·k of each row. A warp has a row.
template <int N, typename T>
DEVICE void rows(const T* p, const T* k, float* losses, const CosineParams& params) {
    u32 row = global_thread() / 32;
    if (row >= params.rows) return;
    u32 at = row * params.channels;
    float product = dot<N>(p + at, k + at, params.channels);
    if (lane() == 0) losses[row] = 2.0f - 2.0f * product;
}

// The gradient of p: k times the loss's gradient and a factor.
template <typename T>
DEVICE void backward(const T* k, const float* gy, T* gp, const CosineBackwardParams& p) {
    float factor = gy[0] * p.factor;
    map(p.elems, [=](float k) { return k * factor; }, gp, k);
}

#define COSINE_ROWS(suffix, T, N)                                                        \
    KERNEL(cosine_rows##suffix, 256,                                                     \
           (const T* p, const T* k, float* losses, CosineParams params)) {               \
        rows<N>(p, k, losses, params);                                                   \
    }
#define COSINE(suffix, T)                                                                \
    COSINE_ROWS(suffix, T, VECTOR<T>)                                                    \
    COSINE_ROWS(_scalar##suffix, T, 1)                                                   \
    KERNEL(cosine_backward##suffix, 256,                                                 \
           (const T* k, const float* gy, T* gp, CosineBackwardParams p)) {               \
        backward(k, gy, gp, p);                                                          \
    }

COSINE(_f32, float)
COSINE(_bf16, bf16)
