#include "shared.h"

#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "memory.h"
#include "worker.h"

namespace emulator {

namespace {
constexpr uint64_t RED_ZONE_BYTES = 256;
// `SHARED` aligns to 16 bytes on a GPU, dynamic shared memory to 128.
constexpr uint64_t STATIC_ALIGN_BYTES = 16, DYNAMIC_ALIGN_BYTES = 128;
}  // namespace

SharedMemory::SharedMemory(uint32_t worker)
    : base_(memory_base + GLOBAL_BYTES + worker * SHARED_STRIDE_BYTES) {}

void SharedMemory::start_block(uint32_t dynamic_bytes, uint32_t limit_bytes) {
    memset(shadow(base_), NOT_ALLOCATED, used_);
    used_ = RED_ZONE_BYTES;
    static_bytes_ = 0;
    n_arrays_ = 0;
    dynamic_bytes_ = dynamic_bytes;
    limit_bytes_ = limit_bytes;
    dynamic_ = place(dynamic_bytes, DYNAMIC_ALIGN_BYTES);
}

// Address of so many bytes with a red zone behind them.
uintptr_t SharedMemory::place(uint64_t bytes, uint64_t align) {
    uint64_t offset = (used_ + align - 1) / align * align;
    memset(shadow(base_ + offset), NEVER_WRITTEN, bytes);
    used_ = offset + bytes + RED_ZONE_BYTES;
    return base_ + offset;
}

void* SharedMemory::array(Worker& worker, const EmuShared* declared, uintptr_t pc) {
    for (uint32_t i = 0; i < n_arrays_; i++) {
        if (arrays_[i].declared == declared) return reinterpret_cast<void*>(arrays_[i].address);
    }
    if (n_arrays_ == MOST_ARRAYS) worker.fault(pc, "more than %u shared arrays", MOST_ARRAYS);
    uint64_t align = declared->align > STATIC_ALIGN_BYTES ? declared->align : STATIC_ALIGN_BYTES;
    static_bytes_ = (static_bytes_ + align - 1) / align * align + declared->bytes;
    if (static_bytes_ > MOST_STATIC_BYTES) {
        worker.fault(pc, "declares %s, which makes %" PRIu64 " bytes of static shared memory, of "
                         "which there are %u; use dynamic shared memory", declared->name,
                     static_bytes_, MOST_STATIC_BYTES);
    }
    if (static_bytes_ + dynamic_bytes_ > limit_bytes_) {
        worker.fault(pc, "declares %s, which makes %" PRIu64 " bytes of static and %u of dynamic "
                         "shared memory, of which there are %u together", declared->name,
                     static_bytes_, dynamic_bytes_, limit_bytes_);
    }
    uintptr_t address = place(declared->bytes, align);
    arrays_[n_arrays_++] = {declared, address};
    return reinterpret_cast<void*>(address);
}

void SharedMemory::describe(uintptr_t address, char* text, size_t size) const {
    const char* name = "dynamic shared memory";
    uint64_t bytes = dynamic_bytes_;
    uintptr_t start = dynamic_;
    // The last array that starts at or before the address.
    for (uint32_t i = 0; i < n_arrays_; i++) {
        if (arrays_[i].address > address) break;
        name = arrays_[i].declared->name;
        bytes = arrays_[i].declared->bytes;
        start = arrays_[i].address;
    }
    if (address < start) {
        snprintf(text, size, "%" PRIu64 " bytes before the start of shared memory",
                 uint64_t(start - address));
    } else if (address - start < bytes) {
        snprintf(text, size, "byte %" PRIu64 " of %s (%" PRIu64 " bytes, shared)",
                 uint64_t(address - start), name, bytes);
    } else {
        snprintf(text, size, "%" PRIu64 " bytes past the end of %s (%" PRIu64 " bytes, shared)",
                 uint64_t(address - start - bytes), name, bytes);
    }
}

}  // namespace emulator

using namespace emulator;

void* emu_shared(const EmuShared* array) {
    uintptr_t pc = uintptr_t(__builtin_return_address(0));
    return this_worker->shared.array(*this_worker, array, pc);
}
void* emu_dynamic_shared() { return this_worker->shared.dynamic(); }
