// Proposals: of each image and level the anchors with the greatest logits, as boxes in the image,
// without those that overlap better ones; and of all levels the best of these. Every number has the
// bits of src/geometry/proposals.rs.
#include "include/kernel.h"
#include "include/exp.h"
#include "include/vector.h"

constexpr u32 SELECT_THREADS = 1024;
// Of keys so many bits are counted at a time, two of their values by each thread.
constexpr u32 DIGIT_BITS = 11;
constexpr u32 DIGITS = 1 << DIGIT_BITS;
static_assert(DIGITS == 2 * SELECT_THREADS, "a thread has two counts");
// Boxes of a word of a mask, and words of a block.
constexpr u32 WORD = 64;
constexpr u32 BLOCK_WORDS = 4;

struct ProposalsSelectParams {
    u32 anchors;  // of an image
    u32 chosen;   // of these
};

struct ProposalsDecodeParams {
    u32 anchors, chosen;
    u32 per_position, columns;  // anchors of a position, and positions of a row
    float stride;               // pixels from one position to the next
    float most;                 // the greatest dw and dh
    float weights[4];           // of dx, dy, dw, dh
};

struct ProposalsOverlapParams {
    u32 chosen, words;  // boxes, and words of a mask of them
    float threshold;
};

struct ProposalsSuppressParams {
    u32 chosen, words;
    u32 most;           // boxes that are kept of a level
    u32 level, levels;  // this one, and how many there are
};

struct ProposalsMergeParams {
    u32 images, levels;
    u32 most;  // boxes of a level
    u32 rows;  // boxes of an image
};

// A number that is greater for a greater logit, the same for both zeros. What is no number has a
// place too: beyond infinity, by its sign.
DEVICE u32 ordered(float logit) {
    u32 bits = bit_cast<u32>(logit);
    if (bits == 0x80000000u) bits = 0;
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

DEVICE bool is_finite(u32 bits) { return (bits & 0x7f800000u) != 0x7f800000u; }

// An anchor as one number: by its logit, and among equal ones greater for the lower index.
DEVICE u64 key_of(const float* logits, u32 index) {
    return u64(ordered(logits[index])) << 32 | u32(~index);
}

// Σ v over this thread of the block and those behind it; `sums` has room for each warp.
DEVICE u32 sum_from_here(u32 v, u32* sums) {
    UNROLL
    for (u32 by = 1; by < 32; by *= 2) {
        u32 further = shuffle_down(FULL_WARP, v, by);
        if (lane() + by < 32) v += further;
    }
    if (lane() == 0) sums[warp()] = v;
    barrier();
    for (u32 w = warp() + 1; w < block_size().x / 32; ++w) v += sums[w];
    return v;
}

// The keys of the anchors with the greatest logits, in any order. A block has an image. The least
// of these keys is found digit by digit, as far as it must be known.
KERNEL(proposals_select_f32, SELECT_THREADS,
       (const float* logits, u64* chosen, ProposalsSelectParams p)) {
    SHARED(u32, counts, DIGITS);
    SHARED(u32, sums, 32);
    SHARED(u32, digit, 1);
    SHARED(u32, left, 1);   // how many of the keys with this digit are wanted
    SHARED(u32, all, 1);    // whether these are all that have it
    SHARED(u32, taken, 1);
    u32 thread = thread_index().x;
    logits += block_index().x * p.anchors;
    chosen += block_index().x * p.chosen;
    u64 least = 0, known = 0;  // the digits that are known, and their bits
    u32 wanted = p.chosen, shift = 64;
    if (thread == 0) *taken = 0;
    do {
        u32 bits = min(shift, DIGIT_BITS);
        shift -= bits;
        for (u32 i = thread; i < DIGITS; i += SELECT_THREADS) counts[i] = 0;
        barrier();
        for (u32 i = thread; i < p.anchors; i += SELECT_THREADS) {
            u64 key = key_of(logits, i);
            if ((key & known) == least) {
                atomic_add(counts + (u32(key >> shift) & ((1u << bits) - 1)), 1u);
            }
        }
        barrier();
        u32 lower = counts[2 * thread], upper = counts[2 * thread + 1];
        u32 above = sum_from_here(lower + upper, sums) - lower - upper;
        UNROLL
        for (u32 i = 0; i < 2; ++i) {
            u32 count = i == 0 ? upper : lower;
            if (above < wanted && wanted <= above + count) {
                *digit = 2 * thread + 1 - i;
                *left = wanted - above;
                *all = wanted - above == count;
            }
            above += count;
        }
        barrier();
        least |= u64(*digit) << shift;
        known = ~u64(0) << shift;
        wanted = *left;
    } while (!*all);
    for (u32 i = thread; i < p.anchors; i += SELECT_THREADS) {
        u64 key = key_of(logits, i);
        if (key >= least) chosen[atomic_add(taken, 1u)] = key;
    }
}

// A box: left, upper, right and lower border.
using Box = Values<4>;

DEVICE bool has_area(const Box& b) { return b[2] > b[0] && b[3] > b[1]; }
DEVICE float area(const Box& b) { return mul_rn(sub_rn(b[2], b[0]), sub_rn(b[3], b[1])); }
DEVICE float clip(float v, float most) { return v < 0.0f ? 0.0f : v > most ? most : v; }

// One side of an anchor, moved and scaled: its lower and its upper border.
struct Side {
    float low, high;

    DEVICE Side(float from, float to, float moved, float scaled, float most) {
        float size = sub_rn(to, from), centre = add_rn(from, mul_rn(0.5f, size));
        centre = add_rn(mul_rn(moved, size), centre);
        // What is no number stays.
        float half = mul_rn(0.5f, mul_rn(exp_rn(scaled > most ? most : scaled), size));
        low = sub_rn(centre, half);
        high = add_rn(centre, half);
    }
};

// Keys and boxes of the chosen anchors, the greatest logits first. A thread counts the keys before
// its own: no more comparisons than between boxes, and cheaper ones. A box that has no area, or
// anything that is not finite, becomes 0.
KERNEL(proposals_decode_f32, 256,
       (const u64* chosen, const float* deltas, const float* cell, const float* sizes, u32* keys,
        float* boxes, ProposalsDecodeParams p)) {
    SHARED(u64, others, 256);
    u32 thread = thread_index().x, image = block_index().y;
    u32 at = block_index().x * 256 + thread, rank = 0;
    chosen += image * p.chosen;
    u64 own = at < p.chosen ? chosen[at] : 0;
    for (u32 first = 0; first < p.chosen; first += 256) {
        barrier();
        if (first + thread < p.chosen) others[thread] = chosen[first + thread];
        barrier();
        u32 count = min(p.chosen - first, 256u);
        for (u32 i = 0; i < count; ++i) rank += others[i] > own;
    }
    if (at >= p.chosen) return;
    u32 index = ~u32(own), key = u32(own >> 32);
    u32 position = index / p.per_position;
    float x = mul_rn(float(position % p.columns), p.stride);
    float y = mul_rn(float(position / p.columns), p.stride);
    Box a = load<4>(cell + index % p.per_position * 4);
    Values<4> d = load<4>(deltas + (image * p.anchors + index) * 4);
    UNROLL
    for (u32 i = 0; i < 4; ++i) d[i] = div_rn(d[i], p.weights[i]);
    Side across(add_rn(x, a[0]), add_rn(x, a[2]), d[0], d[2], p.most);
    Side down(add_rn(y, a[1]), add_rn(y, a[3]), d[1], d[3], p.most);
    bool is_there = is_finite(key >> 31 ? key : ~key);
    Box box = {{across.low, down.low, across.high, down.high}};
    UNROLL
    for (u32 i = 0; i < 4; ++i) {
        is_there = is_there && is_finite(bit_cast<u32>(box[i]));
        box[i] = clip(box[i], sizes[2 * image + 1 - i % 2]);
    }
    u32 to = image * p.chosen + rank;
    keys[to] = key;
    store<4>(boxes + 4 * to, is_there && has_area(box) ? box : Box{});
}

// Whether the intersection over the union of two boxes is above the threshold.
DEVICE bool overlap(const Box& a, const Box& b, float threshold) {
    float w = max(sub_rn(min(a[2], b[2]), max(a[0], b[0])), 0.0f);
    float h = max(sub_rn(min(a[3], b[3]), max(a[1], b[1])), 0.0f);
    float both = mul_rn(w, h);
    return div_rn(both, sub_rn(add_rn(area(a), area(b)), both)) > threshold;
}

// For each box a mask of those after it that it overlaps too much, [images][chosen][words]; a box
// without area suppresses itself. A block has the boxes of one word as rows, and those of
// BLOCK_WORDS as columns; a thread has a word of a row. Words before a row's own stay as they are.
KERNEL(proposals_overlap_f32, 256, (const float* boxes, u64* masks, ProposalsOverlapParams p)) {
    // Boxes of different words begin in different banks.
    SHARED(float, columns, 4 * BLOCK_WORDS * (WORD + 1));
    u32 thread = thread_index().x;
    u32 row = block_index().y * WORD + thread / BLOCK_WORDS;
    u32 first = block_index().x * BLOCK_WORDS * WORD;
    u32 word = block_index().x * BLOCK_WORDS + thread % BLOCK_WORDS;
    if (first + BLOCK_WORDS * WORD <= block_index().y * WORD) return;
    boxes += block_index().z * p.chosen * 4;
    masks += block_index().z * p.chosen * p.words;
    if (first + thread < p.chosen) {
        store<4>(columns + (thread + thread / WORD) * 4, load<4>(boxes + (first + thread) * 4));
    }
    barrier();
    if (row >= p.chosen || word >= p.words) return;
    Box own = load<4>(boxes + row * 4);
    u64 mask = 0;
    if (has_area(own)) {
        u32 begin = row + 1 > word * WORD ? row + 1 - word * WORD : 0;
        u32 end = min(p.chosen - word * WORD, WORD);
        const float* others = columns + thread % BLOCK_WORDS * (WORD + 1) * 4;
        for (u32 i = begin; i < end; ++i) {
            mask |= u64(overlap(own, load<4>(others + i * 4), p.threshold)) << i;
        }
    } else if (word == row / WORD) {
        mask = u64(1) << row % WORD;
    }
    masks[row * p.words + word] = mask;
}

// Keys and boxes that stay of a level, in their order and no more than `most`, and their number:
// [images][levels][most]. A block has an image.
KERNEL(proposals_suppress_f32, 256,
       (const u64* masks, const u32* keys, const float* boxes, u32* kept_keys, float* kept_boxes,
        u32* counts, ProposalsSuppressParams p)) {
    SHARED(u64, own, WORD);    // masks of a word's boxes among themselves
    SHARED(u32, stays, WORD);  // those of them that stay
    SHARED(u32, count, 1);
    u64* gone = dynamic_shared<u64>();
    u32 thread = thread_index().x, image = block_index().x, kept = 0;
    masks += image * p.chosen * p.words;
    keys += image * p.chosen;
    boxes += image * p.chosen * 4;
    u32 list = image * p.levels + p.level;
    for (u32 w = thread; w < p.words; w += 256) gone[w] = 0;
    for (u32 word = 0; word < p.words && kept < p.most; ++word) {
        u32 first = word * WORD, rows = min(p.chosen - first, WORD);
        if (thread < rows) own[thread] = masks[(first + thread) * p.words + word];
        barrier();
        if (thread == 0) {
            u64 out = gone[word];
            u32 stay = 0;
            for (u32 i = 0; i < rows; ++i) {
                if (out >> i & 1) continue;
                out |= own[i];
                if (!(out >> i & 1)) stays[stay++] = first + i;
            }
            *count = min(stay, p.most - kept);
        }
        barrier();
        u32 stay = *count;
        if (thread < stay) {
            u32 to = list * p.most + kept + thread;
            kept_keys[to] = keys[stays[thread]];
            store<4>(kept_boxes + to * 4, load<4>(boxes + stays[thread] * 4));
        }
        for (u32 w = word + 1 + thread; w < p.words; w += 256) {
            u64 mask = gone[w];
            for (u32 i = 0; i < stay; ++i) mask |= masks[stays[i] * p.words + w];
            gone[w] = mask;
        }
        kept += stay;
        barrier();
    }
    if (thread == 0) counts[list] = kept;
}

// The best boxes of all levels, [images][rows], where there is 0 before. Equal logits come by
// their level. A thread has a box of a level, and finds its place in each of the other lists.
KERNEL(proposals_merge_f32, 256,
       (const u32* keys, const float* boxes, const u32* counts, float* y, ProposalsMergeParams p)) {
    u32 at = global_thread();
    u32 place = at % p.most, list = at / p.most, image = list / p.levels, level = list % p.levels;
    if (image >= p.images || place >= counts[list]) return;
    u32 key = keys[at];
    for (u32 other = 0; other < p.levels; ++other) {
        if (other == level) continue;
        u32 low = 0, high = counts[image * p.levels + other];
        while (low < high) {
            u32 middle = (low + high) / 2;
            u32 found = keys[(image * p.levels + other) * p.most + middle];
            if (found > key || (found == key && other < level)) low = middle + 1;
            else high = middle;
        }
        place += low;
    }
    if (place < p.rows) store<4>(y + (image * p.rows + place) * 4, load<4>(boxes + at * 4));
}
