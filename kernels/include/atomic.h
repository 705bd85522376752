// Atomic operations on integers, which give the same result in every order. There are none on
// floats: their sums would depend on it. All return the value before.
#pragma once

#include "types.h"

#ifdef __CUDACC__

DEVICE u32 atomic_add(u32* p, u32 v) { return atomicAdd(p, v); }
DEVICE i32 atomic_add(i32* p, i32 v) { return atomicAdd(p, v); }
DEVICE u64 atomic_add(u64* p, u64 v) { return atomicAdd(p, v); }
DEVICE u32 atomic_max(u32* p, u32 v) { return atomicMax(p, v); }
DEVICE i32 atomic_max(i32* p, i32 v) { return atomicMax(p, v); }
DEVICE u32 atomic_min(u32* p, u32 v) { return atomicMin(p, v); }
DEVICE i32 atomic_min(i32* p, i32 v) { return atomicMin(p, v); }
DEVICE u32 atomic_or(u32* p, u32 v) { return atomicOr(p, v); }
DEVICE u32 atomic_exchange(u32* p, u32 v) { return atomicExch(p, v); }
DEVICE u32 atomic_compare_exchange(u32* p, u32 expected, u32 v) {
    return atomicCAS(p, expected, v);
}

#else

DEVICE u32 atomic_add(u32* p, u32 v) { return u32(emu_atomic(EMU_ADD, p, 4, v, 0)); }
DEVICE i32 atomic_add(i32* p, i32 v) { return i32(emu_atomic(EMU_ADD, p, 4, u32(v), 0)); }
DEVICE u64 atomic_add(u64* p, u64 v) { return emu_atomic(EMU_ADD, p, 8, v, 0); }
DEVICE u32 atomic_max(u32* p, u32 v) { return u32(emu_atomic(EMU_MAX_UNSIGNED, p, 4, v, 0)); }
DEVICE i32 atomic_max(i32* p, i32 v) { return i32(emu_atomic(EMU_MAX_SIGNED, p, 4, u32(v), 0)); }
DEVICE u32 atomic_min(u32* p, u32 v) { return u32(emu_atomic(EMU_MIN_UNSIGNED, p, 4, v, 0)); }
DEVICE i32 atomic_min(i32* p, i32 v) { return i32(emu_atomic(EMU_MIN_SIGNED, p, 4, u32(v), 0)); }
DEVICE u32 atomic_or(u32* p, u32 v) { return u32(emu_atomic(EMU_OR, p, 4, v, 0)); }
DEVICE u32 atomic_exchange(u32* p, u32 v) { return u32(emu_atomic(EMU_EXCHANGE, p, 4, v, 0)); }
DEVICE u32 atomic_compare_exchange(u32* p, u32 expected, u32 v) {
    return u32(emu_atomic(EMU_COMPARE_EXCHANGE, p, 4, v, expected));
}

#endif
