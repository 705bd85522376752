#include "counters.h"

#include <algorithm>

#include "worker.h"

namespace emulator {

void Counters::access(const Worker& worker, Space space, uintptr_t address, uint32_t bytes,
                      uintptr_t pc) {
    uint32_t warp = worker.current / WARP, lane = worker.current % WARP;
    // Return addresses are far apart enough to tell the two spaces of a copy by the next one.
    uint32_t site = sites_.of(pc + (space == Space::SHARED));
    if (warps_.size() <= warp) warps_.resize(warp + 1);
    auto& instructions = warps_[warp];
    if (instructions.size() <= site) instructions.resize(site + 1);
    Instruction& in = instructions[site];
    in.space = space;
    uint32_t n = in.made[lane]++ - in.done;
    if (in.requests.size() <= n) in.requests.resize(n + 1, Request{0, bytes, {}});
    Request& r = in.requests[n];
    r.lanes |= 1u << lane;
    r.address[lane] = address;
    if (r.lanes != ~0u || n != in.counted) return;
    // Whole ones are counted now, so that few are kept where lanes go side by side.
    count(space, r);
    if (++in.counted < in.requests.size()) return;
    in.done += in.counted;
    in.counted = 0;
    in.requests.clear();
}

void Counters::end_block() {
    for (auto& instructions : warps_) {
        for (Instruction& in : instructions) {
            for (size_t i = in.counted; i < in.requests.size(); i++) {
                count(in.space, in.requests[i]);
            }
            in.requests.clear();
            in.done = in.counted = 0;
            std::fill(in.made, in.made + WARP, 0);
        }
    }
}

void Counters::count(Space space, const Request& r) {
    uint64_t bytes = uint64_t(r.bytes) * uint64_t(__builtin_popcount(r.lanes));
    switch (space) {
        case Space::GLOBAL_READ:
            totals.global_read_bytes += bytes;
            totals.global_read_requests++;
            totals.global_read_sectors += sectors(r);
            break;
        case Space::GLOBAL_WRITE:
            totals.global_written_bytes += bytes;
            totals.global_write_requests++;
            totals.global_write_sectors += sectors(r);
            break;
        case Space::SHARED: {
            uint32_t least;
            totals.shared_requests++;
            totals.shared_wavefronts += wavefronts(r, &least);
            totals.shared_least_wavefronts += least;
            break;
        }
    }
}

// Different stretches of 32 bytes that a request touches.
uint32_t Counters::sectors(const Request& r) {
    uintptr_t touched[2 * WARP];
    uint32_t n = 0;
    for (uint32_t lane = 0; lane < WARP; lane++) {
        if (!(r.lanes >> lane & 1)) continue;
        uintptr_t first = r.address[lane] / 32, last = (r.address[lane] + r.bytes - 1) / 32;
        // Accesses are aligned and of at most 16 bytes, copies too.
        touched[n++] = first;
        if (last != first) touched[n++] = last;
    }
    std::sort(touched, touched + n);
    return uint32_t(std::unique(touched, touched + n) - touched);
}

// Turns that shared memory takes: 32 banks of 4 bytes give one word each a turn, to any number
// of lanes. Accesses of 8 bytes are served by halves of a warp, of 16 bytes by quarters.
uint32_t Counters::wavefronts(const Request& r, uint32_t* least) {
    uint32_t words = (r.bytes + 3) / 4, lanes_at_once = WARP / (words <= 1 ? 1 : words);
    uint32_t turns = 0;
    *least = 0;
    for (uint32_t first = 0; first < WARP; first += lanes_at_once) {
        uintptr_t touched[WARP];
        uint32_t n = 0;
        for (uint32_t lane = first; lane < first + lanes_at_once; lane++) {
            if (!(r.lanes >> lane & 1)) continue;
            for (uint32_t w = 0; w < words; w++) touched[n++] = r.address[lane] / 4 + w;
        }
        if (n == 0) continue;
        std::sort(touched, touched + n);
        n = uint32_t(std::unique(touched, touched + n) - touched);
        uint32_t in_bank[32] = {};
        for (uint32_t i = 0; i < n; i++) in_bank[touched[i] % 32]++;
        turns += *std::max_element(in_bank, in_bank + 32);
        *least += 1;
    }
    return turns;
}

}  // namespace emulator
