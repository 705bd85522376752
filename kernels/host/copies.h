// Asynchronous copies of one thread, which land when it waits for them.
#pragma once

#include <cstdint>
#include <vector>

namespace emulator {

class Worker;

class Copies {
  public:
    void reset();
    void issue(Worker& worker, uintptr_t dst, uintptr_t src, uint32_t size, uint32_t bytes,
               uintptr_t pc);
    void commit() { group_++; }
    void wait(Worker& worker, uint32_t groups_left);

  private:
    struct Copy {
        uintptr_t dst, src, pc;
        uint32_t size, bytes, group;
    };
    std::vector<Copy> pending_;
    uint32_t group_ = 0;
};

}  // namespace emulator
