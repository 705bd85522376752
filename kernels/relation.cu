// How alike two feature maps relate their positions to each other (src/ops/relation). With
// e = exp((T − 1)/τ) of the teacher's cosines T and l = exp((S − 1)/τ) of the student's (no
// cosine is above 1, so nothing overflows), position i scores
// (Σⱼ e·S / Σⱼ e − 1)/τ − log Σⱼ l, here in base 2. T and S are symmetric: a block makes a tile
// of both on or above the diagonal, and adds its terms to the sums of its rows and of its
// columns. Neither matrix lies in memory.
//
// Blocks meet in the sums of a position, which are integers: no order changes them. No term is
// above 1, so those of fewer than 2^24 positions, in units of 2^-38, fit in 63 bits. (The
// number of blocks is below 2^31, that of positions thus below 2^23.)
#include "include/gram.h"
#include "include/kernel.h"
#include "include/reduce.h"

struct RelationParams {
    u32 rows;               // positions of all images
    u32 positions;          // of an image
    u32 tiles;              // of an image
    u32 teacher_channels;
    u32 student_channels;
    float scale;            // log2(e) / τ
};

struct RelationLengthsParams {
    u32 rows, channels;
    float eps;
};

constexpr float RELATION_UNITS = 274877906944.0f;
DEVICE u64 as_fixed(float x) { return u64(i64(x * RELATION_UNITS)); }
DEVICE float from_fixed(u64 x) { return float(i64(x)) / RELATION_UNITS; }

// No cosine of a row is above its length, which is 0 for a row of zeros: to keep the bits of
// its sums, they are kept times 2^lift. NaN for a row that is not finite.
DEVICE float lift(float length, float scale) { return (1.0f - length) * scale; }

// Of each row 1 / max(‖x‖, ε), then of each its length when multiplied by it. A warp has a row.
template <int N, typename T>
DEVICE void lengths(const T* x, float* of_rows, const RelationLengthsParams& p) {
    u32 row = global_thread() / 32;
    if (row >= p.rows) return;
    x += row * p.channels;
    float length = sqrtf(dot<N>(x, x, p.channels));
    float inverse = 1.0f / (length < p.eps ? p.eps : length);
    if (lane() == 0) {
        of_rows[row] = inverse;
        of_rows[p.rows + row] = length * inverse;
    }
}

// Where a block's tile begins in the matrices of an image, and the image in all rows.
struct RelationTile {
    u32 image, row, column;

    // Row tile i has the column tiles from 2i on: i·(columns + 1 − i) tiles come before it.
    DEVICE explicit RelationTile(const RelationParams& p) {
        static_assert(GRAM_ROWS == 2 * GRAM_COLUMNS, "two column tiles on the diagonal");
        u32 number = block_index().x % p.tiles;
        u32 columns = (p.positions + GRAM_COLUMNS - 1) / GRAM_COLUMNS;
        u32 tile = 0, end = (p.positions + GRAM_ROWS - 1) / GRAM_ROWS;
        while (end - tile > 1) {
            u32 middle = (tile + end) / 2;
            (middle * (columns + 1 - middle) <= number ? tile : end) = middle;
        }
        image = block_index().x / p.tiles * p.positions;
        row = tile * GRAM_ROWS;
        column = (2 * tile + number - tile * (columns + 1 - tile)) * GRAM_COLUMNS;
    }

    // Whether all of the tile is above the diagonal and within the matrices.
    DEVICE bool is_inside(u32 positions) const {
        return row + GRAM_ROWS <= column && column + GRAM_COLUMNS <= positions;
    }
};

// Shared memory for tiles of rows that are loaded N elements at once, in floats.
template <int N>
constexpr u32 RELATION_SHARED = N == 8 ? GRAM_STAGES * GRAM_SLICE / 2 : GRAM_PLAIN_SLICE;

// Cosines of a tile; with N = 8, of bf16, on tensor cores.
template <int N, typename T>
DEVICE void cosines(const T* x, u32 channels, const float* inverse, const RelationTile& corner,
                    u32 positions, GramTile& tile, float* shared) {
    inverse += corner.image;
    const T* a = x + (corner.image + corner.row) * channels;
    const T* b = x + (corner.image + corner.column) * channels;
    u32 a_rows = positions - corner.row, b_rows = positions - corner.column;
    if constexpr (N == 8) {
        gram(a, a_rows, b, b_rows, channels, tile, reinterpret_cast<bf16*>(shared));
    } else {
        gram_plain<N>(a, a_rows, b, b_rows, channels, tile, shared);
    }
    float of_row[4];
    UNROLL
    for (u32 r = 0; r < 4; ++r) {
        u32 row = gram_row(r);
        of_row[r] = row < a_rows ? inverse[corner.row + row] : 0.0f;
    }
    UNROLL
    for (u32 c = 0; c < 8; ++c) {
        u32 column = gram_column(c);
        float of_column = column < b_rows ? inverse[corner.column + column] : 0.0f;
        UNROLL
        for (u32 r = 0; r < 4; ++r) gram_at(tile, r, c) *= of_column * of_row[r];
    }
}

// Leaves of the terms of a tile those that count, above the diagonal, for row and column. Those
// on it count for both, too: half.
template <u32 K>
DEVICE void mask(GramTile (&terms)[K], const RelationTile& corner, u32 positions) {
    UNROLL
    for (u32 c = 0; c < 8; ++c) {
        u32 column = corner.column + gram_column(c);
        UNROLL
        for (u32 r = 0; r < 4; ++r) {
            u32 row = corner.row + gram_row(r);
            float share = row < column ? 1.0f : row == column ? 0.5f : 0.0f;
            if (column >= positions) share = 0.0f;
            UNROLL
            for (u32 k = 0; k < K; ++k) gram_at(terms[k], r, c) *= share;
        }
    }
}

// Adds the terms of the block's tile to the sums of its rows and columns, [K][rows], of
// features and what `lengths` found of them: e of a teacher's map, or e·S and l of a teacher's
// and a student's.
template <int N, u32 K, typename T>
DEVICE void sweep(const T* const (&maps)[K], const u32 (&channels)[K],
                  const float* const (&of_rows)[K], u64* sums, const RelationParams& p) {
    SHARED(float, shared, RELATION_SHARED<N>);
    RelationTile corner(p);
    GramTile terms[K];
    UNROLL
    for (u32 k = 0; k < K; ++k) {
        cosines<N>(maps[k], channels[k], of_rows[k], corner, p.positions, terms[k], shared);
    }
    UNROLL
    for (u32 i = 0; i < 32; ++i) {
        float& t = gram_at(terms[0], i / 8, i % 8);
        t = exp2f((t - 1.0f) * p.scale);
        if constexpr (K == 2) {
            float& s = gram_at(terms[1], i / 8, i % 8);
            t *= s;
            s = exp2f((s - 1.0f) * p.scale);
        }
    }
    if (!corner.is_inside(p.positions)) mask(terms, corner, p.positions);
    gram_sums(terms, shared);
    u32 line = thread_index().x;
    if (line >= GRAM_LINES) return;
    u32 position = line < GRAM_ROWS ? corner.row + line : corner.column + line - GRAM_ROWS;
    if (position >= p.positions) return;
    u32 row = corner.image + position;
    UNROLL
    for (u32 k = 0; k < K; ++k) {
        float sum = gram_sum<K>(shared, line, k);
        float by = exp2f(lift(of_rows[k][p.rows + row], p.scale));
        atomic_add(sums + k * p.rows + row, as_fixed(sum * by));
    }
}

#define RELATION(suffix, T, N)                                                                  \
    KERNEL(relation_lengths##suffix, 256,                                                       \
           (const T* x, float* of_rows, RelationLengthsParams p)) {                             \
        lengths<N>(x, of_rows, p);                                                              \
    }                                                                                           \
    KERNEL_RESIDENT(relation_teacher##suffix, 256, 2,                                           \
                    (const T* teacher, const float* of_teacher, u64* sums, RelationParams p)) { \
        sweep<N, 1, T>({teacher}, {p.teacher_channels}, {of_teacher}, sums, p);                 \
    }                                                                                           \
    KERNEL_RESIDENT(relation_student##suffix, 256, 2,                                           \
                    (const T* teacher, const T* student, const float* of_teacher,               \
                     const float* of_student, u64* sums, RelationParams p)) {                   \
        sweep<N, 2, T>({teacher, student}, {p.teacher_channels, p.student_channels},            \
                       {of_teacher, of_student}, sums, p);                                      \
    }

RELATION(_f32, float, 4)
RELATION(_bf16, bf16, 8)
// Where channels are no whole vectors.
RELATION(_scalar_f32, float, 1)
RELATION(_scalar_bf16, bf16, 1)

// Σ e of each row, behind what `lengths` found of the teacher.
KERNEL(relation_normaliser_f32, 256, (const u64* sums, float* of_teacher, RelationParams p)) {
    u32 row = global_thread();
    if (row >= p.rows) return;
    float by = exp2f(-lift(of_teacher[p.rows + row], p.scale));
    of_teacher[2 * p.rows + row] = from_fixed(sums[row]) * by;
}

// The score of each row, in base 2.
KERNEL(relation_scores_f32, 256, (const u64* sums, const float* of_teacher,
                                  const float* of_student, float* scores, RelationParams p)) {
    u32 row = global_thread();
    if (row >= p.rows) return;
    float by = exp2f(lift(of_teacher[p.rows + row], p.scale));
    float expected = from_fixed(sums[row]) / (of_teacher[2 * p.rows + row] * by);
    float lifted = log2f(from_fixed(sums[p.rows + row]));
    scores[row] = (expected - 1.0f) * p.scale - (lifted - lift(of_student[p.rows + row], p.scale));
}
