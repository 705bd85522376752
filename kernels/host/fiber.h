// Stacks that are switched by hand: each CUDA thread of a block that has to wait is one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace emulator {

// Saves the callee-saved registers on the current stack, its pointer in `*save`, and goes on
// on the stack `to`.
extern "C" void emu_switch(void** save, void* to);

// Stacks of one host thread, made as they are needed.
class Stacks {
  public:
    static constexpr size_t BYTES = 256 << 10;
    // A thread that leaves less than this has overflowed its stack.
    static constexpr size_t RESERVE_BYTES = 64 << 10;

    Stacks();
    ~Stacks();
    Stacks(const Stacks&) = delete;

    static constexpr uint32_t NONE = UINT32_MAX;

    // A stack that nobody uses, or NONE where the system has no memory for it.
    uint32_t take();
    void give(uint32_t stack) { free_.push_back(stack); }
    // All are unused from now on.
    void reset();
    // A stack pointer that starts `entry` at the top of a stack.
    void* start(uint32_t stack, void (*entry)()) const;

    bool contains(uintptr_t address) const { return address - base_ < MOST * BYTES; }
    // The lowest address a thread on this stack may reach.
    uintptr_t limit(uint32_t stack) const { return base_ + stack * BYTES + RESERVE_BYTES; }

    static constexpr size_t MOST = 1025;

  private:
    uintptr_t base_;
    uint32_t made_ = 0;
    std::vector<uint32_t> free_;
};

}  // namespace emulator
