#include "access.h"

#include <link.h>

#include <cstdio>
#include <cstring>
#include <vector>

#include "intrinsics.h"
#include "memory.h"
#include "worker.h"

namespace emulator {

namespace {

struct Range {
    uintptr_t start, end;
};

// Segments of the program that nobody can write: constants of kernels lie there.
bool is_constant(uintptr_t address) {
    static const std::vector<Range> constants = [] {
        std::vector<Range> found;
        dl_iterate_phdr(
            [](dl_phdr_info* info, size_t, void* out) {
                for (int i = 0; i < info->dlpi_phnum; i++) {
                    const auto& segment = info->dlpi_phdr[i];
                    if (segment.p_type != PT_LOAD && segment.p_type != PT_GNU_RELRO) continue;
                    if (segment.p_type == PT_LOAD && (segment.p_flags & PF_W)) continue;
                    uintptr_t start = info->dlpi_addr + segment.p_vaddr;
                    static_cast<std::vector<Range>*>(out)->push_back(
                        {start, start + segment.p_memsz});
                }
                return 0;
            },
            &found);
        return found;
    }();
    for (const Range& r : constants) {
        if (address - r.start < r.end - r.start) return true;
    }
    return false;
}

const char* verb(bool writes) { return writes ? "writes" : "reads"; }

[[noreturn]] void stack_overflow(Worker& w, uintptr_t pc) {
    w.fault(pc, "uses more than %zu bytes of local memory",
            Stacks::BYTES - Stacks::RESERVE_BYTES);
}

// An access outside of the region: a thread's own stack, a constant, or a fault.
__attribute__((noinline)) void check_elsewhere(Worker& w, uintptr_t address, uint32_t bytes,
                                               bool writes, uintptr_t pc) {
    if (w.stacks.contains(address)) {
        // Of a stack its thread sees what lies above the limit.
        uintptr_t low = w.stacks.limit(w.thread().stack);
        if (address - low < Stacks::BYTES - Stacks::RESERVE_BYTES) return;
        if (low - address <= Stacks::RESERVE_BYTES) stack_overflow(w, pc);
        w.fault(pc, "%s %u bytes of another thread's local memory", verb(writes), bytes);
    }
    if (is_constant(address)) {
        if (!writes) return;
        w.fault(pc, "writes %u bytes to a constant", bytes);
    }
    w.fault(pc, "%s %u bytes at 0x%zx, which is no memory of the device", verb(writes), bytes,
            address);
}

// Says what is wrong with an access within the region, if anything.
__attribute__((noinline)) void check_bytes(Worker& w, uintptr_t address, uint32_t bytes,
                                           bool writes, uintptr_t pc) {
    char where[256];
    bool is_shared = address - memory_base >= GLOBAL_BYTES;
    auto describe = [&](uintptr_t at) {
        if (is_shared) {
            w.shared.describe(at, where, sizeof(where));
        } else {
            describe_global(at, where, sizeof(where));
        }
    };
    uint8_t* state = shadow(address);
    for (uint32_t i = 0; i < bytes; i++) {
        if (state[i] == NOT_ALLOCATED || (is_shared && !w.shared.contains(address + i))) {
            describe(address + i);
            w.fault(pc, "%s %u bytes out of bounds: %s", verb(writes), bytes, where);
        }
        if (state[i] == PENDING) {
            describe(address + i);
            w.fault(pc, "%s %u bytes where an asynchronous copy that nobody has waited for is "
                        "under way: %s", verb(writes), bytes, where);
        }
        if (!writes && state[i] != WRITTEN) {
            describe(address + i);
            w.fault(pc, "reads %u bytes that nothing wrote: %s", bytes, where);
        }
    }
    if (writes) memset(state, WRITTEN, bytes);
}

// The shadow of an access of 1, 2, 4 or 8 bytes in one word.
template <typename Word>
constexpr Word ALL_WRITTEN = Word(0x0202020202020202u);
template <typename Word>
constexpr Word ALL_UNWRITTEN = Word(0x0101010101010101u);

template <typename Word, bool WRITES>
inline __attribute__((always_inline)) bool is_fine(uintptr_t address) {
    auto* state = reinterpret_cast<Word*>(shadow(address));
    if (*state == ALL_WRITTEN<Word>) return true;
    if (WRITES && *state == ALL_UNWRITTEN<Word>) {
        *state = ALL_WRITTEN<Word>;
        return true;
    }
    return false;
}

template <uint32_t BYTES, bool WRITES>
inline __attribute__((always_inline)) bool is_fine_at(uintptr_t address) {
    if constexpr (BYTES == 1) return is_fine<uint8_t, WRITES>(address);
    if constexpr (BYTES == 2) return is_fine<uint16_t, WRITES>(address);
    if constexpr (BYTES == 4) return is_fine<uint32_t, WRITES>(address);
    if constexpr (BYTES == 8) return is_fine<uint64_t, WRITES>(address);
    if constexpr (BYTES == 16) {
        return is_fine<uint64_t, WRITES>(address) && is_fine<uint64_t, WRITES>(address + 8);
    }
}

[[noreturn]] __attribute__((noinline)) void misaligned(Worker& w, uintptr_t address,
                                                       uint32_t bytes, bool writes,
                                                       uintptr_t pc) {
    char where[256];
    if (address - memory_base >= GLOBAL_BYTES) {
        w.shared.describe(address, where, sizeof(where));
    } else {
        describe_global(address, where, sizeof(where));
    }
    w.fault(pc, "%s %u bytes at an address that is no multiple of %u: %s", verb(writes), bytes,
            bytes, where);
}

void check_global_race(Worker& w, Access kind, uintptr_t address, uint32_t bytes, uintptr_t pc) {
    if (!w.global_races.enabled) return;
    w.global_races.access(w, kind, w.block_number, address - memory_base, bytes, pc);
}

// An access that is not just one to global memory that has been written.
template <uint32_t BYTES, bool WRITES>
__attribute__((noinline)) void access_checked(uintptr_t address, uintptr_t pc) {
    Worker* w = this_worker;
    if (address - memory_base >= MEMORY_BYTES) {
        // Constructors of the kernel table run without a worker.
        if (w) check_elsewhere(*w, address, BYTES, WRITES, pc);
        return;
    }
    if (address % BYTES) misaligned(*w, address, BYTES, WRITES, pc);
    if (!is_fine_at<BYTES, WRITES>(address)) check_bytes(*w, address, BYTES, WRITES, pc);
    if (address - memory_base < GLOBAL_BYTES) {
        constexpr Space SPACE = WRITES ? Space::GLOBAL_WRITE : Space::GLOBAL_READ;
        constexpr Access KIND = WRITES ? Access::WRITE : Access::READ;
        if (!w->watches_global) return;
        check_global_race(*w, KIND, address, BYTES, pc);
        if (w->counters.enabled) w->counters.access(*w, SPACE, address, BYTES, pc);
        return;
    }
    if (!w->shared.contains(address)) check_bytes(*w, address, BYTES, WRITES, pc);
    uint64_t offset = address - w->shared.base();
    if (!w->races.quick_access<BYTES, WRITES>(w->current, offset, pc)) {
        w->races.access(*w, WRITES ? Access::WRITE : Access::READ, offset, BYTES, pc);
    }
    if (w->counters.enabled) w->counters.access(*w, Space::SHARED, address, BYTES, pc);
}

template <uint32_t BYTES, bool WRITES>
inline __attribute__((always_inline)) void access(void* p, uintptr_t pc) {
    uintptr_t address = uintptr_t(p);
    bool is_plain = address - memory_base < GLOBAL_BYTES && address % BYTES == 0 &&
                    is_fine_at<BYTES, false>(address) && !this_worker->watches_global;
    if (!is_plain) access_checked<BYTES, WRITES>(address, pc);
}

// Counts a struct that is copied as a whole, in pieces as wide as its address allows.
void count_range(Worker& w, uintptr_t address, uint32_t bytes, bool writes, uintptr_t pc) {
    if (!w.counters.enabled) return;
    bool is_shared = w.shared.contains(address);
    Space space = is_shared ? Space::SHARED : writes ? Space::GLOBAL_WRITE : Space::GLOBAL_READ;
    while (bytes > 0) {
        uint32_t piece = 16;
        while (piece > bytes || address % piece) piece /= 2;
        w.counters.access(w, space, address, piece, pc);
        address += piece;
        bytes -= piece;
    }
}

void access_range(uintptr_t address, uint32_t bytes, bool writes, uintptr_t pc) {
    Worker* w = this_worker;
    if (!w || bytes == 0) return;
    if (address - memory_base >= MEMORY_BYTES) {
        check_elsewhere(*w, address, bytes, writes, pc);
    } else {
        check_access(*w, writes ? Access::WRITE : Access::READ, address, bytes, pc);
        count_range(*w, address, bytes, writes, pc);
    }
}

template <typename T>
T atomic_add(T* p, T value, uintptr_t pc) {
    Worker& w = *this_worker;
    uintptr_t address = uintptr_t(p);
    if (address % sizeof(T)) misaligned(w, address, sizeof(T), true, pc);
    check_access(w, Access::ATOMIC, address, sizeof(T), pc);
    w.counters.totals.atomics++;
    return __atomic_fetch_add(p, value, __ATOMIC_SEQ_CST);
}

}  // namespace

void check_access(Worker& w, Access kind, uintptr_t address, uint32_t bytes, uintptr_t pc) {
    bool writes = kind != Access::READ;
    if (address - memory_base >= MEMORY_BYTES) {
        w.fault(pc, "%s %u bytes at 0x%zx, which is no memory of the device", verb(writes), bytes,
                address);
    }
    // An atomic operation reads, too.
    check_bytes(w, address, bytes, kind == Access::WRITE, pc);
    if (w.shared.contains(address)) {
        w.races.access(w, kind, address - w.shared.base(), bytes, pc);
    } else {
        check_global_race(w, kind, address, bytes, pc);
    }
}

}  // namespace emulator

using namespace emulator;

#define PC uintptr_t(__builtin_return_address(0))
#define HOOKS(bytes)                                                             \
    void __tsan_read##bytes(void* p) { access<bytes, false>(p, PC); }            \
    void __tsan_write##bytes(void* p) { access<bytes, true>(p, PC); }            \
    void __tsan_unaligned_read##bytes(void* p) { access<bytes, false>(p, PC); }  \
    void __tsan_unaligned_write##bytes(void* p) { access<bytes, true>(p, PC); }  \
    void __tsan_volatile_read##bytes(void* p) { access<bytes, false>(p, PC); }   \
    void __tsan_volatile_write##bytes(void* p) { access<bytes, true>(p, PC); }

extern "C" {

HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)

void __tsan_read_range(void* p, size_t bytes) {
    access_range(uintptr_t(p), uint32_t(bytes), false, PC);
}
void __tsan_write_range(void* p, size_t bytes) {
    access_range(uintptr_t(p), uint32_t(bytes), true, PC);
}
// What clang makes of copies and fills.
void* __tsan_memcpy(void* dst, const void* src, size_t bytes) {
    access_range(uintptr_t(src), uint32_t(bytes), false, PC);
    access_range(uintptr_t(dst), uint32_t(bytes), true, PC);
    return memcpy(dst, src, bytes);
}
void* __tsan_memmove(void* dst, const void* src, size_t bytes) {
    access_range(uintptr_t(src), uint32_t(bytes), false, PC);
    access_range(uintptr_t(dst), uint32_t(bytes), true, PC);
    return memmove(dst, src, bytes);
}
void* __tsan_memset(void* dst, int value, size_t bytes) {
    access_range(uintptr_t(dst), uint32_t(bytes), true, PC);
    return memset(dst, value, bytes);
}
void __tsan_init() {}
void __tsan_func_exit() {}
void __tsan_func_entry(void*) {
    Worker* w = this_worker;
    uintptr_t sp = uintptr_t(__builtin_frame_address(0));
    if (w && w->stacks.contains(sp) && sp < w->stacks.limit(w->thread().stack)) {
        stack_overflow(*w, PC);
    }
}

uint32_t emu_atomic_add(uint32_t* p, uint32_t value) { return atomic_add(p, value, PC); }
unsigned long long emu_atomic_add_64(unsigned long long* p, unsigned long long value) {
    return atomic_add(p, value, PC);
}
}
