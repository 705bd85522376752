// What a convolution's products read: fprop and dgrad both gather, for each pixel of their
// result, the pixels of a source that a window over it covers. dgrad of stride s gathers once
// for each of the s² classes of input pixels, which see different taps of the filter, so that
// no zeros are multiplied: with dilation d every (s / gcd(d, s))-th tap, or none.
#pragma once

#include "divide.h"
#include "kernel.h"

struct Conv2dParams {
    u32 n, h, w, cin;        // input: n·h·w pixels
    u32 p, q, cout;          // output: n·p·q pixels
    u32 cin_max;             // stored input channels of the weight
    u32 kernel, stride, pad, dilation;
    u32 common;              // greatest common divisor of dilation and stride
    u32 inverse;             // of dilation / common, modulo stride / common
    u32 accumulate;          // whether the result is added to what is there
    u32 wide;                // fprop: whether it is f32 though the operands are narrow
    u32 split_pixels;        // wgrad: output pixels that a block sums over
    u32 splits;              // wgrad: how many times
    Divisor by_channels;     // cin; dgrad: cout
    Divisor by_positions;    // p·q
    Divisor by_columns;      // q

    DEVICE u32 filter_stride() const { return kernel * kernel * cin_max; }
};

// Two numbers of 16 bits in one register: a place in an image.
struct Position {
    i32 packed;

    DEVICE static Position of(i32 row, i32 column) {
        return {i32(u32(row) << 16 | (u32(column) & 0xffff))};
    }
    // So far outside that no tap is inside.
    DEVICE static Position nowhere() { return of(-16384, 0); }
    DEVICE i32 row() const { return packed >> 16; }
    DEVICE i32 column() const { return i32(u32(packed) << 16) >> 16; }
};

// One place in the depth of a product: a tap of the window and a channel of the source.
struct Tap {
    i32 row, column;
    u32 channel;
};

// One row of a product: a pixel of the result.
struct Pixel {
    i32 base;           // where the window's first tap lies in the source, in elements
    Position position;  // the same in its image
    u32 to;             // where the result goes, or NOWHERE
};
constexpr u32 NOWHERE = 0xffffffff;

struct Window {
    i32 h, w, channels;                  // of the source
    Divisor by_channels;
    u32 rows, columns;                   // of the result: an image's pixels of this class
    i32 step, first_row, first_column;   // where their windows start in the source
    u32 tap_rows, tap_columns;
    i32 tap_step;                        // source pixels from one tap to the next
    u32 inverse;                         // of tap_columns, times 2^16
    i32 matrix, row_stride, column_stride;  // of the taps' matrices in the weight
    u32 to_h, to_w, to_channels;         // of the tensor that the result is part of
    u32 to_row, to_column, to_step;

    DEVICE u32 depth() const { return tap_rows * tap_columns * u32(channels); }

    DEVICE Tap tap(u32 at) const {
        u32 tap = by_channels.quotient(at);
        // Exact for up to 40 × 40 taps.
        u32 row = tap * inverse >> 16;
        return {i32(row), i32(tap - row * tap_columns), at - tap * u32(channels)};
    }
    // From a pixel's base to the tap's element of the source.
    DEVICE i32 source(const Tap& t) const {
        return (t.row * w + t.column) * tap_step * channels + i32(t.channel);
    }
    DEVICE bool is_inside(i32 row, i32 column, const Tap& t) const {
        return u32(row + t.row * tap_step) < u32(h) && u32(column + t.column * tap_step) < u32(w);
    }
    DEVICE bool is_inside(Position at, const Tap& t) const {
        return is_inside(at.row(), at.column(), t);
    }
    // Where the tap's matrix, output × input channels, starts in the weight.
    DEVICE i32 weight(const Tap& t) const {
        return matrix + t.row * row_stride + t.column * column_stride;
    }

    DEVICE Pixel pixel(u32 index, u32 images) const {
        u32 row = index / columns, column = index % columns;
        u32 image = row / rows;
        row %= rows;
        if (image >= images) return {0, Position::nowhere(), NOWHERE};
        i32 y = i32(row) * step + first_row, x = i32(column) * step + first_column;
        u32 to = (image * to_h + to_row + row * to_step) * to_w + to_column + column * to_step;
        return {((i32(image) * h + y) * w + x) * channels, Position::of(y, x), to * to_channels};
    }
};

DEVICE u32 inverse_of(u32 n) { return 65535 / max(n, 1u) + 1; }

// What the output's pixels see of the input.
DEVICE Window fprop_window(const Conv2dParams& p) {
    i32 pad = i32(p.pad), cin_max = i32(p.cin_max), kernel = i32(p.kernel);
    return {i32(p.h), i32(p.w), i32(p.cin), p.by_channels,
            p.p, p.q, i32(p.stride), -pad, -pad,
            p.kernel, p.kernel, i32(p.dilation), inverse_of(p.kernel),
            0, kernel * cin_max, cin_max,
            p.p, p.q, p.cout, 0, 0, 1};
}

// One dimension of a class: input row h meets filter row r in output row
// (h + pad − dilation · r) / stride where that is whole: of every `period` filter rows in one or
// in none. Taps are in the order of the output rows: filter rows go down from `last`.
struct Phase {
    u32 count;   // of input rows
    u32 period;
    u32 taps;
    i32 first;   // output row of the first tap for the first input row
    i32 last;    // filter row of the first tap

    DEVICE Phase(u32 phase, u32 size, const Conv2dParams& p)
        : count(size > phase ? (size - phase + p.stride - 1) / p.stride : 0),
          period(p.stride / p.common) {
        u32 at = phase + p.pad, rest = at / p.common % period * p.inverse % period;
        bool meets = at % p.common == 0 && rest < p.kernel;
        taps = meets ? (p.kernel - 1 - rest) / period + 1 : 0;
        last = meets ? i32(rest + (taps - 1) * period) : 0;
        first = (i32(at) - i32(p.dilation) * last) / i32(p.stride);
    }
};

// What the input's pixels of class (`row`, `column`) see of the output's gradient.
DEVICE Window dgrad_window(const Conv2dParams& p, u32 row, u32 column) {
    Phase y(row, p.h, p), x(column, p.w, p);
    i32 cin_max = i32(p.cin_max), kernel = i32(p.kernel), period = i32(y.period);
    return {i32(p.p), i32(p.q), i32(p.cout), p.by_channels,
            y.count, x.count, 1, y.first, x.first,
            y.taps, x.taps, i32(p.dilation / p.common), inverse_of(x.taps),
            (y.last * kernel + x.last) * cin_max, -period * kernel * cin_max, -period * cin_max,
            p.h, p.w, p.cin, row, column, p.stride};
}
