// y = max(x, 0).
#include "include/kernel.h"
#include "include/vector.h"

struct ReluParams {
    u32 elems;
};

// NaN stays NaN.
template <typename T>
DEVICE void forward(const T* x, T* y, const ReluParams& p) {
    map(p.elems, [](float x) { return x < 0.0f ? 0.0f : x; }, y, x);
}

// g becomes 0 where y is.
template <typename T>
DEVICE void backward(const T* y, T* g, const ReluParams& p) {
    map(p.elems, [](float y, float g) { return relu_gradient(y, g); }, g, y, g);
}

KERNEL(relu_forward_f32, 256, (const float* x, float* y, ReluParams p)) { forward(x, y, p); }
KERNEL(relu_forward_bf16, 256, (const bf16* x, bf16* y, ReluParams p)) { forward(x, y, p); }
KERNEL(relu_backward_f32, 256, (const float* y, float* g, ReluParams p)) { backward(y, g, p); }
KERNEL(relu_backward_bf16, 256, (const bf16* y, bf16* g, ReluParams p)) { backward(y, g, p); }
