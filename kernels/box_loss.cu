// Smooth L1 of the deltas of one box of each row; of none where −1 is selected. Where a selected
// box is not there, the loss and the row's gradient are NaN. A thread has a row.
#include "include/kernel.h"

struct BoxLossParams {
    u32 rows, boxes;
    float beta;
    float weight;  // of a row's gradient
};

// The loss of each row.
template <typename T>
DEVICE void forward(const T* pred, const float* targets, const i32* select, float* losses,
                    const BoxLossParams& p) {
    u32 row = global_thread();
    if (row >= p.rows) return;
    i32 box = select[row];
    float sum = 0.0f;
    if (box >= 0 && u32(box) < p.boxes) {
        const T* from = pred + (row * p.boxes + u32(box)) * 4;
        for (u32 i = 0; i < 4; ++i) {
            float d = fabsf(float(from[i]) - targets[row * 4 + i]);
            sum += d < p.beta ? 0.5f * d * d / p.beta : d - 0.5f * p.beta;
        }
    } else if (box != -1) {
        sum = NAN;
    }
    losses[row] = sum;
}

// gx = weight · gradient of the loss · ℓ′, where it counts; it is 0 before.
template <typename T>
DEVICE void backward(const T* pred, const float* targets, const i32* select, const float* gy, T* gx,
                     const BoxLossParams& p) {
    u32 row = global_thread();
    if (row >= p.rows) return;
    i32 box = select[row];
    if (box >= 0 && u32(box) < p.boxes) {
        u32 at = (row * p.boxes + u32(box)) * 4;
        for (u32 i = 0; i < 4; ++i) {
            float d = float(pred[at + i]) - targets[row * 4 + i];
            float slope = d > 0.0f ? 1.0f : d < 0.0f ? -1.0f : d;
            if (fabsf(d) < p.beta) slope = d / p.beta;
            gx[at + i] = T(gy[0] * p.weight * slope);
        }
    } else if (box != -1) {
        for (u32 i = 0; i < 4 * p.boxes; ++i) gx[row * 4 * p.boxes + i] = T(NAN);
    }
}

#define BOX_LOSS(suffix, T)                                                                    \
    KERNEL(box_loss_forward##suffix, 256,                                                      \
           (const T* pred, const float* targets, const i32* select, float* losses,             \
            BoxLossParams p)) {                                                                \
        forward(pred, targets, select, losses, p);                                             \
    }                                                                                          \
    KERNEL(box_loss_backward##suffix, 256,                                                     \
           (const T* pred, const float* targets, const i32* select, const float* gy, T* gx,    \
            BoxLossParams p)) {                                                                \
        backward(pred, targets, select, gy, gx, p);                                            \
    }

BOX_LOSS(_f32, float)
BOX_LOSS(_bf16, bf16)
