// Races on global memory within one launch: between blocks, which nothing orders, and between
// threads of a block. For each four bytes the last writer and the last reader are kept, with
// the launch and block that they belong to, in a shadow that takes eight times the memory that
// kernels touch. So this is for small cases, and blocks run one at a time.
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
    // Writer and reader are slots of Races. A tag is the launch, 32 bits, whether blocks other
    // than this one have read, and the block, 31 bits.
    struct Entry {
        uint64_t writer, writer_tag, reader, reader_tag;
    };
    static constexpr uint64_t MANY = uint64_t(1) << 31;

    bool is_race(const Worker& worker, uint64_t who, uint64_t tag, uint64_t mine,
                 uint64_t my_tag) const;
    [[noreturn]] void fault(Worker& worker, Access kind, uint64_t other, uint64_t other_tag,
                            bool other_wrote, uint64_t offset, uintptr_t pc);

    Entry* entries_ = nullptr;
    uint64_t launch_ = 0;
};

}  // namespace emulator
