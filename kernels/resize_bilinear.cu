// Bilinear resizing of feature maps.
#include "include/kernel.h"
#include "include/taps.h"
#include "include/vector.h"

struct ResizeBilinearParams {
    u32 images, height, width, channels;  // of x
    u32 out_height, out_width;
};

// A thread has a vector of channels of one pixel of y.
template <int N, typename T>
DEVICE void resize(const T* x, const Tap* rows, const Tap* columns, T* y,
                   const ResizeBilinearParams& p) {
    u32 vectors = p.channels / N;
    u32 pixel = global_thread() / vectors;
    u32 image = pixel / p.out_width / p.out_height;
    if (image >= p.images) return;
    Tap row = rows[pixel / p.out_width % p.out_height], column = columns[pixel % p.out_width];
    u32 next_row = min(row.first + 1, p.height - 1);
    u32 next_column = min(column.first + 1, p.width - 1);
    x += image * p.height * p.width * p.channels + global_thread() % vectors * N;
    auto at = [&](u32 row, u32 column) {
        return load<N>(x + (row * p.width + column) * p.channels);
    };
    Values<N> a = at(row.first, column.first), b = at(row.first, next_column);
    Values<N> c = at(next_row, column.first), d = at(next_row, next_column);
    Values<N> v;
    UNROLL
    for (int i = 0; i < N; ++i) {
        v[i] = blend(row.share, blend(column.share, a[i], b[i]), blend(column.share, c[i], d[i]));
    }
    store<N>(y + global_thread() * N, v);
}

#define RESIZE_BILINEAR(suffix, T, N)                                                       \
    KERNEL(resize_bilinear##suffix, 256,                                                    \
           (const T* x, const Tap* rows, const Tap* columns, T* y, ResizeBilinearParams p)) { \
        resize<N>(x, rows, columns, y, p);                                                  \
    }

RESIZE_BILINEAR(_f32, float, VECTOR<float>)
RESIZE_BILINEAR(_bf16, bf16, VECTOR<bf16>)
RESIZE_BILINEAR(_scalar_f32, float, 1)
RESIZE_BILINEAR(_scalar_bf16, bf16, 1)
