// The memory that kernels see. One region of address space, reserved once for the process,
// holds global memory and, at its end, the shared memory of each host thread's block. At a
// fixed distance lies its shadow, which says for each byte what may be done with it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emulator.h"

namespace emulator {

enum Shadow : uint8_t {
    NOT_ALLOCATED = 0,
    NEVER_WRITTEN = 1,
    WRITTEN = 2,
    // An asynchronous copy to it has not been waited for.
    PENDING = 3,
};

constexpr uint64_t GLOBAL_BYTES = uint64_t(63) << 30;
constexpr uint64_t MEMORY_BYTES = uint64_t(64) << 30;
// Room for the shared memory of one block with its red zones.
constexpr uint64_t SHARED_STRIDE_BYTES = 512 << 10;
constexpr uint32_t MOST_WORKERS = (MEMORY_BYTES - GLOBAL_BYTES) / SHARED_STRIDE_BYTES;

// Start of the region, 0 before it is reserved.
extern uintptr_t memory_base;

// Reserves the region; false where the system refuses.
bool reserve_memory();

inline uint8_t* shadow(uintptr_t address) {
    return reinterpret_cast<uint8_t*>(address + MEMORY_BYTES);
}

// Says in words what lies at an address of global memory, such as "4 bytes past the end of an
// allocation of 1024 bytes".
void describe_global(uintptr_t address, char* text, size_t size);

}  // namespace emulator
