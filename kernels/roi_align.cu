// Regions of feature maps, resampled to one size (src/ops/roi_align). A launch is for one level.
// What a position weighs in a bin has the bits of the native code.
#include "include/kernel.h"
#include "include/exact.h"
#include "include/vector.h"

struct RoiAlignParams {
    u32 rois, size;               // regions, and rows and columns of bins of each
    u32 images, levels, level;
    u32 height, width, channels;  // of the level's map
    float scale;                  // its positions per pixel of an image
    u32 accumulate;               // whether the gradient is added to what is there
};

constexpr int THREADS = 256;
constexpr u32 ROI = 6;               // image, level, x1, y1, x2, y2
constexpr float MOST = 1048576.0f;   // greatest coordinate
constexpr u32 MOST_BINS = 32;        // of an axis, in the gradient's tables
constexpr u32 TILE = 8;              // rows and columns of positions of a block of the gradient
constexpr u32 VECTORS = THREADS / (TILE * TILE);  // of channels that such a block has

DEVICE bool is_whole_below(float x, u32 end) {
    return x >= 0.0f && x < float(end) && floorf(x) == x;
}

// Whether image and level are there, and the coordinates are not too large.
DEVICE bool is_valid(const float* roi, const RoiAlignParams& p) {
    bool valid = is_whole_below(roi[0], p.images) && is_whole_below(roi[1], p.levels);
    UNROLL
    for (u32 i = 2; i < ROI; ++i) valid = valid && roi[i] >= -MOST && roi[i] <= MOST;
    return valid;
}

// One axis of a RoI on a map: its bins, and the samples in each.
struct Axis {
    float start, bin;
    u32 samples, positions;

    DEVICE Axis(float from, float to, float scale, u32 size, u32 positions)
        : start(sub_rn(mul_rn(from, scale), 0.5f)), positions(positions) {
        bin = div_rn(sub_rn(sub_rn(mul_rn(to, scale), 0.5f), start), float(size));
        samples = bin > 0.0f ? u32(ceilf(bin)) : 0;
    }

    // Between position `low` and the next, of which it takes a share, where it is inside.
    struct Sample {
        u32 low;
        float share;
        bool inside;
    };

    DEVICE Sample sample(u32 i, u32 s) const {
        float within = div_rn(mul_rn(float(s) + 0.5f, bin), float(samples));
        float at = add_rn(add_rn(start, mul_rn(float(i), bin)), within);
        if (!(at >= -1.0f && at <= float(positions))) return {0, 0.0f, false};
        at = max(at, 0.0f);
        u32 low = min(u32(at), positions - 1);
        return {low, low + 1 < positions ? sub_rn(at, float(low)) : 0.0f, true};
    }

    // What a position weighs in bin i: only samples near it are looked at.
    DEVICE float weight(u32 i, u32 position) const {
        if (position >= positions) return 0.0f;
        float low = position == 0 ? -1.0f : float(position) - 1.0f;
        float high = position + 1 == positions ? float(positions) : float(position) + 1.0f;
        float begin = start + float(i) * bin, step = bin / float(samples), all = float(samples);
        // Half a sample, and one to spare.
        u32 from = u32(min(max((low - begin) / step - 1.5f, 0.0f), all));
        u32 to = u32(min(max((high - begin) / step + 1.5f, 0.0f), all));
        float sum = 0.0f;
        for (u32 s = from; s < to; ++s) {
            Sample at = sample(i, s);
            if (!at.inside) continue;
            if (at.low == position) sum = add_rn(sum, sub_rn(1.0f, at.share));
            if (at.low + 1 == position) sum = add_rn(sum, at.share);
        }
        return div_rn(sum, all);
    }

    // Whether bins reach positions from `first` on, of a tile. It may say so of one too many.
    DEVICE bool reaches(u32 first, u32 size) const {
        float end = start + float(size) * bin;
        return samples > 0 && start - 1.5f <= float(first + TILE - 1) && end + 1.5f >= float(first);
    }
};

// y of RoIs of the level, and NaN for those that are not valid: a thread has a vector of a bin.
template <int N, typename T>
DEVICE void forward(const T* x, const float* rois, T* y, const RoiAlignParams& p) {
    u32 vectors = p.channels / N;
    u32 bin = global_thread() / vectors, channel = global_thread() % vectors * N;
    u32 column = bin % p.size, row = bin / p.size % p.size, r = bin / p.size / p.size;
    if (r >= p.rois) return;
    const float* roi = rois + r * ROI;
    bool valid = is_valid(roi, p);
    if (valid ? u32(roi[1]) != p.level : p.level > 0) return;
    Values<N> sum;
    UNROLL
    for (int i = 0; i < N; ++i) sum[i] = valid ? 0.0f : NAN;
    if (valid) {
        Axis rows(roi[3], roi[5], p.scale, p.size, p.height);
        Axis columns(roi[2], roi[4], p.scale, p.size, p.width);
        x += u32(roi[0]) * p.height * p.width * p.channels + channel;
        auto add = [&](u32 at_row, u32 at_column, float weight) {
            if (weight == 0.0f) return;
            Values<N> v = load<N>(x + (at_row * p.width + at_column) * p.channels);
            UNROLL
            for (int i = 0; i < N; ++i) sum[i] += weight * v[i];
        };
        for (u32 s = 0; s < rows.samples; ++s) {
            Axis::Sample a = rows.sample(row, s);
            for (u32 t = 0; a.inside && t < columns.samples; ++t) {
                Axis::Sample b = columns.sample(column, t);
                if (!b.inside) continue;
                add(a.low, b.low, (1.0f - a.share) * (1.0f - b.share));
                add(a.low, b.low + 1, (1.0f - a.share) * b.share);
                add(a.low + 1, b.low, a.share * (1.0f - b.share));
                add(a.low + 1, b.low + 1, a.share * b.share);
            }
        }
        float count = max(float(rows.samples) * float(columns.samples), 1.0f);
        UNROLL
        for (int i = 0; i < N; ++i) sum[i] /= count;
    }
    store<N>(y + bin * p.channels + channel, sum);
}

// The first RoI of each image and level, and behind them the number of all: a thread has one.
KERNEL(roi_align_starts, 256, (const float* rois, i32* starts, RoiAlignParams p)) {
    u32 group = global_thread();
    if (group > p.images * p.levels) return;
    u32 low = 0, high = p.rois;
    while (low < high) {
        u32 middle = (low + high) / 2;
        const float* roi = rois + middle * ROI;
        bool before = roi[0] * float(p.levels) + roi[1] < float(group);
        low = before ? middle + 1 : low;
        high = before ? high : middle;
    }
    starts[group] = i32(group == p.images * p.levels ? p.rois : low);
}

// gx = Σ over the RoIs of the image and level, in order. A block has a tile of positions and some
// channels. It looks at as many RoIs as it has threads at a time, and goes through those that
// reach the tile: of each it makes a table of what the tile's rows and columns weigh in the bins.
template <int N, typename T>
DEVICE void backward(const float* rois, const i32* starts, const T* gy, T* gx,
                     const RoiAlignParams& p) {
    SHARED(u8, hits, THREADS);
    SHARED(float, table, 2 * TILE * MOST_BINS);
    u32 thread = thread_index().x, place = thread / VECTORS;
    u32 row = place / TILE, column = place % TILE;
    u32 channel = (block_index().y * VECTORS + thread % VECTORS) * N;
    u32 tile_columns = (p.width + TILE - 1) / TILE, tile_rows = (p.height + TILE - 1) / TILE;
    u32 tile = block_index().x, first_column = tile % tile_columns * TILE;
    u32 first_row = tile / tile_columns % tile_rows * TILE;
    u32 image = tile / tile_columns / tile_rows;
    bool busy = first_row + row < p.height && first_column + column < p.width &&
                channel < p.channels;
    u32 group = image * p.levels + p.level;
    u32 begin = u32(starts[group]), end = u32(starts[group + 1]);

    Values<N> sum;
    UNROLL
    for (int i = 0; i < N; ++i) sum[i] = 0.0f;
    for (u32 from = begin; from < end; from += THREADS) {
        bool hit = false;
        if (from + thread < end) {
            const float* roi = rois + (from + thread) * ROI;
            hit = is_valid(roi, p) && u32(roi[0]) == image && u32(roi[1]) == p.level &&
                  Axis(roi[3], roi[5], p.scale, p.size, p.height).reaches(first_row, p.size) &&
                  Axis(roi[2], roi[4], p.scale, p.size, p.width).reaches(first_column, p.size);
        }
        hits[thread] = hit;
        barrier();
        for (u32 at = 0; at < THREADS; ++at) {
            // Most do not reach it: four are passed over at once.
            if (at % 4 == 0 && bit_cast<u32>(load_vec<4>(hits + at)) == 0) {
                at += 3;
                continue;
            }
            if (!hits[at]) continue;
            const float* roi = rois + (from + at) * ROI;
            Axis rows(roi[3], roi[5], p.scale, p.size, p.height);
            Axis columns(roi[2], roi[4], p.scale, p.size, p.width);
            for (u32 e = thread; e < 2 * TILE * p.size; e += THREADS) {
                u32 bin = e % p.size, line = e / p.size;
                table[e] = line < TILE ? rows.weight(bin, first_row + line)
                                       : columns.weight(bin, first_column + line - TILE);
            }
            barrier();
            const T* g = gy + (from + at) * p.size * p.size * p.channels + channel;
            for (u32 i = 0; busy && i < p.size; ++i) {
                float a = table[row * p.size + i];
                if (a == 0.0f) continue;
                for (u32 j = 0; j < p.size; ++j) {
                    float b = table[(TILE + column) * p.size + j];
                    if (b == 0.0f) continue;
                    Values<N> v = load<N>(g + (i * p.size + j) * p.channels);
                    UNROLL
                    for (int k = 0; k < N; ++k) sum[k] += a * b * v[k];
                }
            }
            barrier();
        }
        barrier();
    }
    if (!busy) return;
    gx += ((image * p.height + first_row + row) * p.width + first_column + column) * p.channels;
    if (p.accumulate) {
        Values<N> before = load<N>(gx + channel);
        UNROLL
        for (int i = 0; i < N; ++i) sum[i] += before[i];
    }
    store<N>(gx + channel, sum);
}

#define ROI_ALIGN(suffix, T, N)                                                                \
    KERNEL(roi_align_forward##suffix, 256,                                                     \
           (const T* x, const float* rois, T* y, RoiAlignParams p)) {                          \
        forward<N>(x, rois, y, p);                                                             \
    }                                                                                          \
    KERNEL(roi_align_backward##suffix, THREADS,                                                \
           (const float* rois, const i32* starts, const T* gy, T* gx, RoiAlignParams p)) {     \
        backward<N>(rois, starts, gy, gx, p);                                                  \
    }

ROI_ALIGN(_f32, float, VECTOR<float>)
ROI_ALIGN(_bf16, bf16, VECTOR<bf16>)
ROI_ALIGN(_scalar_f32, float, 1)
ROI_ALIGN(_scalar_bf16, bf16, 1)
