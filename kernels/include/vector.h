// Elements of storage as the f32 values that kernels compute with, and kernels that go through
// their tensors once, element by element.
#pragma once

#include "kernel.h"

// Elements of an access of 16 bytes.
template <typename T>
constexpr int VECTOR = 16 / int(sizeof(T));

// `N` values in registers.
template <int N>
struct Values {
    float at[N];
    DEVICE float& operator[](int i) { return at[i]; }
    DEVICE const float& operator[](int i) const { return at[i]; }
};

namespace detail {
// Elements of one access where `N` are wanted.
template <typename T, int N>
constexpr int AT_ONCE = N < VECTOR<T> ? N : VECTOR<T>;
}  // namespace detail

// Reads `N` elements that lie side by side, aligned to an access.
template <int N, typename T>
DEVICE Values<N> load(const T* p) {
    constexpr int M = detail::AT_ONCE<T, N>;
    Values<N> v;
    UNROLL
    for (int i = 0; i < N; i += M) {
        Vec<T, M> part = load_vec<M>(p + i);
        UNROLL
        for (int j = 0; j < M; ++j) v[i + j] = float(part[j]);
    }
    return v;
}

// Writes `N` values side by side, rounded to the type of storage.
template <int N, typename T>
DEVICE void store(T* p, const Values<N>& v) {
    constexpr int M = detail::AT_ONCE<T, N>;
    UNROLL
    for (int i = 0; i < N; i += M) {
        Vec<T, M> part;
        UNROLL
        for (int j = 0; j < M; ++j) part[j] = T(v[i + j]);
        store_vec<M>(p + i, part);
    }
}

namespace detail {
template <int N, typename F, typename... V>
DEVICE Values<N> apply(F f, const V&... v) {
    Values<N> y;
    UNROLL
    for (int i = 0; i < N; ++i) y[i] = f(v[i]...);
    return y;
}
}  // namespace detail

// yᵢ = f(inputsᵢ…) for `elems` elements of storage type T, of which each thread takes a
// vector; the last thread takes what is left one by one. y may be one of the inputs.
template <typename F, typename T, typename... In>
DEVICE void map(u32 elems, F f, T* y, const In*... in) {
    u32 at = global_thread() * VECTOR<T>;
    if (at + VECTOR<T> <= elems) {
        constexpr int N = VECTOR<T>;
        store<N>(y + at, detail::apply<N>(f, load<N>(in + at)...));
    } else {
        for (; at < elems; ++at) store<1>(y + at, detail::apply<1>(f, load<1>(in + at)...));
    }
}

// The gradient behind a ReLU: g where its output y is above 0 (or NaN), else 0.
DEVICE float relu_gradient(float y, float g) { return y <= 0.0f ? 0.0f : g; }
