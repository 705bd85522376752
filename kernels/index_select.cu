// Images in another order, and rows by indices.
#include "include/kernel.h"
#include "include/vector.h"

struct IndexSelectParams {
    u32 moves;    // images to copy
    u32 image;  // elements of one
};

// Image from of x becomes image to of y, for each (from, to) of `moves`. A thread has a
// vector of one image.
template <int N, typename T>
DEVICE void rows(const T* x, const i32* moves, T* y, const IndexSelectParams& p) {
    u32 vectors = p.image / N;
    u32 move = global_thread() / vectors;
    if (move >= p.moves) return;
    u32 at = global_thread() % vectors * N;
    u32 from = u32(moves[2 * move]), to = u32(moves[2 * move + 1]);
    store_vec<N>(y + to * p.image + at, load_vec<N>(x + from * p.image + at));
}

struct IndexSelectGatherParams {
    u32 rows;      // of x
    u32 taken;     // rows of y
    u32 channels;
};

// Row index[i] of x becomes row i of y; NaN where there is no such row. A thread has a vector of
// one row.
template <int N, typename T>
DEVICE void gather(const T* x, const i32* index, T* y, const IndexSelectGatherParams& p) {
    u32 vectors = p.channels / N;
    u32 row = global_thread() / vectors;
    if (row >= p.taken) return;
    u32 at = global_thread() % vectors * N;
    u32 from = u32(index[row]);
    Vec<T, N> v;
    UNROLL
    for (int i = 0; i < N; ++i) v[i] = T(NAN);
    if (from < p.rows) v = load_vec<N>(x + from * p.channels + at);
    store_vec<N>(y + row * p.channels + at, v);
}

#define INDEX_SELECT(suffix, T, N)                                                         \
    KERNEL(index_select_gather##suffix, 256,                                               \
           (const T* x, const i32* index, T* y, IndexSelectGatherParams p)) {              \
        gather<N>(x, index, y, p);                                                         \
    }                                                                                      \
    KERNEL(index_select##suffix, 256, (const T* x, const i32* moves, T* y, IndexSelectParams p)) { \
        rows<N>(x, moves, y, p);                                                           \
    }

INDEX_SELECT(_f32, float, VECTOR<float>)
INDEX_SELECT(_bf16, bf16, VECTOR<bf16>)
INDEX_SELECT(_scalar_f32, float, 1)
INDEX_SELECT(_scalar_bf16, bf16, 1)
