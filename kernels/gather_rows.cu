// Rows of several feature maps, by their numbers through all maps. A launch is for one map; a
// thread has one value of one row.
#include "include/kernel.h"

struct GatherRowsParams {
    u32 taken, width;       // rows of y, and values of each
    u32 start, end, total;  // rows of the maps before this one, and with it; of all
};

// y = the map's row, where it has it; the first map's launch writes NaN where none has it.
template <typename T>
DEVICE void forward(const T* x, const i32* index, T* y, const GatherRowsParams& p) {
    u32 taken = global_thread() / p.width, value = global_thread() % p.width;
    if (taken >= p.taken) return;
    u32 row = u32(index[taken]);
    if (row >= p.start && row < p.end) {
        y[taken * p.width + value] = x[(row - p.start) * p.width + value];
    } else if (row >= p.total && p.start == 0) {
        y[taken * p.width + value] = T(NAN);
    }
}

// Adds to the map's rows that were taken: each at most once.
template <typename T>
DEVICE void backward(const i32* index, const T* gy, T* gx, const GatherRowsParams& p) {
    u32 taken = global_thread() / p.width, value = global_thread() % p.width;
    if (taken >= p.taken) return;
    u32 row = u32(index[taken]);
    if (row < p.start || row >= p.end) return;
    T* to = gx + (row - p.start) * p.width + value;
    *to = T(float(*to) + float(gy[taken * p.width + value]));
}

#define GATHER_ROWS(suffix, T)                                                                 \
    KERNEL(gather_rows_forward##suffix, 256,                                                   \
           (const T* x, const i32* index, T* y, GatherRowsParams p)) {                         \
        forward(x, index, y, p);                                                               \
    }                                                                                          \
    KERNEL(gather_rows_backward##suffix, 256,                                                  \
           (const i32* index, const T* gy, T* gx, GatherRowsParams p)) {                       \
        backward(index, gy, gx, p);                                                            \
    }

GATHER_ROWS(_f32, float)
GATHER_ROWS(_bf16, bf16)
