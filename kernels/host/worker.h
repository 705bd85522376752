// A host thread that runs blocks: the threads of the block, which of them waits for what, and
// which runs next.
#pragma once

#include <atomic>
#include <cstdarg>
#include <cstdint>
#include <mutex>
#include <vector>

#include "copies.h"
#include "counters.h"
#include "emulator.h"
#include "fiber.h"
#include "global_races.h"
#include "intrinsics.h"
#include "races.h"
#include "shared.h"

namespace emulator {

constexpr uint32_t MOST_THREADS = 1024;
constexpr uint32_t WARP = 32;

// A launch, shared by the workers that run its blocks.
struct Launch {
    const EmuLaunch* spec;
    EmuRun run;
    void* const* pointers;
    uint64_t blocks;
    EmuMessage* message;
    std::atomic<uint64_t> next_block{0};
    std::atomic<bool> failed{false};
    std::mutex message_mutex;
};

enum class State : uint8_t {
    READY,
    AT_BARRIER,
    AT_NAMED_BARRIER,
    AT_WARP_OPERATION,
    EXITED,
};

// A CUDA thread of the block that runs.
struct Thread {
    void* sp;
    uint32_t stack;
    State state;
    // Where it waits, and at which named barrier or with which mask.
    uintptr_t pc;
    uint32_t waits_for;
    Copies copies;
};

// Lanes that meet at a warp operation; those of two meetings are disjoint.
struct Meeting {
    uint32_t mask, arrived;
    EmuWarpOperation operation;
};

struct Warp {
    uint32_t lanes, exited;
    uint32_t n_meetings;
    Meeting meetings[WARP];
    uint32_t value[WARP], argument[WARP], result[WARP];
    // Fragments of tensor operations, and rows of matrices that are loaded.
    uint32_t a[WARP][4], b[WARP][2];
    float d[WARP][4];
    uintptr_t row[WARP];
};

struct NamedBarrier {
    uint32_t expected, arrived;
};
constexpr uint32_t NAMED_BARRIERS = 16;

class Worker {
  public:
    explicit Worker(uint32_t number);

    // Runs blocks of a launch until there are no more or it has failed.
    void run(Launch& launch);

    // For the thread that runs now.
    // Ends the launch with a message, in the words of printf. `pc` is where it happened.
    [[noreturn]] void fault(uintptr_t pc, const char* format, ...)
        __attribute__((format(printf, 3, 4)));
    void barrier(uintptr_t pc);
    void named_barrier(uint32_t id, uint32_t count, bool waits, uintptr_t pc);
    uint32_t warp_operation(EmuWarpOperation operation, uint32_t mask, uint32_t value,
                            uint32_t argument, uintptr_t pc);

    Thread& thread() { return threads_[current]; }
    Warp& warp() { return warps_[current / WARP]; }
    EmuIndex index_of(uint32_t thread) const { return indices_[thread]; }

    uint32_t current = 0;
    EmuIndex thread_index, block_index, block_size, grid_size;
    uint32_t n_threads = 0;
    Stacks stacks;
    SharedMemory shared;
    Races races;
    GlobalRaces global_races;
    Counters counters;
    // Whether accesses to global memory have to be looked at beyond their shadow.
    bool watches_global = false;
    uint32_t block_number = 0;

  private:
    static void fiber_main();
    void run_block(uint64_t number);
    void start_block(uint64_t number);
    void exit_thread();
    // The thread that runs next. Without any: the block is done, or nobody can go on.
    uint32_t next_thread();
    void* stack_pointer(uint32_t thread);
    void set_current(uint32_t thread);
    // Runs other threads until the current one, whose state the caller has set, is ready.
    void run_others();
    // Adds a thread to those that can run; `shuffle_ready` orders those added since `first`.
    void make_ready(uint32_t thread) {
        threads_[thread].state = State::READY;
        ready_.push_back(thread);
    }
    void shuffle_ready(size_t first);
    [[noreturn]] void leave();
    void report(uintptr_t pc, const char* format, ...) __attribute__((format(printf, 3, 4)));
    void report_list(uintptr_t pc, const char* format, va_list args);
    [[noreturn]] void deadlock();
    void describe_waiting(char* text, size_t size) const;
    size_t describe_state(const Thread& thread, char* text, size_t size) const;
    void set_waiting(State state, uintptr_t pc, uint32_t waits_for);
    void complete_barrier();
    void multiply(Warp& warp, bool is_bf16);
    void load_matrices(uint32_t warp, uint32_t matrices, bool transposed, uintptr_t pc);
    void exchange(uint32_t warp, const Meeting& meeting, uintptr_t pc);
    void complete_meeting(uint32_t warp, const Meeting& meeting, uintptr_t pc);
    uint32_t random(uint32_t below);

    Launch* launch_ = nullptr;
    void* scheduler_sp_ = nullptr;
    uint32_t live_ = 0, at_barrier_ = 0;
    // Threads that can run, the next at the end.
    std::vector<uint32_t> ready_;
    std::vector<Thread> threads_;
    std::vector<Warp> warps_;
    // By thread; the same for all blocks of a launch.
    std::vector<EmuIndex> indices_;
    NamedBarrier named_[NAMED_BARRIERS];
    // Order of threads: as they come, shuffled where they are made ready, or any at any time.
    enum class Order { NATURAL, SHUFFLED, ANY } order_ = Order::NATURAL;
    uint64_t random_state_ = 0;
};

// The worker of this host thread while it runs blocks.
extern __thread Worker* this_worker __attribute__((tls_model("initial-exec")));

}  // namespace emulator
