// Races on global memory within one launch: between blocks, which nothing orders, and between
// threads of a block. For each four bytes the last writer and the last reader are kept, with
// the launch and block that they belong to, and which of the bytes this block and which others
// have accessed, in a shadow that takes eight times the memory that kernels touch. So this is
// for small cases, and blocks run one at a time.
#pragma once

#include <cstdint>

#include "races.h"

namespace emulator {

class Worker;

class GlobalRaces {
  public:
    GlobalRaces() = default;
    ~GlobalRaces();
    GlobalRaces(const GlobalRaces&) = delete;

    // Looks from now on, for a new launch; false where the system has no address space.
    bool start_launch();
    // Thread `worker.current` of block `block` accesses bytes at an offset in global memory.
    void access(Worker& worker, Access kind, uint32_t block, uint64_t offset, uint32_t bytes,
                uintptr_t pc);

    bool enabled = false;

  private:
    // Writer and reader are slots of Races. A tag is the launch, 32 bits, the bytes that the
    // block has accessed, 4 bits, those that blocks before it have, 4 bits, and the block, 24
    // bits.
    struct Entry {
        uint64_t writer, writer_tag, reader, reader_tag;
    };
    static constexpr uint64_t BLOCK = (uint64_t(1) << 24) - 1;
    static uint32_t own(uint64_t tag) { return uint32_t(tag) >> 28; }
    static uint32_t others(uint64_t tag) { return uint32_t(tag) >> 24 & 15; }

    // Whether `mine`, of block `block`, races with accesses that ended in `who`.
    bool is_race(const Worker& worker, uint64_t who, uint64_t tag, uint64_t mine,
                 uint64_t block) const;
    // The tag after bytes are accessed by a block. Atomic accesses of a block before it are
    // not kept.
    uint64_t after(uint64_t tag, uint64_t block, uint32_t bytes, bool was_atomic) const;
    [[noreturn]] void fault(Worker& worker, Access kind, uint64_t other, uint64_t other_tag,
                            bool other_wrote, uint64_t offset, uintptr_t pc);

    Entry* entries_ = nullptr;
    uint64_t launch_ = 0;
};

}  // namespace emulator
