// Channels of feature maps side by side: some columns of a matrix become those of another one.
#include "include/kernel.h"
#include "include/vector.h"

struct ConcatParams {
    u32 rows, channels;          // of what is copied
    u32 from_stride, to_stride;  // elements from one row to the next
};

// A thread has a vector of one row.
template <int N, typename T>
DEVICE void copy(const T* from, T* to, const ConcatParams& p) {
    u32 vectors = p.channels / N;
    u32 row = global_thread() / vectors;
    if (row >= p.rows) return;
    u32 at = global_thread() % vectors * N;
    store_vec<N>(to + row * p.to_stride + at, load_vec<N>(from + row * p.from_stride + at));
}

#define CONCAT(suffix, T, N)                                                   \
    KERNEL(concat##suffix, 256, (const T* from, T* to, ConcatParams p)) {      \
        copy<N>(from, to, p);                                                  \
    }

CONCAT(_f32, float, VECTOR<float>)
CONCAT(_bf16, bf16, VECTOR<bf16>)
CONCAT(_scalar_f32, float, 1)
CONCAT(_scalar_bf16, bf16, 1)
