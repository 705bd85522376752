// Asynchronous copies from global to shared memory (cp.async). A copy has landed for the
// thread that issued it once that thread has waited for its group, and for other threads
// after a barrier that follows.
#pragma once

#include "types.h"

// Copies BYTES (4, 8 or 16; both addresses aligned to it): the first `bytes` of them from
// `src`, the rest zeros. With 0 bytes `src` is not read.
template <int BYTES>
DEVICE void copy_async(void* shared_dst, const void* global_src, u32 bytes = BYTES) {
    static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "cp.async copies 4, 8 or 16 bytes");
#ifdef __CUDACC__
    u32 dst = u32(__cvta_generic_to_shared(shared_dst));
    if constexpr (BYTES == 16) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                     ::"r"(dst), "l"(global_src), "r"(bytes) : "memory");
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;"
                     ::"r"(dst), "l"(global_src), "n"(BYTES), "r"(bytes) : "memory");
    }
#else
    emu_copy_async(shared_dst, global_src, BYTES, bytes);
#endif
}

// Makes a group of the copies issued since the last one.
DEVICE void copy_async_commit() {
#ifdef __CUDACC__
    asm volatile("cp.async.commit_group;" ::: "memory");
#else
    emu_copy_commit();
#endif
}

// Waits until at most the N latest groups of this thread are under way.
template <int N>
DEVICE void copy_async_wait() {
#ifdef __CUDACC__
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#else
    emu_copy_wait(N);
#endif
}
