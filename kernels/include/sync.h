// Shared memory of a block, and barriers.
#pragma once

#include "types.h"

#ifdef __CUDACC__

// `T name[count]` in the block's static shared memory.
#define SHARED(T, name, count) __shared__ alignas(16) T name[count]

// The block's dynamic shared memory, whose size the launch chooses.
template <typename T>
DEVICE T* dynamic_shared() {
    extern __shared__ __align__(128) unsigned char dynamic_shared_bytes[];
    return reinterpret_cast<T*>(dynamic_shared_bytes);
}

// Waits for all threads of the block; what they wrote before is seen by all after.
DEVICE void barrier() { __syncthreads(); }
// Waits for `threads` threads (a multiple of 32) at barrier `id`, 1 to 15.
DEVICE void named_barrier(u32 id, u32 threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
// Counts towards barrier `id` without waiting for it.
DEVICE void named_barrier_arrive(u32 id, u32 threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
// Waits for the lanes in `mask`; what they wrote before is seen by them after.
DEVICE void warp_sync(u32 mask) { __syncwarp(mask); }

#else

#define SHARED(T, name, count)                                                               \
    static const EmuShared name##_shared = {sizeof(T) * (count), alignof(T), #name, __LINE__}; \
    T* const name = static_cast<T*>(emu_shared(&name##_shared))

template <typename T>
DEVICE T* dynamic_shared() { return static_cast<T*>(emu_dynamic_shared()); }

DEVICE void barrier() { emu_barrier(); }
DEVICE void named_barrier(u32 id, u32 threads) { emu_named_barrier(id, threads, true); }
DEVICE void named_barrier_arrive(u32 id, u32 threads) { emu_named_barrier(id, threads, false); }
DEVICE void warp_sync(u32 mask) { emu_warp(EMU_SYNC, mask, 0, 0); }

#endif
