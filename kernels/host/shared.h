// Shared memory of the block that a worker runs: where its arrays lie.
#pragma once

#include <cstddef>
#include <cstdint>

#include "intrinsics.h"

namespace emulator {

class Worker;

class SharedMemory {
  public:
    // What a kernel may declare, and what it may have with dynamic shared memory on any GPU
    // (sm_90: 227 KiB; sm_80: 163; sm_86, sm_89, sm_120: 99).
    static constexpr uint32_t MOST_STATIC_BYTES = 48 << 10;
    static constexpr uint32_t MOST_BYTES = 227 << 10;

    explicit SharedMemory(uint32_t worker);

    // Nothing is allocated but the dynamic shared memory, and nothing written.
    void start_block(uint32_t dynamic_bytes, uint32_t limit_bytes);
    void* array(Worker& worker, const EmuShared* array, uintptr_t pc);
    void* dynamic() const { return reinterpret_cast<void*>(dynamic_); }

    uintptr_t base() const { return base_; }
    bool contains(uintptr_t address) const { return address - base_ < used_; }
    // Which array an address belongs to or is near to.
    void describe(uintptr_t address, char* text, size_t size) const;

  private:
    struct Array {
        const EmuShared* declared;
        uintptr_t address;
    };
    // Arrays that one kernel may have.
    static constexpr uint32_t MOST_ARRAYS = 64;

    uintptr_t place(uint64_t bytes, uint64_t align);

    uintptr_t base_, dynamic_ = 0;
    // Bytes of the arena in use, red zones included, and bytes of the arrays alone.
    uint64_t used_ = 0, static_bytes_ = 0;
    uint32_t dynamic_bytes_ = 0, limit_bytes_ = 0, n_arrays_ = 0;
    Array arrays_[MOST_ARRAYS];
};

}  // namespace emulator
