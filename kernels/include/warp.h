// Operations among the lanes of a warp. All lanes in `mask` must take part; the values pass
// between them, but memory is not ordered: that is what `warp_sync` does.
#pragma once

#include "types.h"

constexpr u32 FULL_WARP = 0xffffffff;

#ifdef __CUDACC__

template <typename T>
DEVICE T shuffle_index(u32 mask, T v, u32 from) {
    return bit_cast<T>(__shfl_sync(mask, bit_cast<u32>(v), int(from)));
}
template <typename T>
DEVICE T shuffle_up(u32 mask, T v, u32 by) {
    return bit_cast<T>(__shfl_up_sync(mask, bit_cast<u32>(v), by));
}
template <typename T>
DEVICE T shuffle_down(u32 mask, T v, u32 by) {
    return bit_cast<T>(__shfl_down_sync(mask, bit_cast<u32>(v), by));
}
template <typename T>
DEVICE T shuffle_xor(u32 mask, T v, u32 with) {
    return bit_cast<T>(__shfl_xor_sync(mask, bit_cast<u32>(v), int(with)));
}
DEVICE u32 ballot(u32 mask, bool v) { return __ballot_sync(mask, v); }
DEVICE bool any(u32 mask, bool v) { return __any_sync(mask, v) != 0; }
DEVICE bool all(u32 mask, bool v) { return __all_sync(mask, v) != 0; }

#else

// The value of lane `from`; T has 4 bytes.
template <typename T>
DEVICE T shuffle_index(u32 mask, T v, u32 from) {
    return bit_cast<T>(emu_warp(EMU_SHUFFLE_INDEX, mask, bit_cast<u32>(v), from));
}
// The value of the lane `by` lower or higher; the own one where there is none.
template <typename T>
DEVICE T shuffle_up(u32 mask, T v, u32 by) {
    return bit_cast<T>(emu_warp(EMU_SHUFFLE_UP, mask, bit_cast<u32>(v), by));
}
template <typename T>
DEVICE T shuffle_down(u32 mask, T v, u32 by) {
    return bit_cast<T>(emu_warp(EMU_SHUFFLE_DOWN, mask, bit_cast<u32>(v), by));
}
// The value of the lane whose number differs in the bits of `with`.
template <typename T>
DEVICE T shuffle_xor(u32 mask, T v, u32 with) {
    return bit_cast<T>(emu_warp(EMU_SHUFFLE_XOR, mask, bit_cast<u32>(v), with));
}
// The lanes of the mask for which `v` holds; whether it holds for any, for all.
DEVICE u32 ballot(u32 mask, bool v) { return emu_warp(EMU_BALLOT, mask, v, 0); }
DEVICE bool any(u32 mask, bool v) { return emu_warp(EMU_BALLOT, mask, v, 0) != 0; }
DEVICE bool all(u32 mask, bool v) { return emu_warp(EMU_BALLOT, mask, v, 0) == mask; }

#endif
