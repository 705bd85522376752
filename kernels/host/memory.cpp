#include "memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cinttypes>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>

namespace emulator {

uintptr_t memory_base = 0;

namespace {

constexpr uint64_t PAGE_BYTES = 4096;
// Allocations are aligned to this and, so that nobody relies on more, to no more.
constexpr uint64_t ALIGN_BYTES = 256;
// At least so much that is not allocated lies between two allocations.
constexpr uint64_t RED_ZONE_BYTES = 64 << 10;
constexpr size_t MOST_FREED = 4096;

struct Allocation {
    uint64_t bytes;
    // How much of it may be used: less than all where a pool has handed less out.
    uint64_t usable_bytes;
    bool handed_back;
};

std::mutex mutex;
// By address. `freed` remembers for messages what lay where nothing lies now.
std::map<uint64_t, Allocation> live;
std::map<uint64_t, uint64_t> freed;
// Where to look for room next: memory is used again as late as can be.
uint64_t cursor = 0;

uint64_t round_up(uint64_t x, uint64_t to) { return (x + to - 1) / to * to; }

int fail(EmuMessage* message, const char* format, ...) __attribute__((format(printf, 2, 3)));
int fail(EmuMessage* message, const char* format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(message->text, sizeof(message->text), format, args);
    va_end(args);
    return 1;
}

// A span of whole pages between live allocations, or 0.
uint64_t find_room(uint64_t span) {
    for (int pass = 0; pass < 2; pass++) {
        uint64_t at = pass == 0 && cursor ? cursor : memory_base + RED_ZONE_BYTES;
        auto next = live.upper_bound(at);
        if (next != live.begin()) {
            auto before = std::prev(next);
            at = std::max(at, round_up(before->first + before->second.bytes, PAGE_BYTES) +
                                  RED_ZONE_BYTES);
        }
        for (; next != live.end() && next->first < at + span + RED_ZONE_BYTES; ++next) {
            at = round_up(next->first + next->second.bytes, PAGE_BYTES) + RED_ZONE_BYTES;
        }
        if (at + span + RED_ZONE_BYTES <= memory_base + GLOBAL_BYTES) return at;
    }
    return 0;
}

void forget_freed(uint64_t from, uint64_t to) {
    auto it = freed.lower_bound(from);
    if (it != freed.begin() && std::prev(it)->first + std::prev(it)->second > from) --it;
    while (it != freed.end() && it->first < to) it = freed.erase(it);
    while (freed.size() > MOST_FREED) freed.erase(freed.begin());
}

int not_a_start(uint64_t address, EmuMessage* message) {
    char where[256];
    describe_global(address, where, sizeof(where));
    return fail(message, "0x%" PRIx64 " is not the start of an allocation: it is %s", address,
                where);
}

// Whether every byte is allocated and, for reading, written.
bool check(uint64_t address, uint64_t bytes, bool reads, const char* what, EmuMessage* message) {
    if (bytes == 0) return true;
    uint64_t bad = 0;
    if (address - memory_base < GLOBAL_BYTES && bytes <= GLOBAL_BYTES) {
        const uint8_t* state = shadow(address);
        auto unfit = [=](uint8_t s) { return reads ? s != WRITTEN : s == NOT_ALLOCATED; };
        bad = uint64_t(std::find_if(state, state + bytes, unfit) - state);
        if (bad == bytes) return true;
    }
    char where[256];
    describe_global(address + bad, where, sizeof(where));
    fail(message, "%s of %" PRIu64 " bytes at 0x%" PRIx64 ": byte %" PRIu64 " is %s%s", what,
         bytes, address, bad, where,
         bad < bytes && address - memory_base < GLOBAL_BYTES &&
                 *shadow(address + bad) == NEVER_WRITTEN
             ? ", and nothing wrote it"
             : "");
    return false;
}

uint8_t* bytes_at(uint64_t address) { return reinterpret_cast<uint8_t*>(address); }

}  // namespace

bool reserve_memory() {
    static std::once_flag once;
    std::call_once(once, [] {
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        void* p = mmap(nullptr, 2 * MEMORY_BYTES, PROT_READ | PROT_WRITE, flags, -1, 0);
        if (p != MAP_FAILED) memory_base = uintptr_t(p);
    });
    return memory_base != 0;
}

void describe_global(uintptr_t address, char* text, size_t size) {
    std::lock_guard lock(mutex);
    auto next = live.upper_bound(address);
    uint64_t past = UINT64_MAX, before = UINT64_MAX;
    if (next != live.begin()) {
        auto [start, a] = *std::prev(next);
        uint64_t offset = address - start;
        if (offset < a.bytes && a.handed_back) {
            snprintf(text, size,
                     "byte %" PRIu64 " of a buffer that was given back to the pool", offset);
            return;
        }
        if (offset < a.usable_bytes) {
            snprintf(text, size, "byte %" PRIu64 " of an allocation of %" PRIu64 " bytes", offset,
                     a.usable_bytes);
            return;
        }
        past = offset - a.usable_bytes;
    }
    auto gone = freed.upper_bound(address);
    if (gone != freed.begin()) {
        auto [start, bytes] = *std::prev(gone);
        if (address - start < bytes) {
            snprintf(text, size,
                     "byte %" PRIu64 " of an allocation of %" PRIu64 " bytes that was freed",
                     uint64_t(address - start), bytes);
            return;
        }
    }
    if (next != live.end()) before = next->first - address;
    if (std::min(past, before) > 16 * RED_ZONE_BYTES) {
        snprintf(text, size, "nowhere near memory of the device");
    } else if (past <= before) {
        snprintf(text, size, "%" PRIu64 " bytes past the end of an allocation of %" PRIu64 " bytes",
                 past, std::prev(next)->second.usable_bytes);
    } else {
        snprintf(text, size,
                 "%" PRIu64 " bytes before the start of an allocation of %" PRIu64 " bytes", before,
                 next->second.usable_bytes);
    }
}

}  // namespace emulator

using namespace emulator;

int emu_alloc(uint64_t bytes, uint64_t* address, EmuMessage* message) {
    if (!reserve_memory()) {
        return fail(message, "the system gives the emulator no address space (%" PRIu64
                             " GiB); look at ulimit -v and vm.overcommit_memory",
                    2 * MEMORY_BYTES >> 30);
    }
    std::lock_guard lock(mutex);
    uint64_t span = bytes < GLOBAL_BYTES ? round_up(ALIGN_BYTES + bytes, PAGE_BYTES) : bytes;
    uint64_t room = bytes < GLOBAL_BYTES ? find_room(span) : 0;
    if (!room) {
        return fail(message, "out of memory: %" PRIu64 " MiB more were needed", bytes >> 20);
    }
    forget_freed(room, room + span);
    *address = room + ALIGN_BYTES;
    memset(shadow(*address), NEVER_WRITTEN, bytes);
    live[*address] = {bytes, bytes, false};
    cursor = room + span + RED_ZONE_BYTES;
    return 0;
}

int emu_free(uint64_t address, EmuMessage* message) {
    std::unique_lock lock(mutex);
    auto it = live.find(address);
    if (it == live.end()) {
        lock.unlock();
        return not_a_start(address, message);
    }
    uint64_t bytes = it->second.bytes;
    live.erase(it);
    freed[address] = bytes;
    forget_freed(0, 0);
    // Whole pages go back to the system; what they hold is zero when they come again, which
    // for the shadow is NOT_ALLOCATED.
    uint64_t page = address - ALIGN_BYTES, span = round_up(ALIGN_BYTES + bytes, PAGE_BYTES);
    madvise(bytes_at(page), span, MADV_DONTNEED);
    madvise(shadow(page), span, MADV_DONTNEED);
    return 0;
}

int emu_copy_in(uint64_t dst, const void* src, uint64_t bytes, EmuMessage* message) {
    if (!check(dst, bytes, false, "copy to the device", message)) return 1;
    if (bytes == 0) return 0;
    memcpy(bytes_at(dst), src, bytes);
    memset(shadow(dst), WRITTEN, bytes);
    return 0;
}

int emu_copy_out(void* dst, uint64_t src, uint64_t bytes, EmuMessage* message) {
    if (!check(src, bytes, true, "copy to the host", message)) return 1;
    if (bytes) memcpy(dst, bytes_at(src), bytes);
    return 0;
}

int emu_copy(uint64_t dst, uint64_t src, uint64_t bytes, EmuMessage* message) {
    if (!check(src, bytes, false, "copy on the device, source", message) ||
        !check(dst, bytes, false, "copy on the device, destination", message)) {
        return 1;
    }
    if (bytes == 0) return 0;
    memmove(bytes_at(dst), bytes_at(src), bytes);
    // What was never written stays so.
    memmove(shadow(dst), shadow(src), bytes);
    return 0;
}

int emu_fill(uint64_t dst, uint8_t value, uint64_t bytes, EmuMessage* message) {
    if (!check(dst, bytes, false, "fill", message)) return 1;
    if (bytes == 0) return 0;
    memset(bytes_at(dst), value, bytes);
    memset(shadow(dst), WRITTEN, bytes);
    return 0;
}

static int set_usable(uint64_t address, uint64_t bytes, bool handed_back, EmuMessage* message) {
    std::unique_lock lock(mutex);
    auto it = live.find(address);
    if (it == live.end()) {
        lock.unlock();
        return not_a_start(address, message);
    }
    Allocation& a = it->second;
    if (bytes > a.bytes) {
        return fail(message, "%" PRIu64 " bytes handed out of an allocation of %" PRIu64, bytes,
                    a.bytes);
    }
    memset(shadow(address), NEVER_WRITTEN, bytes);
    if (a.usable_bytes > bytes) {
        memset(shadow(address + bytes), NOT_ALLOCATED, a.usable_bytes - bytes);
    }
    a.usable_bytes = bytes;
    a.handed_back = handed_back;
    return 0;
}

int emu_handed_out(uint64_t address, uint64_t bytes, EmuMessage* message) {
    return set_usable(address, bytes, false, message);
}

int emu_handed_back(uint64_t address, EmuMessage* message) {
    return set_usable(address, 0, true, message);
}
