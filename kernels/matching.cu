// Which position of a teacher's feature map is most alike to each of a student's, by cosines.
#include "include/kernel.h"
#include "include/gemm_nt.h"
#include "include/reduce.h"

struct MatchingParams {
    u32 positions;  // of an image
    u32 tiles;      // of these, on the student's side
    u32 student_channels, teacher_channels;
    u32 channels;   // that are compared, the first of both
    float eps;
};

// 1 / max(‖x‖, ε) of at most PRODUCT_TILE rows of the teacher's. A warp has every eighth.
template <int N, typename T>
DEVICE void inverse_lengths(const T* x, u32 rows, float* inverse, const MatchingParams& p) {
    for (u32 row = warp(); row < min(rows, PRODUCT_TILE); row += PRODUCT_THREADS / 32) {
        const T* at = x + row * p.teacher_channels;
        float length = sqrtf(dot<N>(at, at, p.channels));
        if (lane() == 0) inverse[row] = 1.0f / max(length, p.eps);
    }
}

// The greatest cosine and its position among the threads that share rows of a tile; of equal ones
// the lowest position.
DEVICE void best_of_row(float& best, u32& position) {
    UNROLL
    for (u32 with = PRODUCT_SIDE / 2; with > 0; with /= 2) {
        float other = shuffle_xor(FULL_WARP, best, with);
        u32 at = shuffle_xor(FULL_WARP, position, with);
        if (other > best || (other == best && at < position)) {
            best = other;
            position = at;
        }
    }
}

// For each position of the student's, the row of the teacher's with the greatest cosine. The
// length of the student's features is the same for all, and does not matter. NaN is passed over. A
// block has a tile of an image's positions, and goes through all of the teacher's.
template <int N, typename T>
DEVICE void match(const T* student, const T* teacher, i32* index, const MatchingParams& p) {
    SHARED(float, a_slice, PRODUCT_SLICE);
    SHARED(float, b_slice, PRODUCT_SLICE);
    SHARED(float, inverse, PRODUCT_TILE);
    u32 image = block_index().x / p.tiles * p.positions;
    u32 first = block_index().x % p.tiles * PRODUCT_TILE;
    student += (image + first) * p.student_channels;
    teacher += image * p.teacher_channels;
    float best[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
    u32 position[4] = {};
    for (u32 start = 0; start < p.positions; start += PRODUCT_TILE) {
        float s[4][4];
        const T* keys = teacher + start * p.teacher_channels;
        u32 columns = p.positions - start;
        // Its barriers let all threads be done with the lengths of the tile before.
        products<N>(student, p.student_channels, p.positions - first, keys, p.teacher_channels,
                    columns, p.channels, s, a_slice, b_slice);
        inverse_lengths<N>(keys, columns, inverse, p);
        barrier();
        UNROLL
        for (u32 j = 0; j < 4; ++j) {
            u32 column = product_column() + PRODUCT_SIDE * j;
            if (column >= columns) continue;
            UNROLL
            for (u32 i = 0; i < 4; ++i) {
                float cosine = s[i][j] * inverse[column];
                if (cosine > best[i]) {
                    best[i] = cosine;
                    position[i] = start + column;
                }
            }
        }
    }
    UNROLL
    for (u32 i = 0; i < 4; ++i) {
        best_of_row(best[i], position[i]);
        u32 row = first + product_row() + PRODUCT_SIDE * i;
        if (row < p.positions && product_column() == 0) index[image + row] = i32(image + position[i]);
    }
}

#define MATCHING(suffix, T, N)                                                          \
    KERNEL(matching##suffix, 256,                                                       \
           (const T* student, const T* teacher, i32* index, MatchingParams p)) {        \
        match<N>(student, teacher, index, p);                                           \
    }

MATCHING(_f32, float, VECTOR<float>)
MATCHING(_bf16, bf16, VECTOR<bf16>)
MATCHING(_scalar_f32, float, 1)
MATCHING(_scalar_bf16, bf16, 1)
