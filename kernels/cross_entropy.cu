// Cross-entropy of class scores with labels. A warp has a row. Where a label is no class, the loss
// and the row's gradient are NaN.
#include "include/kernel.h"
#include "include/reduce.h"
#include "include/vector.h"

struct CrossEntropyParams {
    u32 rows, classes;
    float weight;  // of a row's gradient
};

// The greatest logit of a row, and Σ exp(logit − greatest), in all lanes.
template <typename T>
DEVICE Values<2> softmax_state(const T* logits, u32 classes) {
    float most = -INFINITY, sum = 0.0f;
    for (u32 c = lane(); c < classes; c += 32) most = max(most, float(logits[c]));
    most = warp_max(most);
    for (u32 c = lane(); c < classes; c += 32) sum += expf(float(logits[c]) - most);
    return {most, warp_sum(sum)};
}

// The loss of each row.
template <typename T>
DEVICE void forward(const T* logits, const i32* labels, float* losses,
                    const CrossEntropyParams& p) {
    u32 row = global_thread() / 32;
    if (row >= p.rows) return;
    logits += row * p.classes;
    Values<2> state = softmax_state(logits, p.classes);
    if (lane() > 0) return;
    u32 label = u32(labels[row]);
    losses[row] = label < p.classes ? logf(state[1]) - (float(logits[label]) - state[0]) : NAN;
}

// gx = weight · gradient of the loss · (softmax − one-hot label).
template <typename T>
DEVICE void backward(const T* logits, const i32* labels, const float* gy, T* gx,
                     const CrossEntropyParams& p) {
    u32 row = global_thread() / 32;
    if (row >= p.rows) return;
    logits += row * p.classes;
    gx += row * p.classes;
    Values<2> state = softmax_state(logits, p.classes);
    u32 label = u32(labels[row]);
    float weight = label < p.classes ? gy[0] * p.weight : NAN;
    for (u32 c = lane(); c < p.classes; c += 32) {
        float share = expf(float(logits[c]) - state[0]) / state[1];
        gx[c] = T((c == label ? share - 1.0f : share) * weight);
    }
}

#define CROSS_ENTROPY(suffix, T)                                                          \
    KERNEL(cross_entropy_forward##suffix, 256,                                            \
           (const T* logits, const i32* labels, float* losses, CrossEntropyParams p)) { \
        forward(logits, labels, losses, p);                                               \
    }                                                                                     \
    KERNEL(cross_entropy_backward##suffix, 256,                                           \
           (const T* logits, const i32* labels, const float* gy, T* gx,                 \
            CrossEntropyParams p)) {                                                      \
        backward(logits, labels, gy, gx, p);                                              \
    }

CROSS_ENTROPY(_f32, float)
CROSS_ENTROPY(_bf16, bf16)
