// Operations among the lanes of a warp: each lane leaves its value and waits; the last one that
// the mask names computes the results of all.

#include "worker.h"

namespace emulator {

uint32_t Worker::warp_operation(EmuWarpOperation operation, uint32_t mask, uint32_t value,
                                uint32_t argument, uintptr_t pc) {
    uint32_t w = current / WARP, lane = current % WARP;
    Warp& warp = warps_[w];
    if (!(mask >> lane & 1)) {
        fault(pc, "is lane %u, which its own mask 0x%08x does not name", lane, mask);
    }
    if (mask & ~warp.lanes) {
        fault(pc, "waits for lanes 0x%08x, which its warp does not have", mask & ~warp.lanes);
    }
    if (mask & warp.exited) {
        fault(pc, "waits for lanes 0x%08x, which have returned", mask & warp.exited);
    }
    uint32_t i = 0;
    for (; i < warp.n_meetings; i++) {
        Meeting& m = warp.meetings[i];
        if (m.mask == mask && m.operation == operation) break;
        uint32_t both = m.mask & mask;
        if (!both) continue;
        uint32_t other = w * WARP + uint32_t(__builtin_ctz(m.arrived));
        fault(pc, "comes to an operation among lanes 0x%08x, but lanes 0x%08x wait for another "
                  "among lanes 0x%08x at {pc:%zx}", mask, m.arrived, m.mask, threads_[other].pc);
    }
    if (i == warp.n_meetings) warp.meetings[warp.n_meetings++] = {mask, 0, operation};
    warp.value[lane] = value;
    warp.argument[lane] = argument;
    Meeting& meeting = warp.meetings[i];
    meeting.arrived |= 1u << lane;
    set_waiting(State::AT_WARP_OPERATION, pc, mask);
    if (meeting.arrived == mask) {
        Meeting complete = meeting;
        meeting = warp.meetings[--warp.n_meetings];
        complete_meeting(w, complete, pc);
    }
    run_others();
    return warp.result[lane];
}

void Worker::complete_meeting(uint32_t w, const Meeting& m, uintptr_t pc) {
    Warp& warp = warps_[w];
    size_t first = ready_.size();
    for (uint32_t lane = WARP; lane-- > 0;) {
        if (m.mask >> lane & 1) make_ready(w * WARP + lane);
    }
    shuffle_ready(first);
    switch (m.operation) {
        case EMU_SYNC: races.warp_sync(w * WARP, m.mask); break;
        case EMU_MMA_BF16: return multiply(warp, true);
        case EMU_MMA_TF32: return multiply(warp, false);
        case EMU_LDMATRIX_X4: return load_matrices(w, 4, false, pc);
        case EMU_LDMATRIX_X4_TRANS: return load_matrices(w, 4, true, pc);
        case EMU_LDMATRIX_X2: return load_matrices(w, 2, false, pc);
        case EMU_LDMATRIX_X2_TRANS: return load_matrices(w, 2, true, pc);
        default: exchange(w, m, pc);
    }
    counters.totals.warp_operations++;
}

// Shuffles.
void Worker::exchange(uint32_t w, const Meeting& m, uintptr_t pc) {
    Warp& warp = warps_[w];
    for (uint32_t lane = 0; lane < WARP; lane++) {
        if (!(m.mask >> lane & 1)) continue;
        uint32_t by = warp.argument[lane], from = (lane ^ by) % WARP;
        if (m.operation == EMU_SHUFFLE_DOWN) from = by >= WARP - lane ? lane : lane + by;
        if (!(m.mask >> from & 1)) {
            set_current(w * WARP + lane);
            fault(pc, "shuffles a value from lane %u, which the mask 0x%08x does not name", from,
                  m.mask);
        }
        warp.result[lane] = warp.value[from];
    }
}

}  // namespace emulator

uint32_t emu_warp(EmuWarpOperation operation, uint32_t mask, uint32_t value, uint32_t argument) {
    uintptr_t pc = uintptr_t(__builtin_return_address(0));
    return emulator::this_worker->warp_operation(operation, mask, value, argument, pc);
}
