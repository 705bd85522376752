// Nearest neighbours: the rows of a matrix whose products with a query are greatest.
#include "include/kernel.h"
#include "include/gemm_nt.h"

constexpr u32 KNN_THREADS = 256;

struct KnnProductsParams {
    u32 queries, keys, channels;
    u32 tiles;  // of keys
};

struct KnnSelectParams {
    u32 keys;      // of this part
    u32 first;     // index of the first of them among all
    u32 most;      // neighbours wanted
    u32 kept;      // neighbours found in the parts before
    u32 capacity;  // neighbours that the shared memory holds: a power of two
};

// Products of queries with keys, [queries][keys]. A block makes a tile.
template <int N>
DEVICE void all_products(const float* queries, const float* keys, float* out,
                         const KnnProductsParams& p) {
    SHARED(float, a_slice, PRODUCT_SLICE);
    SHARED(float, b_slice, PRODUCT_SLICE);
    u32 row = block_index().x / p.tiles * PRODUCT_TILE;
    u32 column = block_index().x % p.tiles * PRODUCT_TILE;
    float s[4][4];
    products<N>(queries + row * p.channels, p.queries - row, keys + column * p.channels,
                p.keys - column, p.channels, s, a_slice, b_slice);
    row += product_row();
    column += product_column();
    UNROLL
    for (u32 i = 0; i < 4; ++i) {
        UNROLL
        for (u32 j = 0; j < 4; ++j) {
            u32 y = row + PRODUCT_SIDE * i, x = column + PRODUCT_SIDE * j;
            if (y < p.queries && x < p.keys) out[y * p.keys + x] = s[i][j];
        }
    }
}

// A neighbour as one number, greater for one that is nearer or as near with a lower index.
// Never 0, which stands for none.
DEVICE u64 neighbour(float product, u32 index) {
    u32 bits = bit_cast<u32>(product);
    u32 ordered = bits >> 31 ? ~bits : bits | 0x80000000u;
    return u64(ordered) << 32 | ~index;
}

// Sorts, greatest first: a bitonic network. `capacity` is a power of two.
DEVICE void sort(u64* list, u32 capacity) {
    for (u32 size = 2; size <= capacity; size *= 2) {
        for (u32 stride = size / 2; stride > 0; stride /= 2) {
            barrier();
            for (u32 i = thread_index().x; i < capacity / 2; i += KNN_THREADS) {
                u32 low = 2 * i - (i & (stride - 1)), high = low + stride;
                u64 a = list[low], b = list[high];
                if ((a < b) == ((low & size) == 0)) {
                    list[low] = b;
                    list[high] = a;
                }
            }
        }
    }
    barrier();
}

// Sorts the first `filled` neighbours and returns how many of them are kept.
DEVICE u32 keep_nearest(u64* list, u32 filled, u32* count, const KnnSelectParams& p) {
    barrier();
    for (u32 i = filled + thread_index().x; i < p.capacity; i += KNN_THREADS) list[i] = 0;
    sort(list, p.capacity);
    filled = min(filled, p.most);
    if (thread_index().x == 0) *count = filled;
    barrier();
    return filled;
}

// Updates the `most` nearest of each query, sorted, [queries][most], by a part of the keys. A
// block has a query. Those that are nearer than the last that counts so far are gathered; when
// there is no room for more, all are sorted and the nearest kept.
KERNEL(knn_select_f32, 256, (const float* products, u64* best, KnnSelectParams p)) {
    SHARED(u32, count, 1);
    u64* list = dynamic_shared<u64>();
    products += block_index().x * p.keys;
    best += block_index().x * p.most;
    u32 thread = thread_index().x;
    for (u32 i = thread; i < p.kept; i += KNN_THREADS) list[i] = best[i];
    if (thread == 0) *count = p.kept;
    u64 bar = p.kept == p.most ? best[p.most - 1] : 0;
    u32 filled = p.kept;
    barrier();
    for (u32 start = 0; start < p.keys; start += KNN_THREADS) {
        if (filled + KNN_THREADS > p.capacity) {
            filled = keep_nearest(list, filled, count, p);
            if (filled == p.most) bar = list[p.most - 1];
            barrier();
        }
        u32 i = start + thread;
        if (i < p.keys) {
            u64 found = neighbour(products[i], p.first + i);
            if (found > bar) list[atomic_add(count, 1u)] = found;
        }
        barrier();
        filled = *count;
        barrier();
    }
    filled = keep_nearest(list, filled, count, p);
    for (u32 i = thread; i < filled; i += KNN_THREADS) best[i] = list[i];
}

KERNEL(knn_products_f32, 256,
       (const float* queries, const float* keys, float* out, KnnProductsParams p)) {
    all_products<4>(queries, keys, out, p);
}
KERNEL(knn_products_scalar_f32, 256,
       (const float* queries, const float* keys, float* out, KnnProductsParams p)) {
    all_products<1>(queries, keys, out, p);
}
