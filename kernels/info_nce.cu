// InfoNCE against a queue of negatives, without storing logits. A block has a tile of rows of q
// and a strip of the queue; tile after tile of negatives it keeps, for each row, the greatest
// logit so far m, Σ exp(l − m) and Σ exp(l − m)·negative (the online softmax of Milakov and
// Gimelshein, 2018). A second kernel adds the strips up.
#include "include/kernel.h"
#include "include/gemm_nt.h"
#include "include/reduce.h"

// Columns of the sum of negatives that a block keeps, and negatives that are added at a time.
constexpr u32 PIECE = 128;
constexpr u32 GROUP = 16;
constexpr u32 PIECE_STRIDE = PIECE + 4;
// The two rows that a warp writes meet no bank twice.
constexpr u32 WEIGHTS_STRIDE = PRODUCT_TILE + 16;
static_assert(GROUP * PIECE_STRIDE <= PRODUCT_SLICE, "a group of negatives takes a slice's place");

struct InfoNceParams {
    u32 rows;       // of q
    u32 negatives;
    u32 channels;
    u32 strips;     // of the queue
    u32 strip;      // negatives of one, a multiple of PRODUCT_TILE
    u32 pieces;     // of PIECE channels
    float scale;    // 1 / τ
};

struct InfoNceBackwardParams {
    u32 elems;
    float factor;
};

// Turns a tile of products into exp(logit − m) for the columns that exist, 0 beyond. Where m
// grew, what was summed before is to be multiplied by `factors`.
DEVICE void online_softmax(float (&s)[4][4], u32 columns, float scale, float (&most)[4],
                           float (&total)[4], float (&factors)[4]) {
    UNROLL
    for (u32 i = 0; i < 4; ++i) {
        float tile_most = -INFINITY;
        UNROLL
        for (u32 j = 0; j < 4; ++j) {
            bool exists = product_column() + PRODUCT_SIDE * j < columns;
            s[i][j] = exists ? s[i][j] * scale : -INFINITY;
            tile_most = max(tile_most, s[i][j]);
        }
        float now = max(most[i], product_row_max(tile_most));
        factors[i] = expf(most[i] - now);
        most[i] = now;
        total[i] *= factors[i];
        UNROLL
        for (u32 j = 0; j < 4; ++j) {
            s[i][j] = expf(s[i][j] - now);
            total[i] += s[i][j];
        }
    }
}

// A thread's part of the sum of negatives: of its four rows, channels 4c to 4c + 3 and the
// same in the second half of the piece, c its column in a tile.
using Sums = float[4][8];

// Adds weight·negative for a group of negatives in `slice`.
DEVICE void add_negatives(const float* weights, const float* slice, Sums& sums) {
    weights += product_row() * WEIGHTS_STRIDE;
    slice += 4 * product_column();
    NO_UNROLL
    for (u32 n = 0; n < GROUP; n += 4) {
        Values<4> w[4];
        UNROLL
        for (u32 i = 0; i < 4; ++i) w[i] = load<4>(weights + PRODUCT_SIDE * i * WEIGHTS_STRIDE + n);
        UNROLL
        for (u32 k = 0; k < 4; ++k) {
            UNROLL
            for (u32 half = 0; half < 2; ++half) {
                Values<4> v = load<4>(slice + (n + k) * PIECE_STRIDE + half * PIECE / 2);
                UNROLL
                for (u32 i = 0; i < 4; ++i) {
                    UNROLL
                    for (u32 c = 0; c < 4; ++c) sums[i][4 * half + c] += w[i][k] * v[c];
                }
            }
        }
    }
}

// Writes m and Σ exp(l − m) to `states`, [strips][rows][2], and the sums of negatives to
// `sums`, [strips][rows][channels]. Blocks: pieces, then strips, then tiles of rows.
template <int N, typename T>
DEVICE void parts(const T* q, const T* queue, float* states, float* sums,
                  const InfoNceParams& p) {
    SHARED(float, a_slice, PRODUCT_SLICE);
    SHARED(float, b_slice, PRODUCT_SLICE);
    SHARED(float, weights, PRODUCT_TILE * WEIGHTS_STRIDE);
    u32 piece = block_index().x % p.pieces * PIECE;
    u32 strip = block_index().x / p.pieces % p.strips;
    u32 first = block_index().x / p.pieces / p.strips * PRODUCT_TILE;
    u32 end = min((strip + 1) * p.strip, p.negatives);
    float most[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
    float total[4] = {};
    Sums weighted = {};
    for (u32 start = strip * p.strip; start < end; start += PRODUCT_TILE) {
        float s[4][4], factors[4];
        const T* negatives = queue + start * p.channels;
        products<N>(q + first * p.channels, p.rows - first, negatives, end - start, p.channels,
                    s, a_slice, b_slice);
        online_softmax(s, end - start, p.scale, most, total, factors);
        UNROLL
        for (u32 i = 0; i < 4; ++i) {
            UNROLL
            for (u32 c = 0; c < 8; ++c) weighted[i][c] *= factors[i];
            float* row = weights + (product_row() + PRODUCT_SIDE * i) * WEIGHTS_STRIDE;
            UNROLL
            for (u32 j = 0; j < 4; ++j) row[product_column() + PRODUCT_SIDE * j] = s[i][j];
        }
        for (u32 n = 0; n < PRODUCT_TILE && start + n < end; n += GROUP) {
            barrier();
            load_slice<N, GROUP, PIECE>(negatives + n * p.channels, p.channels, end - start - n,
                                        p.channels, piece, b_slice, PIECE_STRIDE);
            barrier();
            add_negatives(weights + n, b_slice, weighted);
        }
    }
    UNROLL
    for (u32 i = 0; i < 4; ++i) {
        total[i] = product_row_sum(total[i]);
        u32 row = first + product_row() + PRODUCT_SIDE * i;
        if (row >= p.rows) continue;
        u32 at = strip * p.rows + row;
        if (piece == 0 && product_column() == 0) {
            store_vec<2>(states + 2 * at, Vec<float, 2>{most[i], total[i]});
        }
        constexpr u32 M = N < 4 ? 1 : 4;
        UNROLL
        for (u32 c = 0; c < 8; c += M) {
            u32 channel = piece + c / 4 * (PIECE / 2) + 4 * product_column() + c % 4;
            if (channel >= p.channels) continue;
            Values<M> v;
            UNROLL
            for (u32 k = 0; k < M; ++k) v[k] = weighted[i][c + k];
            store<M>(sums + at * p.channels + channel, v);
        }
    }
}

// The greatest logit of a row's strips, at least `least`, and Σ exp(l − greatest), in all lanes of
// the warp that has the row.
DEVICE Values<2> row_state(const float* states, u32 row, float least, const InfoNceParams& p) {
    float most = least;
    for (u32 s = lane(); s < p.strips; s += 32) most = max(most, states[2 * (s * p.rows + row)]);
    most = warp_max(most);
    float total = 0.0f;
    for (u32 s = lane(); s < p.strips; s += 32) {
        Vec<float, 2> state = load_vec<2>(states + 2 * (s * p.rows + row));
        total += state[1] * expf(state[0] - most);
    }
    return {most, warp_sum(total)};
}

// sum + channel c of Σ p·negative over a row's strips, where all logits add up to `total`.
DEVICE float add_strips(float sum, const float* states, const float* sums, u32 row, u32 c,
                        float most, float total, const InfoNceParams& p) {
    for (u32 s = 0; s < p.strips; ++s) {
        u32 at = s * p.rows + row;
        sum += expf(states[2 * at] - most) / total * sums[at * p.channels + c];
    }
    return sum;
}

// A warp adds the strips of a row up, and the positive k where it is a logit: its loss, and
// Σ p·negative + p₀·k − k. A target stands in k's place with p₀ = 0.
template <bool OWN, typename T, typename K>
DEVICE void combine(const T* q, const K* k, const float* states, const float* sums,
                    float* direction, float* losses, const InfoNceParams& p) {
    u32 row = global_thread() / 32;
    if (row >= p.rows) return;
    q += row * p.channels;
    k += row * p.channels;
    float positive = 0.0f;
    for (u32 c = lane(); c < p.channels; c += 32) positive += float(q[c]) * float(k[c]);
    positive = warp_sum(positive) * p.scale;
    Values<2> state = row_state(states, row, OWN ? positive : -INFINITY, p);
    float most = state[0], others = state[1];
    float total = OWN ? expf(positive - most) + others : others;
    if (lane() == 0) losses[row] = logf(total) + most - positive;
    for (u32 c = lane(); c < p.channels; c += 32) {
        // p₀ − 1, without the difference of nearly equal numbers.
        float sum = -others / total * float(k[c]);
        direction[row * p.channels + c] = add_strips(sum, states, sums, row, c, most, total, p);
    }
}

// A warp adds the strips of a row up: Σ p·negative, and ln Σ exp(l).
KERNEL(queue_mean_f32, 256, (const float* states, const float* sums, float* mean, float* log_z,
                             InfoNceParams p)) {
    u32 row = global_thread() / 32;
    if (row >= p.rows) return;
    Values<2> state = row_state(states, row, -INFINITY, p);
    if (lane() == 0) log_z[row] = logf(state[1]) + state[0];
    for (u32 c = lane(); c < p.channels; c += 32) {
        mean[row * p.channels + c] =
            add_strips(0.0f, states, sums, row, c, state[0], state[1], p);
    }
}

// The gradient of q: the direction times the loss's gradient and a factor.
template <typename T>
DEVICE void backward(const float* direction, const float* gy, T* gq,
                     const InfoNceBackwardParams& p) {
    float factor = gy[0] * p.factor;
    map(p.elems, [=](float x) { return x * factor; }, gq, direction);
}

#define INFO_NCE_PARTS(suffix, T, N)                                                        \
    KERNEL(info_nce_parts##suffix, 256,                                                     \
           (const T* q, const T* queue, float* states, float* sums, InfoNceParams p)) {     \
        parts<N>(q, queue, states, sums, p);                                                \
    }
#define INFO_NCE(suffix, T)                                                                 \
    INFO_NCE_PARTS(suffix, T, VECTOR<T>)                                                    \
    INFO_NCE_PARTS(_scalar##suffix, T, 1)                                                   \
    KERNEL(info_nce_combine##suffix, 256,                                                   \
           (const T* q, const T* k, const float* states, const float* sums,                 \
            float* direction, float* losses, InfoNceParams p)) {                            \
        combine<true>(q, k, states, sums, direction, losses, p);                            \
    }                                                                                       \
    KERNEL(info_nce_combine_target##suffix, 256,                                            \
           (const T* q, const float* target, const float* states, const float* sums,        \
            float* direction, float* losses, InfoNceParams p)) {                            \
        combine<false>(q, target, states, sums, direction, losses, p);                      \
    }                                                                                       \
    KERNEL(info_nce_backward##suffix, 256,                                                  \
           (const float* direction, const float* gy, T* gq, InfoNceBackwardParams p)) {     \
        backward(direction, gy, gq, p);                                                     \
    }

INFO_NCE(_f32, float)
INFO_NCE(_bf16, bf16)
