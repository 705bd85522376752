// Races on the shared memory of a block. Two accesses to the same bytes by two threads, one of
// them a write, race unless barriers order them.
//
// Time is a counter of the worker. Each thread has a clock, which a synchronisation that it
// takes part in moves on; an access is kept with its thread's clock. A barrier of the block
// orders all before it: one number, the horizon, says so. What `warp_sync` and named barriers
// order is kept by vectors of clocks: the latest clock of each other thread that this thread
// has synchronised with. For each four bytes the last two writers and two of the readers are
// remembered, which is exact where only barriers of the block are used, and may miss a race, but
// never invents one, where others are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "sites.h"

namespace emulator {

class Worker;

enum class Access : uint8_t { READ, WRITE, ATOMIC };

class Races {
  public:
    Races();

    // All that happened before is ordered before all that follows.
    void start_block(uint32_t n_threads);
    void barrier() { horizon_ = ++now_; }
    // The lanes of `mask` of the warp that starts at thread `first` order their accesses.
    void warp_sync(uint32_t first, uint32_t mask);
    // Thread `t` comes to a named barrier, and, when all have come, leaves it.
    void arrive(uint32_t id, uint32_t t);
    void leave(uint32_t id, uint32_t t);
    void complete(uint32_t id);

    // Thread `worker.current` accesses bytes of the arena. A fault where that is a race.
    void access(Worker& worker, Access kind, uint64_t offset, uint32_t bytes, uintptr_t pc);

    // The same for whole words where it is plain that there is no race; false where it is not.
    template <uint32_t BYTES, bool WRITES>
    bool quick_access(uint32_t me, uint64_t offset, uintptr_t pc);

    Sites sites;
    bool enabled = true;

    // An access: clock 32 bits, site 17, atomic 1, thread 10, bytes of the four 4.
    using Slot = uint64_t;

    // An access of thread `t` now, without its bytes.
    Slot slot(uint32_t t, Access kind, uintptr_t pc) {
        return Slot(clock_of(t)) << 32 | Slot(sites.of(pc)) << 15 |
               Slot(kind == Access::ATOMIC) << 14 | Slot(t) << 4;
    }
    static uint32_t site(Slot s) { return uint32_t(s >> 15) & (Sites::MOST - 1); }
    static bool is_atomic(Slot s) { return s >> 14 & 1; }
    static uint32_t thread(Slot s) { return uint32_t(s >> 4) & 1023; }
    // Whether two accesses of this block are to the same bytes, and not ordered.
    bool conflicts(Slot s, Slot with) const {
        return !is_old(s) && (s & with & 15) && thread(s) != thread(with) &&
               !(is_atomic(s) && is_atomic(with)) && !is_ordered(s, thread(with));
    }

  private:
    struct Entry {
        Slot writes[2], reads[2];
    };

    static uint32_t clock(Slot s) { return uint32_t(s >> 32); }
    static uint32_t mask(Slot s) { return uint32_t(s) & 15; }

    bool is_old(Slot s) const { return clock(s) < horizon_; }
    uint32_t clock_of(uint32_t t) const { return clocks_[t] < horizon_ ? horizon_ : clocks_[t]; }
    bool is_ordered(Slot s, uint32_t before) const;
    static Slot merged(Slot before, Slot mine);
    void read(Entry& e, Slot mine);
    void write(Entry& e, Slot mine);
    [[noreturn]] void fault(Worker& worker, Access kind, Slot other, bool other_wrote,
                            uint64_t offset, uintptr_t pc);
    uint32_t* far(uint32_t t) { return &far_[std::size_t(t) * n_threads_]; }

    std::vector<Entry> entries_;
    uint32_t now_ = 1, horizon_ = 1;
    uint32_t n_threads_ = 0;
    std::vector<uint32_t> clocks_;
    // By thread and lane of its own warp.
    std::vector<uint32_t> near_;
    // By thread and thread, and by named barrier and thread; made where a block uses named
    // barriers.
    std::vector<uint32_t> far_, named_;
    bool uses_named_ = false;
};

template <uint32_t BYTES, bool WRITES>
inline bool Races::quick_access(uint32_t me, uint64_t offset, uintptr_t pc) {
    if (!enabled) return true;
    if (BYTES < 4) return false;
    Slot mine = slot(me, WRITES ? Access::WRITE : Access::READ, pc) | 15;
    auto is_free = [&](Slot s) { return is_old(s) || thread(s) == me; };
    for (Entry* e = &entries_[offset / 4]; e < &entries_[offset / 4] + BYTES / 4; e++) {
        if (!is_free(e->writes[0]) || !is_free(e->writes[1])) return false;
        if (WRITES) {
            if (!is_free(e->reads[0]) || !is_free(e->reads[1])) return false;
            *e = {{mine, 0}, {0, 0}};
        } else if (is_free(e->reads[0])) {
            e->reads[0] = mine;
        } else {
            read(*e, mine);
        }
    }
    return true;
}

// A later access of the same thread in place of an earlier one. The earlier one's bytes stay
// where no synchronisation lies between.
inline uint64_t Races::merged(Slot before, Slot mine) {
    return before >> 32 == mine >> 32 ? mine | (before & 15) : mine;
}

inline void Races::read(Entry& e, Slot mine) {
    uint32_t me = thread(mine);
    for (Slot& r : e.reads) {
        if (is_old(r)) {
            r = mine;
            return;
        }
        if (thread(r) == me) {
            r = merged(r, mine);
            return;
        }
    }
    // The first reader stays; the second is one of another warp where there is any.
    uint32_t warp = thread(e.reads[0]) / 32;
    if (thread(e.reads[1]) / 32 != warp && me / 32 == warp) return;
    e.reads[1] = mine;
}

}  // namespace emulator
