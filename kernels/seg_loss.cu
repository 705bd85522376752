// Cross-entropy of logits that are bilinearly resized to the size of the labels; the resized logits
// are computed where they are needed. A label of -1 is ignored; where another one is no class, the
// loss and the gradients that its pixel has a share of are NaN.
#include "include/kernel.h"
#include "include/reduce.h"
#include "include/taps.h"

struct SegLossParams {
    u32 images, height, width, classes;  // of the logits
    u32 out_height, out_width;           // of the labels
    u32 columns;                         // classes that a block has side by side
    u32 tiles;                           // blocks that a cell's classes take
    float weight;
};

// The positions that a cell may have a share of.
struct Span {
    u32 begin, end;
};

constexpr int THREADS = 256;
constexpr i32 IGNORED = -1;

// The logits around a pixel.
template <typename T>
struct Corners {
    const T *upper_left, *upper_right, *lower_left, *lower_right;
    float row, column;  // shares of the lower and of the right ones

    DEVICE Corners(const T* logits, u32 image, Tap y, Tap x, const SegLossParams& p)
        : row(y.share), column(x.share) {
        const T* upper = logits + (image * p.height + y.first) * p.width * p.classes;
        const T* lower = upper + (y.first + 1 < p.height ? p.width * p.classes : 0);
        u32 left = x.first * p.classes, right = min(x.first + 1, p.width - 1) * p.classes;
        upper_left = upper + left;
        upper_right = upper + right;
        lower_left = lower + left;
        lower_right = lower + right;
    }

    // The logit of a class.
    DEVICE float at(u32 k) const {
        float upper = blend(column, float(upper_left[k]), float(upper_right[k]));
        float lower = blend(column, float(lower_left[k]), float(lower_right[k]));
        return blend(row, upper, lower);
    }
};

// log Σ exp z of each pixel, and the sum of a block's losses. A thread has a pixel.
template <typename T>
DEVICE void forward(const T* logits, const i32* labels, const Tap* rows, const Tap* columns,
                    float* lse, float* losses, const SegLossParams& p) {
    SHARED(float, shared, THREADS);
    u32 pixel = global_thread(), line = pixel / p.out_width;
    float loss[1] = {0.0f};
    if (line < p.images * p.out_height) {
        Tap row = rows[line % p.out_height], column = columns[pixel % p.out_width];
        Corners<T> z(logits, line / p.out_height, row, column, p);
        float most = -INFINITY, sum = 0.0f;
        for (u32 k = 0; k < p.classes; ++k) most = max(most, z.at(k));
        for (u32 k = 0; k < p.classes; ++k) sum += expf(z.at(k) - most);
        i32 label = labels[pixel];
        bool is_class = u32(label) < p.classes;
        float log_sum = is_class || label == IGNORED ? most + logf(sum) : NAN;
        lse[pixel] = log_sum;
        if (label != IGNORED) loss[0] = log_sum - z.at(is_class ? u32(label) : 0);
    }
    sum_rows<THREADS>(Tile(1), loss, shared);
    if (thread_index().x == 0) losses[block_index().x] = loss[0];
}

// gx = weight · gy · Σ taps · (exp(z − lse) − one-hot label) over the pixels that a cell touches. A
// block has some classes of one cell; its rows of threads share the pixels' rows among them.
template <typename T>
DEVICE void backward(const T* logits, const i32* labels, const Tap* rows, const Tap* columns,
                     const Span* row_spans, const Span* column_spans, const float* lse,
                     const float* gy, T* gx, const SegLossParams& p) {
    SHARED(float, shared, THREADS);
    Tile tile(p.columns);
    u32 cell = block_index().x / p.tiles;
    u32 k = block_index().x % p.tiles * p.columns + tile.column;
    u32 x = cell % p.width, y = cell / p.width % p.height, image = cell / p.width / p.height;
    bool busy = tile.has_place() && k < p.classes;
    Span down = row_spans[y], across = column_spans[x];
    float sum[1] = {0.0f};
    for (u32 v = down.begin + tile.row; busy && v < down.end; v += tile.rows) {
        Tap row = rows[v];
        u32 next = min(row.first + 1, p.height - 1);
        // This row's logits of the cells left of this one, of it, and right of it.
        auto at = [&](u32 column) {
            const T* upper = logits + ((image * p.height + row.first) * p.width + column) * p.classes;
            const T* lower = logits + ((image * p.height + next) * p.width + column) * p.classes;
            return blend(row.share, float(upper[k]), float(lower[k]));
        };
        float left = at(x > 0 ? x - 1 : 0), middle = at(x), right = at(min(x + 1, p.width - 1));
        u32 line = (image * p.out_height + v) * p.out_width;
        float line_sum = 0.0f;
        for (u32 u = across.begin; u < across.end; ++u) {
            i32 label = labels[line + u];
            if (label == IGNORED) continue;
            Tap column = columns[u];
            bool is_first = column.first == x;
            float z = blend(column.share, is_first ? middle : left, is_first ? right : middle);
            float g = expf(z - lse[line + u]) - (u32(label) == k ? 1.0f : 0.0f);
            line_sum += (is_first ? 1.0f - column.share : column.share) * g;
        }
        sum[0] += (row.first == y ? 1.0f - row.share : row.share) * line_sum;
    }
    sum_rows<THREADS>(tile, sum, shared);
    if (busy && tile.row == 0) gx[cell * p.classes + k] = T(sum[0] * gy[0] * p.weight);
}

#define SEG_LOSS(suffix, T)                                                                     \
    KERNEL(seg_loss_forward##suffix, THREADS,                                                   \
           (const T* logits, const i32* labels, const Tap* rows, const Tap* columns, float* lse, \
            float* losses, SegLossParams p)) {                                                  \
        forward(logits, labels, rows, columns, lse, losses, p);                                 \
    }                                                                                           \
    KERNEL(seg_loss_backward##suffix, THREADS,                                                  \
           (const T* logits, const i32* labels, const Tap* rows, const Tap* columns,            \
            const Span* row_spans, const Span* column_spans, const float* lse, const float* gy, \
            T* gx, SegLossParams p)) {                                                          \
        backward(logits, labels, rows, columns, row_spans, column_spans, lse, gy, gx, p);       \
    }

SEG_LOSS(_f32, float)
SEG_LOSS(_bf16, bf16)
