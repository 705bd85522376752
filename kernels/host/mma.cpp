// Tensor cores: each lane leaves its fragments, and the last one to come computes for all.

#include <cstring>

#include "access.h"
#include "worker.h"

namespace emulator {

namespace {

// Half a row of B or D: as wide as the registers of every host.
typedef float Half __attribute__((vector_size(16)));

float bf16_at(const uint32_t* words, uint32_t i) {
    uint32_t bits = (words[i / 2] >> (16 * (i % 2)) & 0xffff) << 16;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

float tf32_at(const uint32_t* words, uint32_t i) {
    uint32_t bits = words[i] & ~0x1fffu;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

struct Operands {
    float a[16][16];
    Half b[16][2];
};

// Puts the fragments of all lanes together, as kernels/include/mma.h describes them.
uint32_t gather(const Warp& warp, bool is_bf16, Operands& m) {
    for (uint32_t lane = 0; lane < WARP; lane++) {
        uint32_t g = lane / 4, t = lane % 4;
        const uint32_t *a = warp.a[lane], *b = warp.b[lane];
        if (is_bf16) {
#pragma GCC unroll 8
            for (uint32_t i = 0; i < 8; i++) {
                m.a[g + 8 * (i / 2 % 2)][2 * t + i % 2 + 8 * (i / 4)] = bf16_at(a, i);
            }
#pragma GCC unroll 4
            for (uint32_t i = 0; i < 4; i++) {
                m.b[2 * t + i % 2 + 8 * (i / 2)][g / 4][g % 4] = bf16_at(b, i);
            }
        } else {
            for (uint32_t i = 0; i < 4; i++) m.a[g + 8 * (i % 2)][t + 4 * (i / 2)] = tf32_at(a, i);
            for (uint32_t i = 0; i < 2; i++) m.b[t + 4 * i][g / 4][g % 4] = tf32_at(b, i);
        }
    }
    return is_bf16 ? 16 : 8;
}

// Products of factors that are both not zero.
uint64_t useful(const Operands& m, uint32_t depth) {
    uint64_t sum = 0;
    for (uint32_t k = 0; k < depth; k++) {
        uint32_t rows = 0, columns = 0;
        for (uint32_t i = 0; i < 16; i++) rows += m.a[i][k] != 0.0f;
        for (uint32_t i = 0; i < 8; i++) columns += m.b[k][i / 4][i % 4] != 0.0f;
        sum += rows * columns;
    }
    return sum;
}

}  // namespace

void Worker::multiply(Warp& warp, bool is_bf16) {
    Operands m;
    uint32_t depth = gather(warp, is_bf16, m);
    counters.totals.tensor_issued += 16 * 8 * depth;
    if (counters.enabled) counters.totals.tensor_useful += useful(m, depth);
    for (uint32_t row = 0; row < 16; row++) {
        // Products of bf16 and tf32 are exact in f32; a GPU adds them in an order of its own.
        Half left = {}, right = {};
        for (uint32_t k = 0; k < depth; k++) {
            float a = m.a[row][k];
            left += a * m.b[k][0];
            right += a * m.b[k][1];
        }
        float sum[8];
        memcpy(sum, &left, 16);
        memcpy(sum + 4, &right, 16);
#pragma GCC unroll 8
        for (uint32_t column = 0; column < 8; column++) {
            warp.d[4 * (row % 8) + column / 2][column % 2 + 2 * (row / 8)] += sum[column];
        }
    }
}

void Worker::load_matrices(uint32_t w, uint32_t matrices, bool transposed, uintptr_t pc) {
    Warp& warp = warps_[w];
    uint32_t last = current;
    uint16_t values[4][8][8];
    for (uint32_t lane = 0; lane < 8 * matrices; lane++) {
        // A row is read by the lane that gives its address.
        set_current(w * WARP + lane);
        uintptr_t row = warp.row[lane];
        if (row % 16 || !shared.contains(row)) {
            fault(pc, "loads a row of a matrix from 0x%zx, which is not a multiple of 16 in shared "
                      "memory", row);
        }
        check_access(*this, Access::READ, row, 16, pc);
        if (counters.enabled) counters.access(*this, Space::SHARED, row, 16, pc);
        memcpy(values[lane / 8][lane % 8], reinterpret_cast<const void*>(row), 16);
    }
    set_current(last);
    for (uint32_t lane = 0; lane < WARP; lane++) {
        uint32_t g = lane / 4, t = lane % 4;
        for (uint32_t i = 0; i < matrices; i++) {
            const auto& m = values[i];
            uint32_t first = transposed ? m[2 * t][g] : m[g][2 * t];
            uint32_t second = transposed ? m[2 * t + 1][g] : m[g][2 * t + 1];
            warp.a[lane][i] = first | second << 16;
        }
    }
}

}  // namespace emulator

using namespace emulator;

EmuFloats emu_mma(EmuWarpOperation operation, EmuFloats d, EmuWords a, uint32_t b0, uint32_t b1) {
    uintptr_t pc = uintptr_t(__builtin_return_address(0));
    Worker& w = *this_worker;
    Warp& warp = w.warp();
    uint32_t lane = w.current % WARP;
    memcpy(warp.d[lane], &d, 16);
    memcpy(warp.a[lane], &a, 16);
    warp.b[lane][0] = b0;
    warp.b[lane][1] = b1;
    w.warp_operation(operation, ~0u, 0, 0, pc);
    memcpy(&d, warp.d[lane], 16);
    return d;
}

EmuWords emu_ldmatrix(EmuWarpOperation operation, const void* row) {
    uintptr_t pc = uintptr_t(__builtin_return_address(0));
    Worker& w = *this_worker;
    Warp& warp = w.warp();
    uint32_t lane = w.current % WARP;
    warp.row[lane] = uintptr_t(row);
    w.warp_operation(operation, ~0u, 0, 0, pc);
    EmuWords loaded;
    memcpy(&loaded, warp.a[lane], 16);
    return loaded;
}
