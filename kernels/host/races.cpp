#include "races.h"

#include <algorithm>

#include "memory.h"
#include "worker.h"

namespace emulator {

Races::Races()
    : entries_(SHARED_STRIDE_BYTES / 4), clocks_(MOST_THREADS), near_(MOST_THREADS * WARP) {}

void Races::start_block(uint32_t n_threads) {
    n_threads_ = n_threads;
    uses_named_ = false;
    // Clocks of former blocks are below the horizon, so nothing has to be cleared.
    if (now_ < 0xf0000000) {
        barrier();
        return;
    }
    std::fill(entries_.begin(), entries_.end(), Entry{});
    for (auto* clocks : {&clocks_, &near_, &far_, &named_}) {
        std::fill(clocks->begin(), clocks->end(), 0);
    }
    now_ = horizon_ = 1;
}

bool Races::is_ordered(Slot s, uint32_t before) const {
    uint32_t t = thread(s);
    bool same_warp = t / WARP == before / WARP;
    if (same_warp && clock(s) <= near_[before * WARP + t % WARP]) return true;
    return uses_named_ && clock(s) <= far_[size_t(before) * n_threads_ + t];
}

void Races::warp_sync(uint32_t first, uint32_t mask) {
    uint32_t joined[WARP] = {};
    for (uint32_t lane = 0; lane < WARP; lane++) {
        if (!(mask >> lane & 1)) continue;
        const uint32_t* near = &near_[(first + lane) * WARP];
        for (uint32_t i = 0; i < WARP; i++) joined[i] = std::max(joined[i], near[i]);
        joined[lane] = std::max(joined[lane], clock_of(first + lane));
    }
    now_++;
    for (uint32_t lane = 0; lane < WARP; lane++) {
        if (!(mask >> lane & 1)) continue;
        std::copy(joined, joined + WARP, &near_[(first + lane) * WARP]);
        clocks_[first + lane] = now_;
    }
    if (!uses_named_) return;
    std::vector<uint32_t> all(n_threads_, 0);
    auto lanes = [&](auto f) {
        for (uint32_t lane = 0; lane < WARP; lane++) {
            if (mask >> lane & 1) f(far(first + lane));
        }
    };
    lanes([&](uint32_t* v) {
        for (uint32_t i = 0; i < n_threads_; i++) all[i] = std::max(all[i], v[i]);
    });
    lanes([&](uint32_t* v) { std::copy(all.begin(), all.end(), v); });
}

void Races::arrive(uint32_t id, uint32_t t) {
    if (!uses_named_) {
        far_.resize(std::max(far_.size(), size_t(n_threads_) * n_threads_));
        named_.resize(NAMED_BARRIERS * MOST_THREADS);
        std::fill(far_.begin(), far_.end(), 0);
        std::fill(named_.begin(), named_.end(), 0);
        uses_named_ = true;
    }
    uint32_t* all = &named_[id * MOST_THREADS];
    const uint32_t* own = far(t);
    for (uint32_t i = 0; i < n_threads_; i++) all[i] = std::max(all[i], own[i]);
    uint32_t first = t / WARP * WARP;
    for (uint32_t i = 0; i < WARP && first + i < n_threads_; i++) {
        all[first + i] = std::max(all[first + i], near_[t * WARP + i]);
    }
    all[t] = std::max(all[t], clock_of(t));
    // What it does from now on is not ordered by this barrier.
    clocks_[t] = ++now_;
}

void Races::leave(uint32_t id, uint32_t t) {
    const uint32_t* all = &named_[id * MOST_THREADS];
    uint32_t* own = far(t);
    for (uint32_t i = 0; i < n_threads_; i++) own[i] = std::max(own[i], all[i]);
}

void Races::complete(uint32_t id) {
    std::fill_n(&named_[id * MOST_THREADS], n_threads_, 0);
}

void Races::access(Worker& worker, Access kind, uint64_t offset, uint32_t bytes, uintptr_t pc) {
    if (!enabled) return;
    uint32_t me = worker.current;
    Slot base = slot(me, kind, pc);
    for (uint64_t at = offset; at < offset + bytes;) {
        uint64_t end = std::min((at | 3) + 1, offset + bytes);
        uint32_t in = ((1u << (end - at)) - 1) << (at & 3);
        Entry& e = entries_[at / 4];
        Slot mine = base | in;
        for (Slot w : e.writes) {
            if (conflicts(w, mine)) fault(worker, kind, w, true, at, pc);
        }
        if (kind == Access::READ) {
            read(e, mine);
        } else {
            for (Slot r : e.reads) {
                if (conflicts(r, mine)) fault(worker, kind, r, false, at, pc);
            }
            write(e, mine);
        }
        at = end;
    }
}

void Races::write(Entry& e, Slot mine) {
    // Readers of these bytes are ordered before this write, so what is ordered after it is
    // ordered after them too.
    for (Slot& r : e.reads) {
        if ((r & 15 & ~mine) == 0) r = 0;
    }
    if (mask(mine) == 15) {
        e.writes[0] = mine;
        e.writes[1] = 0;
        return;
    }
    for (Slot& w : e.writes) {
        if (is_old(w)) {
            w = mine;
            return;
        }
        if (thread(w) == thread(mine)) {
            w = merged(w, mine);
            return;
        }
    }
    e.writes[e.writes[0] & mine & 15 ? 0 : 1] = mine;
}

void Races::fault(Worker& worker, Access kind, Slot other, bool other_wrote, uint64_t offset,
                  uintptr_t pc) {
    char where[256];
    worker.shared.describe(worker.shared.base() + offset, where, sizeof(where));
    EmuIndex t = worker.index_of(thread(other));
    const char* mine = kind == Access::READ ? "reads" : "writes";
    worker.fault(pc, "%s %s, which thread (%u, %u, %u) %s at {pc:%zx}: a race, as no barrier orders "
                     "the two", mine, where, t.x, t.y, t.z, other_wrote ? "writes" : "reads",
                 sites.pc(site(other)));
}

}  // namespace emulator
