// Updates of all parameters in one launch: SGD with momentum and weight decay, or the teacher's
// moving average, with bf16 copies of what they write. Every operation is rounded by itself, so
// that the bits are those of the native code.
#include "include/kernel.h"
#include "include/exact.h"
#include "include/multi_tensor.h"

// One parameter. What a launch does not use is null.
struct SgdSpan {
    float* weight;
    float* gradient;
    float* velocity;
    float* teacher;
    bf16* weight_copy;
    bf16* teacher_copy;
    u32 elems;
    u32 first_chunk;
    float decay;
    float rate;  // factor of the learning rate
};

struct SgdParams {
    u32 spans;
    u32 chunk;  // elements, a multiple of 4
    float momentum;
    float lr;
    float keep;  // share of itself that the teacher keeps, and that it takes from the student
    float take;
};

template <int N>
DEVICE void store_narrow(bf16* p, const Vec<float, N>& values) {
    Vec<bf16, N> narrow;
    UNROLL
    for (int k = 0; k < N; ++k) narrow[k] = bf16(values[k]);
    store_vec(p, narrow);
}

// N elements from `i` on: v ← μ·v + g + λ·w, w ← w − lr·v, g ← 0.
template <int N>
DEVICE void update(const SgdSpan& s, const SgdParams& p, u32 i) {
    Vec<float, N> w = load_vec<N>(s.weight + i);
    Vec<float, N> g = load_vec<N>(s.gradient + i);
    Vec<float, N> v = load_vec<N>(s.velocity + i);
    const float lr = mul_rn(p.lr, s.rate);
    UNROLL
    for (int k = 0; k < N; ++k) {
        v[k] = add_rn(add_rn(mul_rn(p.momentum, v[k]), g[k]), mul_rn(s.decay, w[k]));
        w[k] = sub_rn(w[k], mul_rn(lr, v[k]));
        g[k] = 0.0f;
    }
    store_vec(s.velocity + i, v);
    store_vec(s.weight + i, w);
    store_vec(s.gradient + i, g);
    if (s.weight_copy) store_narrow<N>(s.weight_copy + i, w);
}

// N elements from `i` on: t ← m·t + (1−m)·w.
template <int N>
DEVICE void ema(const SgdSpan& s, const SgdParams& p, u32 i) {
    Vec<float, N> w = load_vec<N>(s.weight + i);
    Vec<float, N> t = load_vec<N>(s.teacher + i);
    UNROLL
    for (int k = 0; k < N; ++k) t[k] = add_rn(mul_rn(p.keep, t[k]), mul_rn(p.take, w[k]));
    store_vec(s.teacher + i, t);
    if (s.teacher_copy) store_narrow<N>(s.teacher_copy + i, t);
}

// One block a chunk.
template <bool UPDATE>
DEVICE void move_chunk(const SgdSpan* spans, const SgdParams& p) {
    u32 chunk = block_index().x;
    const SgdSpan* at = spans + span_of_chunk(spans, p.spans, chunk);
    const SgdSpan s = {at->weight,       at->gradient,     at->velocity, at->teacher,
                       at->weight_copy,  at->teacher_copy, at->elems,    at->first_chunk,
                       at->decay,        at->rate};
    u32 begin = (chunk - s.first_chunk) * p.chunk;
    u32 end = min(begin + p.chunk, s.elems);
    u32 whole = begin + (end - begin) / 4 * 4;
    for (u32 i = begin + 4 * thread_index().x; i < whole; i += 4 * block_size().x) {
        UPDATE ? update<4>(s, p, i) : ema<4>(s, p, i);
    }
    for (u32 i = whole + thread_index().x; i < end; i += block_size().x) {
        UPDATE ? update<1>(s, p, i) : ema<1>(s, p, i);
    }
}

KERNEL(sgd_update_f32, 256, (const SgdSpan* spans, SgdParams p)) {
    move_chunk<true>(spans, p);
}
KERNEL(sgd_ema_f32, 256, (const SgdSpan* spans, SgdParams p)) {
    move_chunk<false>(spans, p);
}
