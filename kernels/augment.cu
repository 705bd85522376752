// Views of decoded images: what src/data/augment/cpu.rs does to one image, for a whole
// batch in one launch. Values stay 8-bit between the steps and every step rounds as there, so
// that the views are the same bits. The parameters of each view are drawn on the host.
//
// A block makes one view after another. It keeps the view's pixels between the steps, twice,
// in shared memory where they fit, else in global memory of its own, which stays in the cache.
// Nothing of the image is kept: a pixel of the view is summed over its window of the image
// at once, so images may be of any size.
#include "include/kernel.h"
#include "include/exact.h"
#include "include/reduce.h"

constexpr u32 AUGMENT_THREADS = 512;

// What an entry of `adjust` does.
enum : u32 { KEEP = 0, BRIGHTNESS = 1, CONTRAST = 2, SATURATION = 3, HUE = 4 };
// Filters.
enum : u32 { BILINEAR = 0, BICUBIC = 1 };

// One view.
struct View {
    u64 image;  // where its image begins among the bytes of all
    u32 width;    // of its image
    u32 crop_x, crop_y, crop_width, crop_height;
    u32 filter;
    u32 weights;      // where its filter weights begin among those of all views
    u32 taps_across;  // most inputs of an output along a row
    u32 adjust[4];
    float factors[4];
    u32 grey;
    u32 solarise;     // threshold; 256: not at all
    u32 flip;
    u32 blur_reach;   // of the box filter
    u32 blur_centre;  // its weights in 1/2^24; 0: no blur
    u32 blur_edge;
};

struct AugmentParams {
    u32 views;
    u32 side;
    u32 channels;  // 3, or 4 of which the last is 0
    u32 in_shared;  // whether the pixels are kept in shared memory
    float scale[3];
    float shift[3];
};

// A pixel of 8 bits a channel, the last of four unused.
struct Pixel {
    float r, g, b;
};

DEVICE Pixel unpack(u32 p) {
    return {float(p & 255), float(p >> 8 & 255), float(p >> 16 & 255)};
}

// The part before the point, held to 0..=255.
DEVICE u32 to_u8(float x) { return u32(min(max(x, 0.0f), 255.0f)); }

DEVICE u32 pack(Pixel p) { return to_u8(p.r) | to_u8(p.g) << 8 | to_u8(p.b) << 16; }

// Along one axis: which inputs an output is summed over.
struct Axis {
    u32 filter;
    u32 input;
    double scale;
    double stretch;

    DEVICE Axis(u32 filter, u32 input, u32 output) : filter(filter), input(input) {
        scale = div_rn(double(input), double(output));
        stretch = max(scale, 1.0);
    }

    DEVICE double centre(u32 output) const { return mul_rn(output + 0.5, scale); }

    // First input and number of inputs of an output.
    DEVICE void window(u32 output, u32& first, u32& count) const {
        double support = mul_rn(filter == BILINEAR ? 1.0 : 2.0, stretch);
        double low = add_rn(sub_rn(centre(output), support), 0.5);
        double high = add_rn(add_rn(centre(output), support), 0.5);
        first = min(low > 0.0 ? u32(low) : 0, input - 1);
        count = min(max(u32(high), first + 1), input) - first;
    }

    // Weight of input `x`, before all are scaled to add up to 1.
    DEVICE double weight(u32 output, u32 x) const {
        double d = div_rn(add_rn(sub_rn(double(x), centre(output)), 0.5), stretch);
        d = d < 0.0 ? -d : d;
        if (filter == BILINEAR) return max(sub_rn(1.0, d), 0.0);
        if (d < 1.0) return add_rn(mul_rn(mul_rn(sub_rn(mul_rn(1.5, d), 2.5), d), d), 1.0);
        if (d < 2.0) return mul_rn(sub_rn(mul_rn(add_rn(mul_rn(sub_rn(d, 5.0), d), 8.0), d), 4.0), -0.5);
        return 0.0;
    }
};

// What the sums of one view need: for output i along an axis the window and its weights, of
// which those of one tap lie side by side.
struct Windows {
    u32* first;
    u32* count;
    float* weights;
};

DEVICE void plan_output(const Axis& axis, const Windows& to, u32 side, u32 i) {
    u32 first, count;
    axis.window(i, first, count);
    to.first[i] = first;
    to.count[i] = count;
    double sum = 0.0;
    NO_UNROLL
    for (u32 k = 0; k < count; ++k) sum = add_rn(sum, axis.weight(i, first + k));
    NO_UNROLL
    for (u32 k = 0; k < count; ++k) {
        to.weights[k * side + i] = float(div_rn(axis.weight(i, first + k), sum));
    }
}

DEVICE float weigh(float sum, float weight, float value) {
    return add_rn(sum, mul_rn(weight, value));
}

// The resized pixel at (x, y) of the view: along the rows, rounded, then along the column.
DEVICE Pixel resize(const u8* image, const View& v, const Windows& horizontal,
                    const Windows& vertical, u32 side, u32 x, u32 y) {
    u32 columns = horizontal.count[x], rows = vertical.count[y];
    u64 left = v.crop_x + horizontal.first[x], top = v.crop_y + vertical.first[y];
    Pixel sum = {0.5f, 0.5f, 0.5f};
    for (u32 j = 0; j < rows; ++j) {
        const u8* at = image + 3 * ((top + j) * v.width + left);
        Pixel row = {0.5f, 0.5f, 0.5f};
        for (u32 k = 0; k < columns; ++k, at += 3) {
            float weight = horizontal.weights[k * side + x];
            row.r = weigh(row.r, weight, at[0]);
            row.g = weigh(row.g, weight, at[1]);
            row.b = weigh(row.b, weight, at[2]);
        }
        float weight = vertical.weights[j * side + y];
        sum.r = weigh(sum.r, weight, float(to_u8(row.r)));
        sum.g = weigh(sum.g, weight, float(to_u8(row.g)));
        sum.b = weigh(sum.b, weight, float(to_u8(row.b)));
    }
    return unpack(pack(sum));
}

// The part before the point of a number that is at least 0.
DEVICE float whole(float x) { return float(i32(x)); }

// PIL's grey, ITU-R 601 in 16-bit fixed point; all sums are exact.
DEVICE float grey_of(Pixel p) {
    float sum = add_rn(add_rn(mul_rn(19595.0f, p.r), mul_rn(38470.0f, p.g)),
                       add_rn(mul_rn(7471.0f, p.b), 32768.0f));
    return whole(sum * (1.0f / 65536.0f));
}

// From `with` towards `v`, beyond it where `factor` is above 1.
DEVICE float mix(float with, float v, float factor) {
    float mixed = add_rn(with, mul_rn(factor, sub_rn(v, with)));
    return whole(min(max(mixed, 0.0f), 255.0f));
}

DEVICE Pixel blend(Pixel p, float with, float factor) {
    return {mix(with, p.r, factor), mix(with, p.g, factor), mix(with, p.b, factor)};
}

// A channel falls from `value` by a trapezoid around its opposite hue.
DEVICE float channel(float value, float saturation, float sixths, float offset) {
    float k = add_rn(sixths, offset);
    k = k >= 6.0f ? k - 6.0f : k;
    float depth = min(max(min(k, 4.0f - k), 0.0f), 1.0f);
    float fall = mul_rn(mul_rn(value, saturation), depth);
    return whole(add_rn(sub_rn(value, fall), 0.5f));
}

// PIL's way through HSV with 8 bits each, in which `turn` (in 1/255 of the circle) is added to
// the hue and wraps at 256.
DEVICE Pixel turn_hue(Pixel p, float turn) {
    turn = turn < 0.0f ? turn + 256.0f : turn;
    float value = max(max(p.r, p.g), p.b);
    float range = value - min(min(p.r, p.g), p.b);
    // Where all three are equal, saturation is 0 and the hue does not matter.
    float apart = max(range, 1.0f);
    float rc = div_rn(value - p.r, apart);
    float gc = div_rn(value - p.g, apart);
    float bc = div_rn(value - p.b, apart);
    float sector = p.r == value   ? sub_rn(bc, gc)
                   : p.g == value ? sub_rn(add_rn(2.0f, rc), bc)
                                  : sub_rn(add_rn(4.0f, gc), rc);
    float around = div_rn(sector, 6.0f);
    around = around < 0.0f ? add_rn(around, 1.0f) : around;
    float hue = whole(mul_rn(around, 255.0f)) + turn;
    hue = hue >= 256.0f ? hue - 256.0f : hue;
    float saturation = whole(mul_rn(div_rn(range, max(value, 1.0f)), 255.0f));
    saturation = div_rn(saturation, 255.0f);
    float sixths = div_rn(mul_rn(hue, 6.0f), 255.0f);
    return {channel(value, saturation, sixths, 5.0f), channel(value, saturation, sixths, 3.0f),
            channel(value, saturation, sixths, 1.0f)};
}

// Steps `begin` to 3 of the jitter up to the first that is contrast, where `mean` is negative;
// else contrast is a step like the others, towards `mean`. Then grey, unless it stopped.
DEVICE Pixel adjust(Pixel p, const View& v, u32 begin, float mean) {
    for (u32 i = begin; i < 4; ++i) {
        float factor = v.factors[i];
        switch (v.adjust[i]) {
            case BRIGHTNESS: p = blend(p, 0.0f, factor); break;
            case CONTRAST:
                if (mean < 0.0f) return p;
                p = blend(p, mean, factor);
                break;
            case SATURATION: p = blend(p, grey_of(p), factor); break;
            case HUE: p = turn_hue(p, factor); break;
            default: break;
        }
    }
    if (v.grey) p.r = p.g = p.b = grey_of(p);
    return p;
}

// The sum over all threads of the block, the same in each.
DEVICE u64 block_sum(u32 value) {
    SHARED(u64, sums, AUGMENT_THREADS);
    u64 sum[1] = {value};
    sum_rows<AUGMENT_THREADS>(Tile(1), sum, sums);
    return sum[0];
}

// One pass of the box filter along rows (step 1) or columns (step `side`): `reach` neighbours
// on both sides weigh as the centre, and the two after by the edge's weight. The ends of each
// line are repeated.
DEVICE void box_filter(const u32* from, u32* to, const View& v, u32 side, bool along_rows) {
    i32 last = i32(side) - 1, reach = i32(v.blur_reach);
    for (u32 i = thread_index().x; i < side * side; i += AUGMENT_THREADS) {
        u32 x = i % side, y = i / side;
        const u32* line = along_rows ? from + y * side : from + x;
        u32 step = along_rows ? 1 : side;
        i32 at = i32(along_rows ? x : y);
        u32 r = 0, g = 0, b = 0;
        for (i32 k = at - reach; k <= at + reach; ++k) {
            u32 p = line[u32(min(max(k, 0), last)) * step];
            r += p & 255;
            g += p >> 8 & 255;
            b += p >> 16 & 255;
        }
        u32 before = line[u32(max(at - reach - 1, 0)) * step];
        u32 after = line[u32(min(at + reach + 1, last)) * step];
        u32 edge_r = (before & 255) + (after & 255);
        u32 edge_g = (before >> 8 & 255) + (after >> 8 & 255);
        u32 edge_b = (before >> 16 & 255) + (after >> 16 & 255);
        u32 half = 1u << 23;
        r = (r * v.blur_centre + edge_r * v.blur_edge + half) >> 24;
        g = (g * v.blur_centre + edge_g * v.blur_edge + half) >> 24;
        b = (b * v.blur_centre + edge_b * v.blur_edge + half) >> 24;
        to[i] = r | g << 8 | b << 16;
    }
    barrier();
}

// Three passes along each axis, from and to `pixels`.
DEVICE void blur(u32* pixels, u32* other, const View& v, u32 side) {
    for (u32 pass = 0; pass < 6; ++pass) {
        bool even = pass % 2 == 0;
        box_filter(even ? pixels : other, even ? other : pixels, v, side, pass < 3);
    }
}

template <typename T>
DEVICE T normalised(u32 v, const View& view, const AugmentParams& p, int c) {
    v = v >= view.solarise ? 255 - v : v;
    return T(add_rn(mul_rn(float(v), p.scale[c]), p.shift[c]));
}

// Solarised, turned round and normalised.
template <typename T>
DEVICE void write_view(const u32* pixels, T* out, const View& v, const AugmentParams& p) {
    u32 side = p.side;
    for (u32 i = thread_index().x; i < side * side; i += AUGMENT_THREADS) {
        u32 from = v.flip ? i / side * side + (side - 1 - i % side) : i;
        u32 pixel = pixels[from];
        Vec<T, 4> values;
        values[0] = normalised<T>(pixel & 255, v, p, 0);
        values[1] = normalised<T>(pixel >> 8 & 255, v, p, 1);
        values[2] = normalised<T>(pixel >> 16 & 255, v, p, 2);
        values[3] = T(0.0f);
        if (p.channels == 4) {
            store_vec(out + 4 * i, values);
        } else {
            for (u32 c = 0; c < 3; ++c) out[3 * i + c] = values[c];
        }
    }
}

// Makes a view's pixels up to the blur.
DEVICE void colour_view(const u8* images, const View& v, const Windows& horizontal,
                        const Windows& vertical, u32* pixels, u32 side) {
    u32 contrast = 0;
    while (contrast < 4 && v.adjust[contrast] != CONTRAST) ++contrast;
    u32 sum = 0;
    for (u32 i = thread_index().x; i < side * side; i += AUGMENT_THREADS) {
        u32 x = i % side, y = i / side;
        Pixel p = resize(images + v.image, v, horizontal, vertical, side, x, y);
        p = adjust(p, v, 0, -1.0f);
        sum += u32(grey_of(p));
        pixels[i] = pack(p);
    }
    if (contrast == 4) return;
    // The mean needs all of what comes before contrast.
    double mean = div_rn(double(block_sum(sum)), double(side * side));
    float rounded = float(u32(add_rn(mean, 0.5)));
    for (u32 i = thread_index().x; i < side * side; i += AUGMENT_THREADS) {
        pixels[i] = pack(adjust(unpack(pixels[i]), v, contrast, rounded));
    }
}

template <typename T>
DEVICE void augment(const u8* images, const View* views, u32* windows, float* weights,
                    u32* kept, T* out, const AugmentParams& p) {
    u32 side = p.side, area = side * side;
    u32* pixels = p.in_shared ? dynamic_shared<u32>() : kept + u64(block_index().x) * 2 * area;
    windows += block_index().x * 4 * side;
    for (u32 n = block_index().x; n < p.views; n += grid_size().x) {
        const View& v = views[n];
        Windows horizontal = {windows, windows + side, weights + v.weights};
        Windows vertical = {windows + 2 * side, windows + 3 * side,
                        horizontal.weights + v.taps_across * side};
        for (u32 i = thread_index().x; i < 2 * side; i += AUGMENT_THREADS) {
            if (i < side) {
                plan_output(Axis(v.filter, v.crop_width, side), horizontal, side, i);
            } else {
                plan_output(Axis(v.filter, v.crop_height, side), vertical, side, i - side);
            }
        }
        barrier();
        colour_view(images, v, horizontal, vertical, pixels, side);
        barrier();
        if (v.blur_centre != 0) blur(pixels, pixels + area, v, side);
        // The next view takes the same memory, after the barrier that follows its plan.
        write_view(pixels, out + u64(n) * area * p.channels, v, p);
    }
}

KERNEL(augment_f32, 512, (const u8* images, const View* views, u32* windows, float* weights,
                          u32* kept, float* out, AugmentParams p)) {
    augment(images, views, windows, weights, kept, out, p);
}
KERNEL(augment_bf16, 512, (const u8* images, const View* views, u32* windows, float* weights,
                           u32* kept, bf16* out, AugmentParams p)) {
    augment(images, views, windows, weights, kept, out, p);
}
