// How alike two feature maps relate their positions to each other (src/ops/relation). With
// e = exp((T − 1)/τ) of the teacher's cosines T and l = exp((S − 1)/τ) of the student's (no
// cosine is above 1, so nothing overflows), position i scores
// (Σⱼ e·S / Σⱼ e − 1)/τ − log Σⱼ l. Tiles of both Gram matrices are made and used up: neither
// lies in memory.
#include "include/gram.h"
#include "include/kernel.h"
#include "include/products.h"
#include "include/reduce.h"

struct RelationParams {
    u32 positions;          // of a picture
    u32 teacher_channels;
    u32 student_channels;
    u32 tiles;              // of rows, of a picture
    float scale;            // 1 / τ
};

struct RelationLengthsParams {
    u32 rows, channels;
    float eps;
};

// Adds a tile of cosines to the sums of e·S, e and l of each of a thread's rows.
DEVICE void add_terms(const float (&t)[4][4], const float (&s)[4][4], u32 columns, float scale,
                      float (&weighted)[4], float (&teacher)[4], float (&student)[4]) {
    UNROLL
    for (u32 j = 0; j < 4; ++j) {
        if (product_column() + PRODUCT_SIDE * j >= columns) continue;
        UNROLL
        for (u32 i = 0; i < 4; ++i) {
            float e = expf((t[i][j] - 1.0f) * scale);
            weighted[i] += e * s[i][j];
            teacher[i] += e;
            student[i] += expf((s[i][j] - 1.0f) * scale);
        }
    }
}

// The score of each position, [pictures][positions], of features whose rows have unit length.
// A block has a tile of rows of a picture, and goes over all columns.
template <int TEACHER_N, int STUDENT_N>
DEVICE void scores(const float* teacher, const float* student, float* scores,
                   const RelationParams& p) {
    SHARED(float, a_slice, PRODUCT_SLICE);
    SHARED(float, b_slice, PRODUCT_SLICE);
    u32 picture = block_index().x / p.tiles;
    u32 first = block_index().x % p.tiles * PRODUCT_TILE;
    u32 rows = p.positions - first;
    teacher += picture * p.positions * p.teacher_channels;
    student += picture * p.positions * p.student_channels;
    scores += picture * p.positions;
    float sums[3][4] = {};
    for (u32 start = 0; start < p.positions; start += PRODUCT_TILE) {
        u32 columns = p.positions - start;
        float t[4][4], s[4][4];
        products<TEACHER_N>(teacher + first * p.teacher_channels, rows,
                            teacher + start * p.teacher_channels, columns, p.teacher_channels,
                            t, a_slice, b_slice);
        products<STUDENT_N>(student + first * p.student_channels, rows,
                            student + start * p.student_channels, columns, p.student_channels,
                            s, a_slice, b_slice);
        add_terms(t, s, columns, p.scale, sums[0], sums[1], sums[2]);
    }
    UNROLL
    for (u32 i = 0; i < 4; ++i) {
        float weighted = product_row_sum(sums[0][i]);
        float of_teacher = product_row_sum(sums[1][i]);
        float of_student = product_row_sum(sums[2][i]);
        u32 row = first + product_row() + PRODUCT_SIDE * i;
        if (product_column() == 0 && row < p.positions) {
            scores[row] = (weighted / of_teacher - 1.0f) * p.scale - logf(of_student);
        }
    }
}

KERNEL(relation_scores_f32, 256,
       (const float* teacher, const float* student, float* out, RelationParams p)) {
    scores<4, 4>(teacher, student, out, p);
}
// Where the channels of one are no whole vectors.
KERNEL(relation_scores_scalar_f32, 256,
       (const float* teacher, const float* student, float* out, RelationParams p)) {
    scores<1, 1>(teacher, student, out, p);
}

// Cosines of a tile, rows from `first` on and columns from `start` on, from products and
// 1 / the length of each of the `positions`.
DEVICE void scale_tile(GramTile& tile, const float* inverse, u32 first, u32 start,
                       u32 positions) {
    float of_row[4];
    UNROLL
    for (u32 r = 0; r < 4; ++r) {
        u32 row = first + gram_row(r / 2, r % 2 * 2);
        of_row[r] = row < positions ? inverse[row] : 0.0f;
    }
    UNROLL
    for (u32 n = 0; n < 4; ++n) {
        UNROLL
        for (u32 i = 0; i < 2; ++i) {
            u32 column = start + gram_column(n, i);
            float of_column = column < positions ? inverse[column] : 0.0f;
            UNROLL
            for (u32 r = 0; r < 4; ++r) tile[r / 2][n][r % 2 * 2 + i] *= of_column * of_row[r];
        }
    }
}

// Adds a tile of cosines to the sums of e·S, e and l of each of a thread's rows.
DEVICE void add_gram_terms(const GramTile& t, const GramTile& s, u32 columns, float scale,
                           float (&sums)[3][4]) {
    UNROLL
    for (u32 n = 0; n < 4; ++n) {
        UNROLL
        for (u32 i = 0; i < 4; ++i) {
            if (gram_column(n, i) >= columns) continue;
            UNROLL
            for (u32 m = 0; m < 2; ++m) {
                u32 row = 2 * m + i / 2;
                float e = expf((t[m][n][i] - 1.0f) * scale);
                sums[0][row] += e * s[m][n][i];
                sums[1][row] += e;
                sums[2][row] += expf((s[m][n][i] - 1.0f) * scale);
            }
        }
    }
}

// Writes the scores of the block's rows from the sums of its threads: those of four lanes and
// of two warps belong to a row.
DEVICE void store_scores(const float (&sums)[3][4], u32 rows, float scale, float* scores) {
    SHARED(float, halves, 2 * 3 * GRAM_ROWS);
    UNROLL
    for (u32 r = 0; r < 4; ++r) {
        UNROLL
        for (u32 k = 0; k < 3; ++k) {
            float sum = sums[k][r];
            sum += shuffle_xor(FULL_WARP, sum, 1);
            sum += shuffle_xor(FULL_WARP, sum, 2);
            u32 row = gram_row(r / 2, r % 2 * 2);
            if (lane() % 4 == 0) halves[(warp() % 2 * 3 + k) * GRAM_ROWS + row] = sum;
        }
    }
    barrier();
    u32 row = thread_index().x;
    if (row >= GRAM_ROWS || row >= rows) return;
    float total[3];
    UNROLL
    for (u32 k = 0; k < 3; ++k) {
        total[k] = halves[k * GRAM_ROWS + row] + halves[(3 + k) * GRAM_ROWS + row];
    }
    scores[row] = (total[0] / total[1] - 1.0f) * scale - logf(total[2]);
}

// The score of each position on tensor cores, of features of any length and 1 / the length of
// each row. Channels are multiples of 8. A block has GRAM_ROWS rows of a picture.
KERNEL_RESIDENT(relation_scores_bf16, 256, 2,
                (const bf16* teacher, const bf16* student, const float* teacher_inverse,
                 const float* student_inverse, float* out, RelationParams p)) {
    SHARED(bf16, slices, GRAM_STAGES * GRAM_SLICE);
    u32 position = block_index().x / p.tiles * p.positions;
    u32 first = block_index().x % p.tiles * GRAM_ROWS;
    u32 rows = p.positions - first;
    teacher += position * p.teacher_channels;
    student += position * p.student_channels;
    teacher_inverse += position;
    student_inverse += position;
    float sums[3][4] = {};
    for (u32 start = 0; start < p.positions; start += GRAM_COLUMNS) {
        u32 columns = p.positions - start;
        GramTile t, s;
        gram(teacher + first * p.teacher_channels, rows, teacher + start * p.teacher_channels,
             columns, p.teacher_channels, t, slices);
        scale_tile(t, teacher_inverse, first, start, p.positions);
        gram(student + first * p.student_channels, rows, student + start * p.student_channels,
             columns, p.student_channels, s, slices);
        scale_tile(s, student_inverse, first, start, p.positions);
        add_gram_terms(t, s, columns, p.scale, sums);
    }
    store_scores(sums, rows, p.scale, out + position + first);
}

// 1 / max(‖x‖, ε) of each row. A warp has a row.
KERNEL(relation_lengths_bf16, 256, (const bf16* x, float* inverse, RelationLengthsParams p)) {
    u32 row = global_thread() / 32;
    if (row >= p.rows) return;
    x += row * p.channels;
    float length = sqrtf(dot<8>(x, x, p.channels));
    if (lane() == 0) inverse[row] = 1.0f / (length < p.eps ? p.eps : length);
}
