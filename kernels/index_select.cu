// Images in another order.
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

#define GATHER(suffix, T, N)                                                               \
    KERNEL(index_select##suffix, 256, (const T* x, const i32* moves, T* y, IndexSelectParams p)) { \
        rows<N>(x, moves, y, p);                                                           \
    }

GATHER(_f32, float, VECTOR<float>)
GATHER(_bf16, bf16, VECTOR<bf16>)
GATHER(_scalar_f32, float, 1)
GATHER(_scalar_bf16, bf16, 1)
