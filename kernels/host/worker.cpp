#include "worker.h"

#include <cinttypes>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "memory.h"

namespace emulator {

__thread Worker* this_worker = nullptr;

namespace {

uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

uint64_t greatest_common_divisor(uint64_t a, uint64_t b) {
    return b ? greatest_common_divisor(b, a % b) : a;
}

// The block that runs as the i-th of n: a permutation that depends on the seed.
uint64_t permuted(uint64_t i, uint64_t n, uint64_t seed) {
    if (seed == 0) return i;
    uint64_t step = mix(seed) % n;
    while (greatest_common_divisor(step, n) != 1) step = (step + 1) % n;
    return uint64_t((__uint128_t(i) * step + mix(seed + 1)) % n);
}

}  // namespace

Worker::Worker(uint32_t number) : shared(number), threads_(MOST_THREADS), warps_(WARP) {
    ready_.reserve(MOST_THREADS);
}

uint32_t Worker::random(uint32_t below) {
    random_state_ += 0x9e3779b97f4a7c15u;
    return uint32_t((mix(random_state_) >> 32) * below >> 32);
}

void Worker::set_current(uint32_t t) {
    current = t;
    thread_index = index_of(t);
}

void Worker::run(Launch& launch) {
    launch_ = &launch;
    const EmuLaunch& spec = *launch.spec;
    block_size = {spec.block[0], spec.block[1], spec.block[2]};
    grid_size = {spec.grid[0], spec.grid[1], spec.grid[2]};
    n_threads = block_size.x * block_size.y * block_size.z;
    indices_.clear();
    for (uint32_t z = 0; z < block_size.z; z++) {
        for (uint32_t y = 0; y < block_size.y; y++) {
            for (uint32_t x = 0; x < block_size.x; x++) indices_.push_back({x, y, z});
        }
    }
    races.enabled = spec.races != EMU_RACES_NOWHERE;
    counters.enabled = spec.counts != 0;
    global_races.enabled = false;
    if (spec.races == EMU_RACES_EVERYWHERE && !global_races.start_launch()) {
        report(0, "finds no address space to look for races on global memory");
    }
    watches_global = counters.enabled || global_races.enabled;
    this_worker = this;
    for (;;) {
        uint64_t i = launch.next_block.fetch_add(1, std::memory_order_relaxed);
        if (i >= launch.blocks || launch.failed.load(std::memory_order_relaxed)) break;
        run_block(permuted(i, launch.blocks, spec.seed));
    }
    this_worker = nullptr;
}

void Worker::start_block(uint64_t number) {
    uint64_t seed = launch_->spec->seed;
    block_number = uint32_t(number);
    random_state_ = mix(seed ^ mix(number));
    order_ = seed == 0 ? Order::NATURAL : seed % 2 ? Order::ANY : Order::SHUFFLED;
    block_index = {uint32_t(number % grid_size.x), uint32_t(number / grid_size.x % grid_size.y),
                   uint32_t(number / grid_size.x / grid_size.y)};
    shared.start_block(launch_->spec->shared_bytes, launch_->spec->shared_limit_bytes);
    races.start_block(n_threads);
    stacks.reset();
    live_ = n_threads;
    at_barrier_ = 0;
    ready_.clear();
    memset(named_, 0, sizeof(named_));
    for (uint32_t w = 0; w * WARP < n_threads; w++) {
        uint32_t lanes = n_threads - w * WARP;
        warps_[w].lanes = lanes >= WARP ? ~0u : (1u << lanes) - 1;
        warps_[w].exited = 0;
        warps_[w].n_meetings = 0;
    }
    for (uint32_t t = 0; t < n_threads; t++) {
        threads_[t].stack = Stacks::NONE;
        threads_[t].copies.reset();
    }
    for (uint32_t t = n_threads; t-- > 0;) make_ready(t);
    shuffle_ready(0);
}

void Worker::shuffle_ready(size_t first) {
    if (order_ == Order::NATURAL || ready_.size() < 2) return;
    for (size_t i = ready_.size() - 1; i > first; i--) {
        std::swap(ready_[i], ready_[first + random(uint32_t(i - first + 1))]);
    }
}

void Worker::run_block(uint64_t number) {
    start_block(number);
    set_current(next_thread());
    void* sp = stack_pointer(current);
    if (sp) {
        emu_switch(&scheduler_sp_, sp);
        if (counters.enabled) counters.end_block();
    } else {
        report(0, "finds no memory for its stack");
    }
}

void Worker::fiber_main() {
    Worker& w = *this_worker;
    for (;;) {
        w.launch_->run(w.launch_->pointers, w.launch_->spec->params);
        w.exit_thread();
        if (w.live_ == 0) w.leave();
        uint32_t stack = w.thread().stack;
        uint32_t next = w.next_thread();
        w.set_current(next);
        if (w.thread().stack == Stacks::NONE) {
            // It starts where this one ended: kernels that never wait never switch.
            w.thread().stack = stack;
            continue;
        }
        w.stacks.give(stack);
        void* unused;
        emu_switch(&unused, w.thread().sp);
    }
}

void* Worker::stack_pointer(uint32_t t) {
    if (threads_[t].stack != Stacks::NONE) return threads_[t].sp;
    uint32_t stack = stacks.take();
    if (stack == Stacks::NONE) return nullptr;
    threads_[t].stack = stack;
    return stacks.start(stack, fiber_main);
}

uint32_t Worker::next_thread() {
    if (ready_.empty()) deadlock();
    if (order_ == Order::ANY) {
        std::swap(ready_.back(), ready_[random(uint32_t(ready_.size()))]);
    }
    uint32_t next = ready_.back();
    ready_.pop_back();
    return next;
}

void Worker::run_others() {
    uint32_t self = current, next = next_thread();
    if (next == self) return;
    void* sp = stack_pointer(next);
    if (!sp) fault(0, "waits, and there is no memory for the stack of another thread");
    set_current(next);
    emu_switch(&threads_[self].sp, sp);
}

void Worker::leave() {
    void* unused;
    emu_switch(&unused, scheduler_sp_);
    __builtin_unreachable();
}

void Worker::report(uintptr_t pc, const char* format, ...) {
    va_list args;
    va_start(args, format);
    report_list(pc, format, args);
    va_end(args);
}

void Worker::fault(uintptr_t pc, const char* format, ...) {
    va_list args;
    va_start(args, format);
    report_list(pc, format, args);
    va_end(args);
    leave();
}

void Worker::report_list(uintptr_t pc, const char* format, va_list args) {
    // The first fault of a launch is the one that is told.
    if (launch_->failed.exchange(true)) return;
    std::lock_guard lock(launch_->message_mutex);
    char* text = launch_->message->text;
    size_t size = sizeof(launch_->message->text), used = 0;
    EmuIndex t = thread_index, b = block_index;
    if (pc) used += size_t(snprintf(text, size, "{pc:%zx}: ", pc));
    used += size_t(snprintf(text + used, size - used, "thread (%u, %u, %u) of block (%u, %u, %u) ",
                            t.x, t.y, t.z, b.x, b.y, b.z));
    vsnprintf(text + used, size - used, format, args);
}

void Worker::deadlock() {
    char waiting[4000];
    describe_waiting(waiting, sizeof(waiting));
    fault(0, "is the last that could run, and all others wait for ever:%s", waiting);
}

// One line for each set of threads that wait for the same thing at the same place.
void Worker::describe_waiting(char* text, size_t size) const {
    size_t used = 0;
    text[0] = 0;
    std::vector<bool> told(n_threads, false);
    for (uint32_t t = 0; t < n_threads && used + 300 < size; t++) {
        const Thread& a = threads_[t];
        if (told[t] || a.state == State::READY) continue;
        uint32_t count = 0, last = t;
        for (uint32_t u = t; u < n_threads; u++) {
            const Thread& b = threads_[u];
            bool same = a.state == b.state &&
                        (a.state == State::EXITED ||
                         (a.pc == b.pc && a.waits_for == b.waits_for));
            if (!same) continue;
            told[u] = true;
            last = u;
            count++;
        }
        used += size_t(snprintf(text + used, size - used, "\n  %u threads (%u to %u) ", count, t,
                                last));
        used += describe_state(a, text + used, size - used);
    }
}

size_t Worker::describe_state(const Thread& t, char* text, size_t size) const {
    switch (t.state) {
        case State::READY: return size_t(snprintf(text, size, "can run"));
        case State::EXITED: return size_t(snprintf(text, size, "have returned"));
        case State::AT_BARRIER:
            return size_t(snprintf(text, size, "wait for the block's barrier at {pc:%zx}", t.pc));
        case State::AT_NAMED_BARRIER:
            return size_t(snprintf(text, size, "wait for barrier %u at {pc:%zx}", t.waits_for,
                                   t.pc));
        case State::AT_WARP_OPERATION:
            return size_t(snprintf(text, size,
                                   "wait for lanes 0x%08x of their warp at {pc:%zx}", t.waits_for,
                                   t.pc));
    }
    return 0;
}

}  // namespace emulator

using namespace emulator;

EmuIndex emu_thread_index() { return this_worker->thread_index; }
EmuIndex emu_block_index() { return this_worker->block_index; }
EmuIndex emu_block_size() { return this_worker->block_size; }
EmuIndex emu_grid_size() { return this_worker->grid_size; }
