// Batch normalisation, fused with what follows it in a residual net:
// y = relu?(γ·(x − mean)/√(var + ε) + β (+ residual)), per channel.
//
// It is bound by memory, so passes are few: forward reads x twice; backward reads x and the
// gradient twice, and works the ReLU's mask out from x again where it can instead of reading
// y. In these passes a block has some channels of a part of a group of images. Sums over
// parts are taken in f32, around a value near the mean so that the variance does not cancel;
// small kernels add the parts up in f64, in order.
#include "include/kernel.h"
#include "include/reduce.h"
#include "include/vector.h"

struct BatchNormParams {
    u32 channels, rows;  // of x
    u32 groups;          // of images, which share statistics
    u32 group_rows;      // rows of a full group
    u32 parts;           // of a full group
    u32 part_rows;       // rows of a full part
    u32 columns;         // vectors of channels that a block has side by side
    u32 tiles;           // blocks that the channels take
    u32 add, relu;       // whether a residual is added, whether y = max(·, 0)
    u32 given;           // whether the statistics were given
    float eps;
    u32 images;  // of x
};

struct BatchNormAveragesParams {
    u32 channels, images;
};

struct BatchNormGivenParams {
    u32 channels;
    float eps;
};

// For the gradients of γ and β.
struct BatchNormParametersParams {
    u32 channels, groups;
    u32 max[2];         // channels that they are stored for
    u32 accumulate[2];  // whether there is something in them already
};

constexpr int THREADS = 256;
// Rows from which the value is taken that sums are shifted by.
constexpr u32 PROBES = 8;
// Rows that a thread of `moments` reads before it uses the first.
constexpr u32 AHEAD = 4;
// Channels that a block has when parts are added up: 32 bytes, the least that is read.
constexpr u32 TOTAL_COLUMNS = 8;

// The rows and channels of a block in a pass over x.
template <int N>
struct Part {
    Tile tile;
    u32 group, channel;
    u32 group_begin, group_rows;
    u32 begin, end;  // rows
    u32 index;       // of all parts of all groups

    DEVICE explicit Part(const BatchNormParams& p) : tile(p.columns) {
        u32 block = block_index().x;
        u32 part = block % p.parts;
        group = block / p.parts / p.tiles;
        channel = (block / p.parts % p.tiles * p.columns + tile.column) * N;
        group_begin = group * p.group_rows;
        u32 group_end = min(group_begin + p.group_rows, p.rows);
        group_rows = group_end - group_begin;
        begin = min(group_begin + part * p.part_rows, group_end);
        end = min(begin + p.part_rows, group_end);
        index = group * p.parts + part;
        if (!tile.has_place() || channel >= p.channels) end = begin = 0;
    }

    DEVICE bool has_channels(const BatchNormParams& p) const {
        return tile.has_place() && channel < p.channels;
    }

    // Writes two sums of each channel: the first sums of all channels, then the second.
    DEVICE void store_sums(const float* values, float* sums, const BatchNormParams& p) const {
        if (!has_channels(p) || tile.row > 0) return;
        Values<N> first, second;
        UNROLL
        for (int i = 0; i < N; ++i) {
            first[i] = values[i];
            second[i] = values[N + i];
        }
        sums += 2 * index * p.channels + channel;
        store<N>(sums, first);
        store<N>(sums + p.channels, second);
    }
};

// What a thread holds of its channels in a row of x and of up to two tensors beside it, as it lies
// in memory: half the registers of f32 where that is bf16.
template <typename T, int N>
struct Row {
    Vec<T, N> x, a, b;
};

// Goes through a thread's rows of a part in order. It loads two before it uses the first, so that
// more bytes are on their way: a store that may be to the same memory keeps the compiler from that.
template <typename T, int N, typename Load, typename Use>
DEVICE void each_row(const Part<N>& part, const BatchNormParams& p, Load load, Use use) {
    u32 row = part.begin + part.tile.row, step = part.tile.rows;
    for (; row + step < part.end; row += 2 * step) {
        u32 at = row * p.channels + part.channel, next = at + step * p.channels;
        Row<T, N> first = load(at), second = load(next);
        use(at, first);
        use(next, second);
    }
    if (row < part.end) {
        u32 at = row * p.channels + part.channel;
        use(at, load(at));
    }
}

// For each part and channel, Σ (x − shift) and Σ (x − shift)²; and the shift of each group.
template <int N, typename T>
DEVICE void moments(const T* x, float* sums, float* shifts, const BatchNormParams& p) {
    SHARED(float, shared, 2 * N * THREADS);
    Part<N> part(p);
    u32 probes = min(PROBES, part.group_rows);
    Values<N> shift;
    UNROLL
    for (int i = 0; i < N; ++i) shift[i] = 0.0f;
    if (part.has_channels(p) && part.tile.row < probes) {
        u32 row = part.group_begin + part.tile.row * (part.group_rows / probes);
        shift = load<N>(x + row * p.channels + part.channel);
    }
    sum_rows<THREADS>(part.tile, shift.at, shared);
    barrier();
    UNROLL
    for (int i = 0; i < N; ++i) shift[i] /= float(probes);

    float values[2 * N];
    UNROLL
    for (int i = 0; i < 2 * N; ++i) values[i] = 0.0f;
    auto add = [&](const Values<N>& v) {
        UNROLL
        for (int i = 0; i < N; ++i) {
            float d = v[i] - shift[i];
            values[i] += d;
            values[N + i] += d * d;
        }
    };
    u32 row = part.begin + part.tile.row, step = part.tile.rows;
    for (; row + (AHEAD - 1) * step < part.end; row += AHEAD * step) {
        Values<N> v[AHEAD];
        UNROLL
        for (u32 j = 0; j < AHEAD; ++j) {
            v[j] = load<N>(x + (row + j * step) * p.channels + part.channel);
        }
        UNROLL
        for (u32 j = 0; j < AHEAD; ++j) add(v[j]);
    }
    for (; row < part.end; row += step) add(load<N>(x + row * p.channels + part.channel));
    sum_rows<THREADS>(part.tile, values, shared);
    part.store_sums(values, sums, p);
    bool is_first = part.index == part.group * p.parts;
    if (is_first && part.has_channels(p) && part.tile.row == 0) {
        store<N>(shifts + part.group * p.channels + part.channel, shift);
    }
}

// One group of a block of channels whose parts are added up.
struct Total {
    Tile tile;
    u32 group, channel, rows;

    DEVICE explicit Total(const BatchNormParams& p) : tile(TOTAL_COLUMNS) {
        u32 tiles = (p.channels + TOTAL_COLUMNS - 1) / TOTAL_COLUMNS;
        group = block_index().x / tiles;
        channel = block_index().x % tiles * TOTAL_COLUMNS + tile.column;
        rows = min(p.group_rows, p.rows - group * p.group_rows);
    }

    // Whether this thread writes the results of its channel.
    DEVICE bool writes(const BatchNormParams& p) const {
        return tile.row == 0 && channel < p.channels;
    }

    // The two sums of the channel, over the parts of the group.
    DEVICE void add(const float* sums, double (&total)[2], double* shared,
                    const BatchNormParams& p) const {
        total[0] = total[1] = 0.0;
        for (u32 part = tile.row; channel < p.channels && part < p.parts; part += tile.rows) {
            const float* at = sums + 2 * (group * p.parts + part) * p.channels + channel;
            total[0] += double(at[0]);
            total[1] += double(at[p.channels]);
        }
        sum_rows<THREADS>(tile, total, shared);
    }
};

// Mean and biased variance from the sums of `moments`.
DEVICE void mean_and_variance(const double (&sums)[2], float shift, u32 rows, double& mean,
                              double& variance) {
    double n = double(rows), offset = sums[0] / n;
    mean = double(shift) + offset;
    double found = sums[1] / n - offset * offset;
    // NaN stays, which `max` would make 0.
    variance = found < 0.0 ? 0.0 : found;
}

// Rows 2g and 2g + 1 of `stats`: mean and 1/√(var + ε) of group g. Adds to `running`, if there is
// one, mean and unbiased variance of the only group, as often as there are images.
KERNEL(batch_norm_statistics_f32, THREADS,
       (const float* sums, const float* shifts, float* stats, double* running,
        BatchNormParams p)) {
    SHARED(double, shared, 2 * THREADS);
    Total total(p);
    double sum[2], mean, variance;
    total.add(sums, sum, shared, p);
    if (!total.writes(p)) return;
    float shift = shifts[total.group * p.channels + total.channel];
    mean_and_variance(sum, shift, total.rows, mean, variance);
    stats += 2 * total.group * p.channels + total.channel;
    stats[0] = float(mean);
    stats[p.channels] = float(1.0 / sqrt(variance + double(p.eps)));
    if (running == nullptr) return;
    // A product of two floats is exact in a double, so that a fused multiply-add changes nothing.
    double n = double(total.rows), weight = double(p.images);
    running[total.channel] += weight * double(float(mean));
    running[p.channels + total.channel] += weight * double(float(variance * n / (n - 1.0)));
}

// Mean and variance from what `batch_norm_statistics` added up over so many images.
KERNEL(batch_norm_averages_f32, 256,
       (const double* sums, float* mean, float* var, BatchNormAveragesParams p)) {
    u32 channel = global_thread();
    if (channel >= p.channels) return;
    mean[channel] = float(sums[channel] / double(p.images));
    var[channel] = float(sums[p.channels + channel] / double(p.images));
}

// `stats` as in `batch_norm_statistics`, from statistics that are given.
KERNEL(batch_norm_given_f32, 256,
       (const float* mean, const float* var, float* stats, BatchNormGivenParams p)) {
    u32 channel = global_thread();
    if (channel >= p.channels) return;
    stats[channel] = mean[channel];
    stats[p.channels + channel] = float(1.0 / sqrt(double(var[channel]) + double(p.eps)));
}

// What normalises a thread's channels. Forward and backward pass give the same bits.
template <int N>
struct Affine {
    Values<N> mean = {}, scale = {}, bias = {};

    DEVICE Affine(const Part<N>& part, const float* gamma, const float* beta, const float* stats,
                  const BatchNormParams& p) {
        if (!part.has_channels(p)) return;
        stats += 2 * part.group * p.channels + part.channel;
        mean = load<N>(stats);
        scale = load<N>(stats + p.channels);
        bias = load<N>(beta + part.channel);
        Values<N> g = load<N>(gamma + part.channel);
        UNROLL
        for (int i = 0; i < N; ++i) scale[i] *= g[i];
    }

    DEVICE float operator()(int i, float x) const { return fmaf(x - mean[i], scale[i], bias[i]); }
};

template <int N, typename T>
DEVICE void forward(const T* x, const float* gamma, const float* beta, const float* stats,
                    const T* residual, T* y, const BatchNormParams& p) {
    Part<N> part(p);
    Affine<N> affine(part, gamma, beta, stats, p);
    auto load = [&](u32 at) {
        Row<T, N> row;
        row.x = load_vec<N>(x + at);
        if (p.add) row.a = load_vec<N>(residual + at);
        return row;
    };
    each_row<T>(part, p, load, [&](u32 at, const Row<T, N>& row) {
        Values<N> v;
        UNROLL
        for (int i = 0; i < N; ++i) {
            v[i] = affine(i, float(row.x[i]));
            if (p.add) v[i] += float(row.a[i]);
            v[i] = p.relu && v[i] < 0.0f ? 0.0f : v[i];
        }
        store<N>(y + at, v);
    });
}

// Adds a thread's g and g·(x − mean) to `values`, where g is gy behind the ReLU. With a
// residual and a ReLU (MASK), its mask is taken from y and gy becomes g; else, where there is a
// ReLU, from x.
template <bool MASK, int N, typename T>
DEVICE void add_gradients(const Part<N>& part, const Affine<N>& affine, const T* x, const T* y,
                          T* gy, float (&values)[2 * N], const BatchNormParams& p) {
    auto load = [&](u32 at) {
        Row<T, N> row;
        row.x = load_vec<N>(x + at);
        row.a = load_vec<N>(gy + at);
        if (MASK) row.b = load_vec<N>(y + at);
        return row;
    };
    each_row<T>(part, p, load, [&](u32 at, const Row<T, N>& row) {
        Values<N> g;
        UNROLL
        for (int i = 0; i < N; ++i) {
            float v = float(row.x[i]);
            g[i] = float(row.a[i]);
            if (MASK) {
                g[i] = relu_gradient(float(row.b[i]), g[i]);
            } else if (p.relu) {
                g[i] = relu_gradient(affine(i, v), g[i]);
            }
            values[i] += g[i];
            values[N + i] += g[i] * (v - affine.mean[i]);
        }
        if (MASK) store<N>(gy + at, g);
    });
}

// For each part and channel, Σ g and Σ g·(x − mean).
template <int N, typename T>
DEVICE void sums(const T* x, const float* gamma, const float* beta, const float* stats,
                 const T* y, T* gy, float* sums, const BatchNormParams& p) {
    SHARED(float, shared, 2 * N * THREADS);
    Part<N> part(p);
    Affine<N> affine(part, gamma, beta, stats, p);
    float values[2 * N];
    UNROLL
    for (int i = 0; i < 2 * N; ++i) values[i] = 0.0f;
    if (p.relu && p.add) {
        add_gradients<true>(part, affine, x, y, gy, values, p);
    } else {
        add_gradients<false>(part, affine, x, y, gy, values, p);
    }
    sum_rows<THREADS>(part.tile, values, shared);
    part.store_sums(values, sums, p);
}

// From the parts' sums, for each group and channel: `totals`, Σ g and Σ g·x̂; and `terms`, what
// the statistics' share in the gradient of x is made of: Σg/n and Σ(g·(x − mean))/n/(var + ε),
// or 0 where the statistics do not depend on x.
KERNEL(batch_norm_terms_f32, THREADS,
       (const float* sums, const float* stats, float* totals, float* terms, BatchNormParams p)) {
    SHARED(double, shared, 2 * THREADS);
    Total total(p);
    double sum[2];
    total.add(sums, sum, shared, p);
    if (!total.writes(p)) return;
    u32 at = 2 * total.group * p.channels + total.channel;
    double inv_std = double(stats[at + p.channels]);
    double weight = p.given ? 0.0 : 1.0 / double(total.rows);
    totals[at] = float(sum[0]);
    totals[at + p.channels] = float(sum[1] * inv_std);
    terms[at] = float(sum[0] * weight);
    terms[at + p.channels] = float(sum[1] * inv_std * inv_std * weight);
}

// Adds Σ g·x̂ to the gradient of γ and Σ g to that of β; either may be missing. Where there was
// nothing in a gradient, it becomes 0 beyond the channels that are used.
KERNEL(batch_norm_parameters_f32, 256,
       (const float* totals, float* gamma, float* beta, BatchNormParametersParams p)) {
    u32 channel = global_thread();
    double sum[2] = {0.0, 0.0};
    for (u32 group = 0; channel < p.channels && group < p.groups; ++group) {
        const float* total = totals + 2 * group * p.channels + channel;
        sum[0] += double(total[p.channels]);
        sum[1] += double(total[0]);
    }
    float* grads[2] = {gamma, beta};
    UNROLL
    for (int i = 0; i < 2; ++i) {
        if (grads[i] == nullptr || channel >= p.max[i]) continue;
        if (!p.accumulate[i]) {
            grads[i][channel] = float(sum[i]);
        } else if (channel < p.channels) {
            grads[i][channel] += float(sum[i]);
        }
    }
}

// The gradient of x: γ/√(var + ε) · (g − Σg/n − (x − mean)·Σ(g·(x − mean))/n/(var + ε)). gx may
// be gy.
template <int N, typename T>
DEVICE void backward(const T* x, const float* gamma, const float* beta, const float* stats,
                     const float* terms, const T* gy, T* gx, const BatchNormParams& p) {
    Part<N> part(p);
    Affine<N> affine(part, gamma, beta, stats, p);
    if (!part.has_channels(p)) return;
    terms += 2 * part.group * p.channels + part.channel;
    Values<N> mean_g = load<N>(terms), slope = load<N>(terms + p.channels);
    bool mask = p.relu && !p.add;
    auto load = [&](u32 at) {
        Row<T, N> row;
        row.x = load_vec<N>(x + at);
        row.a = load_vec<N>(gy + at);
        return row;
    };
    each_row<T>(part, p, load, [&](u32 at, const Row<T, N>& row) {
        Values<N> g;
        UNROLL
        for (int i = 0; i < N; ++i) {
            float v = float(row.x[i]), own = float(row.a[i]);
            float masked = mask ? relu_gradient(affine(i, v), own) : own;
            float centred = masked - mean_g[i] - (v - affine.mean[i]) * slope[i];
            g[i] = affine.scale[i] * centred;
        }
        store<N>(gx + at, g);
    });
}

#define BATCH_NORM(suffix, T, N)                                                              \
    KERNEL(batch_norm_moments##suffix, THREADS,                                               \
           (const T* x, float* sums, float* shifts, BatchNormParams p)) {                     \
        moments<N>(x, sums, shifts, p);                                                       \
    }                                                                                         \
    KERNEL(batch_norm_forward##suffix, THREADS,                                               \
           (const T* x, const float* gamma, const float* beta, const float* stats,            \
            const T* residual, T* y, BatchNormParams p)) {                                    \
        forward<N>(x, gamma, beta, stats, residual, y, p);                                    \
    }                                                                                         \
    KERNEL(batch_norm_sums##suffix, THREADS,                                                  \
           (const T* x, const float* gamma, const float* beta, const float* stats,            \
            const T* y, T* gy, float* parts, BatchNormParams p)) {                            \
        sums<N>(x, gamma, beta, stats, y, gy, parts, p);                                      \
    }                                                                                         \
    KERNEL(batch_norm_backward##suffix, THREADS,                                              \
           (const T* x, const float* gamma, const float* beta, const float* stats,            \
            const float* terms, const T* gy, T* gx, BatchNormParams p)) {                     \
        backward<N>(x, gamma, beta, stats, terms, gy, gx, p);                                 \
    }

BATCH_NORM(_f32, float, VECTOR<float>)
BATCH_NORM(_bf16, bf16, VECTOR<bf16>)
BATCH_NORM(_scalar_f32, float, 1)
BATCH_NORM(_scalar_bf16, bf16, 1)
