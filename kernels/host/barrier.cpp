// Barriers of a block, and threads that end.

#include <cinttypes>

#include "worker.h"

namespace emulator {

void Worker::set_waiting(State state, uintptr_t pc, uint32_t waits_for) {
    Thread& t = thread();
    t.state = state;
    t.pc = pc;
    t.waits_for = waits_for;
}

void Worker::barrier(uintptr_t pc) {
    uint32_t exited = warps_[current / WARP].exited;
    if (exited) {
        fault(pc, "waits for the block's barrier, which lanes 0x%08x of its warp never reach: "
                  "they have returned", exited);
    }
    set_waiting(State::AT_BARRIER, pc, 0);
    if (++at_barrier_ == live_) complete_barrier();
    run_others();
}

void Worker::complete_barrier() {
    at_barrier_ = 0;
    races.barrier();
    counters.totals.barriers++;
    size_t first = ready_.size();
    for (uint32_t t = n_threads; t-- > 0;) {
        if (threads_[t].state == State::AT_BARRIER) make_ready(t);
    }
    shuffle_ready(first);
}

void Worker::named_barrier(uint32_t id, uint32_t count, bool waits, uintptr_t pc) {
    if (id == 0 || id >= NAMED_BARRIERS || count == 0 || count % WARP || count > n_threads) {
        fault(pc, "uses barrier %u with %u threads; there are barriers 1 to %u, and the threads "
                  "are a multiple of 32 and at most the block's %u", id, count,
              NAMED_BARRIERS - 1, n_threads);
    }
    NamedBarrier& b = named_[id];
    if (b.arrived && b.expected != count) {
        fault(pc, "comes to barrier %u with %u threads, where others wait for %u", id, count,
              b.expected);
    }
    b.expected = count;
    races.arrive(id, current);
    if (waits) set_waiting(State::AT_NAMED_BARRIER, pc, id);
    if (++b.arrived == count) {
        b.arrived = 0;
        size_t first = ready_.size();
        for (uint32_t t = n_threads; t-- > 0;) {
            const Thread& other = threads_[t];
            if (other.state != State::AT_NAMED_BARRIER || other.waits_for != id) continue;
            races.leave(id, t);
            make_ready(t);
        }
        races.complete(id);
        counters.totals.barriers++;
        shuffle_ready(first);
    }
    if (waits) run_others();
}

void Worker::exit_thread() {
    Warp& warp = warps_[current / WARP];
    uint32_t lane = 1u << current % WARP;
    for (uint32_t i = 0; i < warp.n_meetings; i++) {
        const Meeting& m = warp.meetings[i];
        if (!(m.mask & lane)) continue;
        uint32_t waiting = current / WARP * WARP + uint32_t(__builtin_ctz(m.arrived));
        fault(threads_[waiting].pc, "has returned, but lanes 0x%08x wait for it in an operation "
                                    "among lanes 0x%08x", m.arrived, m.mask);
    }
    // As on the hardware, threads that have returned are not waited for; but a warp comes to a
    // barrier as one.
    uint32_t first = current / WARP * WARP;
    for (uint32_t t = first; t < first + WARP && t < n_threads; t++) {
        if (threads_[t].state != State::AT_BARRIER) continue;
        fault(threads_[t].pc, "has returned, but thread %u of its warp waits at this barrier", t);
    }
    warp.exited |= lane;
    thread().state = State::EXITED;
    live_--;
    if (live_ && at_barrier_ == live_) complete_barrier();
}

}  // namespace emulator

using namespace emulator;

#define PC uintptr_t(__builtin_return_address(0))

void emu_barrier() { this_worker->barrier(PC); }
void emu_named_barrier(uint32_t id, uint32_t threads, bool wait) {
    this_worker->named_barrier(id, threads, wait, PC);
}
