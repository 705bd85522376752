// Convolution as matrix products whose operands are gathered on the way to shared memory:
//
//   fprop   y[pixel, o]      = Σ over (tap, i)   x[window of pixel, i] · w[o, tap, i] (+ bias)
//   dgrad   gx[pixel, i]     = Σ over (tap, o)   gy[window of pixel, o] · w[o, tap, i] (+ bias)
//   wgrad   gw[o, (tap, i)] += Σ over pixels     gy[pixel, o] · x[window of pixel, i]
//
// Activations are N×H×W×C. The weight is stored for more channels than are active, and is read
// where it lies. wgrad splits the pixels among blocks, whose sums another kernel adds in order.
// Where channels are whole vectors, operands come by asynchronous copies of 16 bytes; the
// `scalar` variants take any number of channels, element by element.
#include "include/kernel.h"
#include "include/gemm.h"
#include "include/window.h"

// Starts to load a vector, or an element, into shared memory; zeros where there is none.
template <bool VECTORS, typename T>
DEVICE void load_async(T* to, const T* from, bool is_there) {
    if constexpr (VECTORS) {
        copy_async<16>(to, from, is_there ? 16 : 0);
    } else {
        *to = is_there ? *from : T(0.0f);
    }
}

// How the threads of a block share what a tile holds of an operand: pieces of `WIDTH` elements,
// `PER_ROW` of them in a row, so that neighbours have neighbours.
template <typename P, typename Shape, typename T, bool VECTORS>
struct ThreadTile {
    static constexpr u32 WIDTH = VECTORS ? VECTOR<T> : 1;
    static constexpr u32 PER_ROW = Shape::COLUMNS / WIDTH;
    static constexpr u32 PIECES = (Shape::ROWS * PER_ROW + P::THREADS - 1) / P::THREADS;
    // Where a thread stays in its column: rows from one piece to the next.
    static constexpr u32 STEP = P::THREADS / PER_ROW;
    static constexpr bool IS_EVEN = P::THREADS % PER_ROW == 0;

    DEVICE static u32 row() { return thread_index().x / PER_ROW; }
    DEVICE static u32 column() { return thread_index().x % PER_ROW * WIDTH; }
};

// Reads sums of a row. Of eight lanes with 32 bytes each, four begin with the second half: so
// they read all banks at once.
template <int N>
DEVICE Values<N> load_sums(const float* from) {
    if constexpr (N == 8) {
        bool turned = lane() / 4 % 2 == 1;
        Values<4> x = load<4>(from + (turned ? 4 : 0)), y = load<4>(from + (turned ? 0 : 4));
        Values<8> sums;
        UNROLL
        for (int i = 0; i < 8; ++i) sums[i] = (i < 4) != turned ? x[i % 4] : y[i % 4];
        return sums;
    } else {
        return load<N>(from);
    }
}

// Adds bias and what is there to a block's sums and writes them: rows to where `to(row)` says,
// columns from `first` of `columns`.
template <typename P, bool VECTORS, typename T, typename To>
DEVICE void write(const float* tile, u32 first, u32 columns, const float* bias,
                  bool accumulate, T* y, To to) {
    constexpr u32 V = VECTORS ? VECTOR<T> : 1, CHUNKS = P::N / V;
    for (u32 at = thread_index().x; at < u32(P::M) * CHUNKS; at += P::THREADS) {
        u32 row = at / CHUNKS, in_tile = at % CHUNKS * V, column = first + in_tile;
        u32 start = to(row);
        if (start == NOWHERE || column >= columns) continue;
        Values<V> sum = load_sums<V>(tile + row * P::SUMS_STRIDE + in_tile);
        if (bias) {
            Values<V> b = load<V>(bias + column);
            UNROLL
            for (u32 i = 0; i < V; ++i) sum[i] += b[i];
        }
        if (accumulate) {
            Values<V> before = load<V>(y + start + column);
            UNROLL
            for (u32 i = 0; i < V; ++i) sum[i] += before[i];
        }
        store<V>(y + start + column, sum);
    }
}

// The tile of pixels × channels that a block has, the tiles of the same pixels side by side;
// and, in shared memory, its pixels.
template <typename P>
struct Block {
    u32 first_pixel, first_channel;

    DEVICE explicit Block(u32 channels) {
        u32 column_tiles = (channels + P::N - 1) / P::N;
        first_pixel = block_index().x / column_tiles * P::M;
        first_channel = block_index().x % column_tiles * P::N;
    }

    DEVICE void fill(Pixel* pixels, const Window& window, u32 images) const {
        for (u32 i = thread_index().x; i < u32(P::M); i += P::THREADS) {
            pixels[i] = window.pixel(first_pixel + i, images);
        }
        barrier();
    }
};

// The gathered operand, whose rows are the pixels' windows.
template <typename P, typename T, bool VECTORS>
struct Gather {
    using Rows = ThreadTile<P, typename P::A, T, VECTORS>;
    static_assert(Rows::IS_EVEN, "a thread stays at its position in the slice");
    // With vectors a thread has few pixels, and keeps them.
    static constexpr u32 KEPT = VECTORS ? Rows::PIECES : 1;
    const Pixel* pixels;
    i32 base[KEPT];
    Position position[KEPT];

    DEVICE explicit Gather(const Pixel* of_block) : pixels(of_block + Rows::row()) {
        UNROLL
        for (u32 e = 0; e < KEPT; ++e) {
            base[e] = pixels[e * Rows::STEP].base;
            position[e] = pixels[e * Rows::STEP].position;
        }
    }

    DEVICE void load(T* a, const T* src, const Window& window, const Tap& tap, bool is_there) {
        i32 offset = window.source(tap);
        T* to = a + Rows::row() * P::A::STRIDE + Rows::column();
        UNROLL
        for (u32 e = 0; e < Rows::PIECES; ++e) {
            const Pixel& pixel = pixels[e * Rows::STEP];
            Position at = VECTORS ? position[e % KEPT] : pixel.position;
            i32 from = VECTORS ? base[e % KEPT] : pixel.base;
            load_async<VECTORS>(to + e * Rows::STEP * P::A::STRIDE, src + (from + offset),
                                is_there && window.is_inside(at, tap));
        }
    }
};

template <typename T, int N, bool VECTORS>
DEVICE void fprop(const T* x, const T* w, const float* bias, T* y, const Conv2dParams& p) {
    using P = Product<T, 128, N, Along::DEPTH, Along::DEPTH>;
    SHARED(Pixel, pixels, P::M);
    Window window = fprop_window(p);
    Block<P> block(p.cout);
    block.fill(pixels, window, p.n);
    Gather<P, T, VECTORS> gather(pixels);
    using Filters = ThreadTile<P, typename P::B, T, VECTORS>;
    P product;
    u32 depth = window.depth();
    float* tile = product.run(depth, [&](T* a, T* b, u32 from) {
        u32 at = from + Filters::column();
        Tap tap = window.tap(at);
        gather.load(a, x, window, tap, at < depth);
        i32 matrix = window.weight(tap) + i32(tap.channel);
        UNROLL
        for (u32 e = 0; e < Filters::PIECES; ++e) {
            u32 o = Filters::row() + e * Filters::STEP, filter = block.first_channel + o;
            if (o >= u32(N)) break;
            load_async<VECTORS>(b + o * P::B::STRIDE + Filters::column(),
                                w + (i32(filter * p.filter_stride()) + matrix),
                                at < depth && filter < p.cout);
        }
    });
    auto to = [&](u32 row) { return pixels[row].to; };
    if (p.wide) {
        write<P, VECTORS>(tile, block.first_channel, p.cout, bias, p.accumulate != 0,
                          reinterpret_cast<float*>(y), to);
    } else {
        write<P, VECTORS>(tile, block.first_channel, p.cout, bias, p.accumulate != 0, y, to);
    }
}

template <typename T, int N, bool VECTORS>
DEVICE void dgrad(const T* gy, const T* w, const float* bias, T* gx, const Conv2dParams& p) {
    using P = Product<T, 128, N, Along::DEPTH, Along::SIDE>;
    SHARED(Pixel, pixels, P::M);
    u32 phase = block_index().z;
    Window window = dgrad_window(p, phase / p.stride, phase % p.stride);
    Block<P> block(p.cin);
    // Classes differ in size; the grid is for the largest.
    if (block.first_pixel >= p.n * window.rows * window.columns) return;
    block.fill(pixels, window, p.n);
    Gather<P, T, VECTORS> gather(pixels);
    using Channels = ThreadTile<P, typename P::B, T, VECTORS>;
    P product;
    u32 depth = window.depth();
    float* tile = product.run(depth, [&](T* a, T* b, u32 from) {
        u32 at = from + Gather<P, T, VECTORS>::Rows::column();
        gather.load(a, gy, window, window.tap(at), at < depth);
        UNROLL
        for (u32 e = 0; e < Channels::PIECES; ++e) {
            u32 piece = thread_index().x + e * P::THREADS;
            u32 deep = piece / Channels::PER_ROW;
            u32 column = piece % Channels::PER_ROW * Channels::WIDTH;
            if (deep >= u32(P::B::ROWS)) break;
            Tap tap = window.tap(from + deep);
            i32 filter = i32(tap.channel * p.filter_stride()) + window.weight(tap);
            u32 channel = block.first_channel + column;
            load_async<VECTORS>(b + deep * P::B::STRIDE + column, w + (filter + i32(channel)),
                                from + deep < depth && channel < p.cin);
        }
    });
    write<P, VECTORS>(tile, block.first_channel, p.cin, bias, p.accumulate != 0, gx,
                      [&](u32 row) { return pixels[row].to; });
}

// Sums over `split_pixels` of the pixels, for each of the splits: cout × (taps × cin).
template <typename T, int M, int N, bool VECTORS>
DEVICE void wgrad(const T* x, const T* gy, float* sums, const Conv2dParams& p) {
    using P = Product<T, M, N, Along::SIDE, Along::SIDE>;
    Window window = fprop_window(p);
    u32 columns = window.depth(), column_tiles = (columns + N - 1) / N;
    u32 first_row = block_index().x / column_tiles * M;
    u32 first_column = block_index().x % column_tiles * N;
    u32 begin = block_index().z * p.split_pixels;
    u32 end = min(begin + p.split_pixels, p.n * p.p * p.q);

    using Rows = ThreadTile<P, typename P::A, T, VECTORS>;
    using Columns = ThreadTile<P, typename P::B, T, VECTORS>;
    static_assert(Rows::IS_EVEN && Columns::IS_EVEN, "a thread's channels stay the same");
    u32 row = first_row + Rows::column(), column = first_column + Columns::column();
    Tap tap = window.tap(column);
    i32 source = window.source(tap);

    P product;
    float* tile = product.run(end - begin, [&](T* a, T* b, u32 from) {
        UNROLL
        for (u32 e = 0; e < Rows::PIECES; ++e) {
            u32 deep = Rows::row() + e * Rows::STEP, pixel = begin + from + deep;
            load_async<VECTORS>(a + deep * P::A::STRIDE + Rows::column(),
                                gy + (pixel * p.cout + row), pixel < end && row < p.cout);
        }
        UNROLL
        for (u32 e = 0; e < Columns::PIECES; ++e) {
            u32 deep = Columns::row() + e * Columns::STEP, pixel = begin + from + deep;
            u32 image = p.by_positions.quotient(pixel);
            u32 position = pixel - image * p.p * p.q, line = p.by_columns.quotient(position);
            i32 y = i32(line) * window.step + window.first_row;
            i32 left = i32(position - line * p.q) * window.step + window.first_column;
            i32 base = ((i32(image) * window.h + y) * window.w + left) * window.channels;
            load_async<VECTORS>(b + deep * P::B::STRIDE + Columns::column(), x + (base + source),
                                pixel < end && column < columns && window.is_inside(y, left, tap));
        }
    });
    sums += block_index().z * p.cout * columns;
    write<P, VECTORS>(tile, first_column, columns, nullptr, false, sums, [&](u32 row) {
        row += first_row;
        return row < p.cout ? row * columns : NOWHERE;
    });
}

// Adds the splits' sums, in order, to the active part of the weight's gradient. A thread has N
// of the sums.
template <int N>
DEVICE void wgrad_sum(const float* sums, float* gw, const Conv2dParams& p) {
    u32 columns = p.kernel * p.kernel * p.cin, elems = p.cout * columns;
    u32 at = global_thread() * N;
    if (at >= elems) return;
    Values<N> total = load<N>(sums + at);
    for (u32 split = 1; split < p.splits; ++split) {
        Values<N> sum = load<N>(sums + split * elems + at);
        UNROLL
        for (int i = 0; i < N; ++i) total[i] += sum[i];
    }
    u32 tap = at / p.cin, channel = at % p.cin;
    // Taps of all filters follow each other, cin_max apart.
    float* to = gw + (tap * p.cin_max + channel);
    Values<N> before = load<N>(to);
    UNROLL
    for (int i = 0; i < N; ++i) total[i] += before[i];
    store<N>(to, total);
}

// A kernel's threads are a number, which the table of kernels can read.
#define CONV2D(variant, threads, T, N, VECTORS)                                                  \
    KERNEL(conv2d_fprop_##variant, threads,                                                      \
           (const T* x, const T* w, const float* bias, T* y, Conv2dParams p)) {                  \
        static_assert(Product<T, 128, N, Along::DEPTH, Along::DEPTH>::THREADS == threads, "");   \
        fprop<T, N, VECTORS>(x, w, bias, y, p);                                                  \
    }                                                                                            \
    KERNEL(conv2d_dgrad_##variant, threads,                                                      \
           (const T* gy, const T* w, const float* bias, T* gx, Conv2dParams p)) {                \
        static_assert(Product<T, 128, N, Along::DEPTH, Along::SIDE>::THREADS == threads, "");    \
        dgrad<T, N, VECTORS>(gy, w, bias, gx, p);                                                \
    }

#define CONV2D_WGRAD(variant, threads, T, M, N, VECTORS)                                         \
    KERNEL(conv2d_wgrad_##variant, threads,                                                      \
           (const T* x, const T* gy, float* sums, Conv2dParams p)) {                             \
        static_assert(Product<T, M, N, Along::SIDE, Along::SIDE>::THREADS == threads, "");       \
        wgrad<T, M, N, VECTORS>(x, gy, sums, p);                                                 \
    }

CONV2D(n64_f32, 128, float, 64, true)
CONV2D(scalar_f32, 128, float, 64, false)
CONV2D_WGRAD(m128_f32, 128, float, 128, 64, true)
CONV2D_WGRAD(scalar_f32, 128, float, 128, 64, false)
CONV2D(n128_bf16, 256, bf16, 128, true)
CONV2D(n96_bf16, 256, bf16, 96, true)
CONV2D(n80_bf16, 256, bf16, 80, true)
CONV2D(n64_bf16, 256, bf16, 64, true)
CONV2D(n48_bf16, 256, bf16, 48, true)
CONV2D(n32_bf16, 256, bf16, 32, true)
CONV2D(scalar_bf16, 256, bf16, 64, false)
CONV2D_WGRAD(m128_bf16, 256, bf16, 128, 128, true)
CONV2D_WGRAD(m64_bf16, 256, bf16, 64, 128, true)
CONV2D_WGRAD(scalar_bf16, 256, bf16, 64, 128, false)

KERNEL(conv2d_wgrad_sum_f32, 256, (const float* sums, float* gw, Conv2dParams p)) {
    wgrad_sum<4>(sums, gw, p);
}
KERNEL(conv2d_wgrad_sum_scalar_f32, 256, (const float* sums, float* gw, Conv2dParams p)) {
    wgrad_sum<1>(sums, gw, p);
}
