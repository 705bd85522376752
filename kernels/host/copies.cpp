#include "copies.h"

#include <cstring>

#include "access.h"
#include "memory.h"
#include "worker.h"

namespace emulator {

void Copies::reset() {
    pending_.clear();
    group_ = 0;
}

void Copies::issue(Worker& worker, uintptr_t dst, uintptr_t src, uint32_t size, uint32_t bytes,
                   uintptr_t pc) {
    if (bytes > size) worker.fault(pc, "an asynchronous copy of %u bytes reads %u", size, bytes);
    if (dst % size || (bytes && src % size)) {
        worker.fault(pc, "an asynchronous copy of %u bytes between addresses that are no multiple "
                         "of it (shared 0x%zx, global 0x%zx)", size, dst, src);
    }
    if (!worker.shared.contains(dst)) {
        worker.fault(pc, "an asynchronous copy to an address that is not in shared memory");
    }
    if (bytes) check_access(worker, Access::READ, src, bytes, pc);
    check_access(worker, Access::WRITE, dst, size, pc);
    memset(shadow(dst), PENDING, size);
    if (worker.counters.enabled) {
        worker.counters.totals.copied_bytes += bytes;
        if (bytes) worker.counters.access(worker, Space::GLOBAL_READ, src, size, pc);
        worker.counters.access(worker, Space::SHARED, dst, size, pc);
    }
    pending_.push_back({dst, src, pc, size, bytes, group_});
}

void Copies::wait(Worker& worker, uint32_t groups_left) {
    size_t landed = 0;
    for (; landed < pending_.size(); landed++) {
        const Copy& c = pending_[landed];
        if (c.group + groups_left >= group_) break;
        if (c.bytes) check_access(worker, Access::READ, c.src, c.bytes, c.pc);
        memcpy(reinterpret_cast<void*>(c.dst), reinterpret_cast<void*>(c.src), c.bytes);
        memset(reinterpret_cast<void*>(c.dst + c.bytes), 0, c.size - c.bytes);
        memset(shadow(c.dst), WRITTEN, c.size);
        // The write happens now, whenever it was issued.
        check_access(worker, Access::WRITE, c.dst, c.size, c.pc);
    }
    pending_.erase(pending_.begin(), pending_.begin() + ptrdiff_t(landed));
}

}  // namespace emulator

using namespace emulator;

#define PC uintptr_t(__builtin_return_address(0))

void emu_copy_async(void* shared, const void* global, uint32_t size, uint32_t bytes) {
    Worker& w = *this_worker;
    w.thread().copies.issue(w, uintptr_t(shared), uintptr_t(global), size, bytes, PC);
}
void emu_copy_commit() { this_worker->thread().copies.commit(); }
void emu_copy_wait(uint32_t groups_left) {
    this_worker->thread().copies.wait(*this_worker, groups_left);
}
