// Atomic operations on integers, which give the same result in every order. There are none on
// floats: their sums would depend on it.
#pragma once

#include "types.h"

// Adds v; returns the value before.
#ifdef __CUDACC__
DEVICE u32 atomic_add(u32* p, u32 v) { return atomicAdd(p, v); }
DEVICE u64 atomic_add(u64* p, u64 v) { return atomicAdd(p, v); }
#else
DEVICE u32 atomic_add(u32* p, u32 v) { return emu_atomic_add(p, v); }
DEVICE u64 atomic_add(u64* p, u64 v) { return emu_atomic_add_64(p, v); }
#endif
