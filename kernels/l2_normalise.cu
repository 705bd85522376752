// Rows of unit length: y = x / max(‖x‖, ε). A warp has a row.
#include "include/kernel.h"
#include "include/reduce.h"
#include "include/vector.h"

struct L2NormaliseParams {
    u32 rows, channels;
    float eps;
};

// y, and the divisors.
template <int N, typename T>
DEVICE void forward(const T* x, T* y, float* lengths, const L2NormaliseParams& p) {
    u32 row = global_thread() / 32;
    if (row >= p.rows) return;
    x += row * p.channels;
    y += row * p.channels;
    float length = sqrtf(dot<N>(x, x, p.channels));
    // Written so that NaN stays NaN.
    length = length < p.eps ? p.eps : length;
    for (u32 c = lane() * N; c < p.channels; c += 32 * N) {
        Values<N> v = load<N>(x + c);
        UNROLL
        for (int i = 0; i < N; ++i) v[i] /= length;
        store<N>(y + c, v);
    }
    if (lane() == 0) lengths[row] = length;
}

// The gradient of x, in place of that of y: (g − y·(y·g)) / ‖x‖, or g/ε where ‖x‖ ≤ ε.
template <int N, typename T>
DEVICE void backward(const T* y, const float* lengths, T* g, const L2NormaliseParams& p) {
    u32 row = global_thread() / 32;
    if (row >= p.rows) return;
    y += row * p.channels;
    g += row * p.channels;
    float length = lengths[row];
    float along = length > p.eps ? dot<N>(y, g, p.channels) : 0.0f;
    for (u32 c = lane() * N; c < p.channels; c += 32 * N) {
        Values<N> unit = load<N>(y + c), v = load<N>(g + c);
        UNROLL
        for (int i = 0; i < N; ++i) v[i] = (v[i] - unit[i] * along) / length;
        store<N>(g + c, v);
    }
}

#define L2_NORMALISE(suffix, T, N)                                                \
    KERNEL(l2_normalise_forward##suffix, 256,                                     \
           (const T* x, T* y, float* lengths, L2NormaliseParams p)) {             \
        forward<N>(x, y, lengths, p);                                             \
    }                                                                             \
    KERNEL(l2_normalise_backward##suffix, 256,                                    \
           (const T* y, const float* lengths, T* g, L2NormaliseParams p)) {       \
        backward<N>(y, lengths, g, p);                                            \
    }

L2_NORMALISE(_f32, float, VECTOR<float>)
L2_NORMALISE(_bf16, bf16, VECTOR<bf16>)
L2_NORMALISE(_scalar_f32, float, 1)
L2_NORMALISE(_scalar_bf16, bf16, 1)
