#include "global_races.h"

#include <sys/mman.h>

#include <algorithm>

#include "memory.h"
#include "worker.h"

namespace emulator {

bool GlobalRaces::start_launch() {
    if (!entries_) {
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        void* p = mmap(nullptr, GLOBAL_BYTES / 4 * sizeof(Entry), PROT_READ | PROT_WRITE, flags,
                       -1, 0);
        if (p == MAP_FAILED) return false;
        entries_ = static_cast<Entry*>(p);
    }
    launch_++;
    enabled = true;
    return true;
}

GlobalRaces::~GlobalRaces() {
    if (entries_) munmap(entries_, GLOBAL_BYTES / 4 * sizeof(Entry));
}

bool GlobalRaces::is_race(const Worker& w, uint64_t who, uint64_t tag, uint64_t mine,
                          uint64_t block) const {
    if (tag >> 32 != launch_) return false;
    if (others(tag) & mine & 15) return true;
    if ((tag & BLOCK) == block) return w.races.conflicts(who, mine);
    return (own(tag) & mine & 15) && !(Races::is_atomic(who) && Races::is_atomic(mine));
}

uint64_t GlobalRaces::after(uint64_t tag, uint64_t block, uint32_t bytes, bool was_atomic) const {
    uint32_t before = 0;
    if (tag >> 32 == launch_) {
        before = others(tag);
        if ((tag & BLOCK) == block) {
            bytes |= own(tag);
        } else if (!was_atomic) {
            before |= own(tag);
        }
    }
    return launch_ << 32 | uint64_t(bytes) << 28 | uint64_t(before) << 24 | block;
}

void GlobalRaces::access(Worker& w, Access kind, uint32_t block, uint64_t offset, uint32_t bytes,
                         uintptr_t pc) {
    uint64_t base = w.races.slot(w.current, kind, pc), me = block & BLOCK;
    for (uint64_t at = offset; at < offset + bytes;) {
        uint64_t end = std::min((at | 3) + 1, offset + bytes);
        uint32_t of_word = ((1u << (end - at)) - 1) << (at & 3);
        uint64_t mine = base | of_word;
        Entry& e = entries_[at / 4];
        if (is_race(w, e.writer, e.writer_tag, mine, me)) {
            fault(w, kind, e.writer, e.writer_tag, true, at, pc);
        }
        if (kind == Access::READ) {
            e.reader_tag = after(e.reader_tag, me, of_word, false);
            e.reader = mine;
        } else {
            if (is_race(w, e.reader, e.reader_tag, mine, me)) {
                fault(w, kind, e.reader, e.reader_tag, false, at, pc);
            }
            e.writer_tag = after(e.writer_tag, me, of_word, Races::is_atomic(e.writer));
            e.writer = mine;
        }
        at = end;
    }
}

void GlobalRaces::fault(Worker& w, Access kind, uint64_t other, uint64_t other_tag,
                        bool other_wrote, uint64_t offset, uintptr_t pc) {
    char where[256];
    describe_global(memory_base + offset, where, sizeof(where));
    EmuIndex t = w.index_of(Races::thread(other));
    uint32_t block = uint32_t(other_tag & BLOCK), x = w.grid_size.x, y = w.grid_size.y;
    const char* more = others(other_tag) ? " and other blocks" : "";
    w.fault(pc, "%s %s, which thread (%u, %u, %u) of block (%u, %u, %u)%s %s at {pc:%zx}: a race, "
                "as nothing orders the two", kind == Access::READ ? "reads" : "writes", where, t.x,
            t.y, t.z, block % x, block / x % y, block / x / y, more,
            other_wrote ? "wrote" : "read", w.races.sites.pc(Races::site(other)));
}

}  // namespace emulator
