// Operations among the lanes of a warp. All lanes in `mask` must take part; the values pass
// between them, but memory is not ordered: that is what `warp_sync` does.
#pragma once

#include "types.h"

constexpr u32 FULL_WARP = 0xffffffff;

#ifdef __CUDACC__

template <typename T>
DEVICE T shuffle_down(u32 mask, T v, u32 by) {
    return bit_cast<T>(__shfl_down_sync(mask, bit_cast<u32>(v), by));
}
template <typename T>
DEVICE T shuffle_xor(u32 mask, T v, u32 with) {
    return bit_cast<T>(__shfl_xor_sync(mask, bit_cast<u32>(v), int(with)));
}

#else

// The value of the lane `by` higher; the own one where there is none. T has 4 bytes.
template <typename T>
DEVICE T shuffle_down(u32 mask, T v, u32 by) {
    return bit_cast<T>(emu_warp(EMU_SHUFFLE_DOWN, mask, bit_cast<u32>(v), by));
}
// The value of the lane whose number differs in the bits of `with`.
template <typename T>
DEVICE T shuffle_xor(u32 mask, T v, u32 with) {
    return bit_cast<T>(emu_warp(EMU_SHUFFLE_XOR, mask, bit_cast<u32>(v), with));
}

#endif
