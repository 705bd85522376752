// Sums of two tensors.
#include "include/kernel.h"
#include "include/vector.h"

struct AddParams {
    u32 elems;
};

// y = a + b.
template <typename T>
DEVICE void forward(const T* a, const T* b, T* y, const AddParams& p) {
    map(p.elems, [](float a, float b) { return a + b; }, y, a, b);
}

// sum += x.
template <typename T>
DEVICE void accumulate(const T* x, T* sum, const AddParams& p) {
    map(p.elems, [](float sum, float x) { return sum + x; }, sum, sum, x);
}

KERNEL(add_forward_f32, 256, (const float* a, const float* b, float* y, AddParams p)) {
    forward(a, b, y, p);
}
KERNEL(add_forward_bf16, 256, (const bf16* a, const bf16* b, bf16* y, AddParams p)) {
    forward(a, b, y, p);
}
KERNEL(add_accumulate_f32, 256, (const float* x, float* sum, AddParams p)) {
    accumulate(x, sum, p);
}
KERNEL(add_accumulate_bf16, 256, (const bf16* x, bf16* sum, AddParams p)) {
    accumulate(x, sum, p);
}
