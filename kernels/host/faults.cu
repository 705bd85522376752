// Kernels for the emulator's own tests. Each is right where `broken` is 0 and has one fault
// where it is 1; the line that the emulator has to name ends with a comment that names the fault.
// Not part of the program.
#include "include/kernel.h"
#include "include/mma.h"

struct FaultParams {
    u32 broken;
};

// Reverses the values of a block through shared memory.
KERNEL(fault_barrier, 256, (const float* x, float* y, FaultParams p)) {
    SHARED(float, tile, 256);
    u32 t = linear_thread(), n = block_size().x;
    tile[t] = 0.0f;
    barrier();
    tile[t] = x[t];  // removed barrier, writer
    if (!p.broken) barrier();
    y[t] = tile[n - 1 - t];  // removed barrier, reader
}

// Sums of 8 values through shared memory, used again before all have read it.
KERNEL(fault_reuse, 256, (const float* x, float* y, FaultParams p)) {
    SHARED(float, tile, 256);
    u32 t = linear_thread(), n = block_size().x;
    float sum = 0.0f;
    for (u32 round = 0; round < 4; round++) {
        tile[t] = x[t] * float(round + 1);  // reuse, writer
        barrier();
        sum += tile[(t + 1) % n] + tile[(t + n / 2) % n];  // reuse, reader
        if (!p.broken) barrier();
    }
    y[t] = sum;
}

// Each lane reads what its neighbour wrote.
KERNEL(fault_warp_sync, 256, (const float* x, float* y, FaultParams p)) {
    SHARED(float, tile, 256);
    u32 t = linear_thread();
    tile[t] = 0.0f;
    barrier();
    for (u32 round = 0; round < 3; round++) {
        tile[t] = x[t] + float(round);
        if (!p.broken) warp_sync(FULL_WARP);
        y[t] = tile[t ^ 1];  // removed warp_sync, reader
        warp_sync(FULL_WARP);
    }
}

// The first half of the block writes, the second reads.
KERNEL(fault_named_barrier, 256, (const float* x, float* y, FaultParams p)) {
    SHARED(float, tile, 128);
    u32 t = linear_thread(), half = block_size().x / 2;
    if (t < half) tile[t] = 0.0f;
    barrier();
    for (u32 round = 0; round < 3; round++) {
        if (t < half) {
            if (round && !p.broken) named_barrier(2, 2 * half);
            tile[t] = x[t] * float(round);  // removed named barrier, writer
            named_barrier_arrive(1, 2 * half);
        } else {
            named_barrier(1, 2 * half);
            y[t] = tile[t - half];
            if (round < 2 && !p.broken) named_barrier_arrive(2, 2 * half);
        }
    }
}

// Two values of 2 bytes in each word, written and read by different threads.
KERNEL(fault_halves, 256, (const bf16* x, bf16* y, FaultParams p)) {
    SHARED(bf16, tile, 256);
    u32 t = linear_thread();
    tile[t] = bf16(0.0f);
    barrier();
    tile[t] = x[t];
    if (!p.broken) barrier();
    y[t] = tile[t ^ 2];  // removed barrier, halves
}

KERNEL(fault_store, 256, (const float* x, float* y, FaultParams p)) {
    u32 t = linear_thread();
    y[t + p.broken] = x[t];  // store past the end
}

KERNEL(fault_store_shared, 256, (const float* x, float* y, FaultParams p)) {
    SHARED(float, tile, 256);
    u32 t = linear_thread();
    tile[t + p.broken] = x[t];  // shared store past the end
    y[t] = tile[t + p.broken];
}

KERNEL(fault_dynamic, 256, (const float* x, float* y, FaultParams p)) {
    float* tile = dynamic_shared<float>();
    u32 t = linear_thread();
    tile[t + p.broken] = x[t];  // dynamic store past the end
    y[t] = tile[t + p.broken];
}

KERNEL(fault_uninitialised, 256, (const float* x, float* y, FaultParams p)) {
    u32 t = linear_thread();
    if (!p.broken) y[t] = x[t];
    y[t] += 1.0f;  // uninitialised read
}

KERNEL(fault_uninitialised_shared, 256, (const float* x, float* y, FaultParams p)) {
    SHARED(float, tile, 256);
    u32 t = linear_thread();
    if (!p.broken || t != 5) tile[t] = x[t];
    y[t] = tile[t];  // uninitialised shared read
}

// The first 16 lanes sum their values.
KERNEL(fault_mask, 256, (const float* x, float* y, FaultParams p)) {
    u32 t = linear_thread();
    if (lane() >= 16) return;
    float sum = x[t];
    for (u32 by = 8; by > 0; by /= 2) {
        sum += shuffle_xor(p.broken ? FULL_WARP : 0xffff, sum, by);  // wrong mask
    }
    y[t] = sum;
}

KERNEL(fault_lane, 256, (const float* x, float* y, FaultParams p)) {
    u32 t = linear_thread();
    if (lane() < 16) y[t] = shuffle_down(0xffff, x[t], p.broken ? 8 : 0);  // lane outside
}

KERNEL(fault_copy, 256, (const float* x, float* y, FaultParams p)) {
    SHARED(float, tile, 1024);
    u32 t = linear_thread();
    copy_async<16>(tile + 4 * t, x + 4 * t);  // removed wait, copy
    copy_async_commit();
    if (!p.broken) copy_async_wait<0>();
    barrier();
    y[t] = tile[4 * t + 1] + tile[4 * ((t + 1) % block_size().x)];  // removed wait, reader
}

KERNEL(fault_copy_barrier, 256, (const float* x, float* y, FaultParams p)) {
    SHARED(float, tile, 1024);
    u32 t = linear_thread();
    for (u32 i = 0; i < 4; i++) tile[4 * t + i] = 0.0f;
    barrier();
    copy_async<16>(tile + 4 * t, x + 4 * t, 8);  // removed copy barrier, copy
    copy_async_commit();
    copy_async_wait<0>();
    if (!p.broken) barrier();
    y[t] = tile[4 * (t ^ 1) + 1] + tile[4 * (t ^ 1) + 3];  // removed copy barrier, reader
}

// Two groups under way; the wait lets one too many be.
KERNEL(fault_copy_group, 256, (const float* x, float* y, FaultParams p)) {
    SHARED(float, tile, 512);
    u32 t = linear_thread(), n = block_size().x;
    copy_async<4>(tile + t, x + t);
    copy_async_commit();
    copy_async<4>(tile + n + t, x + n + t);
    copy_async_commit();
    if (p.broken) copy_async_wait<2>();
    else copy_async_wait<1>();
    y[t] = tile[t];  // too few groups
    copy_async_wait<0>();
    y[t] += tile[n + t];
}

KERNEL(fault_static, 256, (float* y, FaultParams p)) {
    u32 t = linear_thread();
    if (p.broken) {
        SHARED(float, large, 12289);  // static shared memory
        y[t] = large[t] = 1.0f;
    } else {
        SHARED(float, fits, 12288);
        y[t] = fits[t] = 1.0f;
    }
}

KERNEL(fault_misaligned, 256, (const float* x, float* y, FaultParams p)) {
    u32 t = linear_thread();
    Vec<float, 4> v = load_vec<4>(x + 4 * t + p.broken);  // misaligned load
    y[t] = v[0] + v[1] + v[2] + v[3];
}

KERNEL(fault_half_warp, 256, (float* y, FaultParams p)) {
    u32 t = linear_thread();
    y[t] = 1.0f;
    if (p.broken && t % 32 >= 20) return;
    barrier();  // barrier of a part of a warp
}

KERNEL(fault_other_barrier, 256, (float* y, FaultParams p)) {
    u32 t = linear_thread();
    if (p.broken && warp() == 1) {
        named_barrier(3, 64);  // barrier that others do not come to
    } else {
        barrier();  // barrier that warp 1 does not come to
    }
    y[t] = 1.0f;
}

__attribute__((noinline)) static float through_local_memory(u32 t) {
    float large[52000];
    float* p = large;
    asm volatile("" : "+r"(p));  // keeps the array in memory
    p[t] = 1.0f;
    return p[t];
}

KERNEL(fault_stack, 256, (float* y, FaultParams p)) {
    u32 t = linear_thread();
    y[t] = p.broken ? through_local_memory(t) : 1.0f;
}

CONSTANT(float, TABLE, 4) = {1.0f, 2.0f, 3.0f, 4.0f};

KERNEL(fault_constant, 256, (float* y, FaultParams p)) {
    u32 t = linear_thread();
    const volatile float* table = TABLE;
    y[t] = table[t % 4];
    if (p.broken) const_cast<volatile float*>(table)[t % 4] = 0.0f;  // constant
}

KERNEL(fault_host, 256, (float* y, FaultParams p)) {
    u32 t = linear_thread();
    y[t] = 1.0f;
    if (p.broken) y = nullptr;
    y[t] = 2.0f;  // null pointer
}

// A count by atomics, read without a barrier.
KERNEL(fault_atomic, 256, (float* y, FaultParams p)) {
    SHARED(u32, count, 1);
    u32 t = linear_thread();
    if (t == 0) *count = 0;
    barrier();
    atomic_add(count, 1u);
    if (!p.broken) barrier();
    y[t] = float(*count);  // atomics, reader
}

// Blocks that pass values on through global memory.
KERNEL(fault_blocks, 256, (const float* x, float* y, FaultParams p)) {
    u32 t = linear_thread(), n = block_size().x, b = block_index().x;
    u32 to = p.broken ? t : t + n * b;
    y[to] = x[to];  // two blocks write
}
// Two blocks share each word, and each has a half of it.
KERNEL(fault_block_halves, 256, (bf16* y, FaultParams p)) {
    u32 i = 2 * linear_thread() + block_index().x;
    bf16 before = y[i];
    y[p.broken ? i ^ 1 : i] = before;  // another block's half
}
KERNEL(fault_in_place, 256, (float* y, FaultParams p)) {
    u32 i = global_thread(), n = global_threads();
    float before = y[p.broken ? (i + 64) % n : i];  // another block reads
    y[i] = before + 1.0f;  // this one writes
}

// Values that the counters' test has worked out by hand.
struct StrideParams {
    u32 stride;
};
KERNEL(count_global, 32, (const float* x, float* y, StrideParams p)) {
    u32 t = linear_thread();
    y[t] = x[t * p.stride];
}
KERNEL(count_shared, 32, (const float* x, float* y, StrideParams p)) {
    float* tile = dynamic_shared<float>();
    u32 t = linear_thread();
    tile[t * p.stride] = x[t];
    barrier();
    y[t] = tile[t * p.stride];
}
KERNEL(count_broadcast, 32, (const float* x, float* y, StrideParams p)) {
    SHARED(float, tile, 32);
    u32 t = linear_thread();
    tile[t] = shuffle_xor(FULL_WARP, x[t], 1);
    barrier();
    y[t] = tile[p.stride];
}
struct AddParams {
    u64 value;
};
KERNEL(count_atomics, 256, (u64* sum, AddParams p)) { atomic_add(sum, p.value); }

// Costs: accesses of one thread after another, and switches.
struct CostParams {
    u32 rounds;
};
KERNEL(cost_accesses, 256, (const float* x, float* y, CostParams p)) {
    u32 t = global_thread();
    float sum = 0.0f;
    for (u32 i = 0; i < p.rounds; i++) sum += x[t * p.rounds + i];
    y[t] = sum;
}
KERNEL(cost_shared, 256, (float* y, CostParams p)) {
    SHARED(float, tile, 512);
    u32 t = linear_thread();
    tile[t] = 0.0f;
    tile[t + 256] = 0.0f;
    for (u32 i = 0; i < p.rounds; i++) tile[t + 256 * (i % 2)] += 1.0f;
    y[global_thread()] = tile[t];
}
KERNEL(cost_barriers, 256, (float* y, CostParams p)) {
    for (u32 i = 0; i < p.rounds; i++) barrier();
    y[global_thread()] = 1.0f;
}
KERNEL(cost_shuffles, 256, (float* y, CostParams p)) {
    float v = 1.0f;
    for (u32 i = 0; i < p.rounds; i++) v = shuffle_xor(FULL_WARP, v, 1);
    y[global_thread()] = v;
}
KERNEL(cost_mma, 256, (float* y, CostParams p)) {
    float d[4] = {};
    u32 a[4] = {0x3f803f80, 0x3f803f80, 0x3f803f80, 0x3f803f80}, b[2] = {a[0], a[1]};
    for (u32 i = 0; i < p.rounds; i++) mma_m16n8k16_bf16(d, a, b);
    y[global_thread()] = d[0];
}

// D = A B by tensor cores, with A 16 x 16 and B 16 x 8 in bf16, both from shared memory: A by
// rows, B by rows (`transposed` loads) or by columns.
struct MmaParams {
    u32 b_by_columns;
};
KERNEL(mma_bf16, 32, (const bf16* a, const bf16* b, float* d, MmaParams p)) {
    SHARED(bf16, tile_a, 256);
    SHARED(bf16, tile_b, 128);
    u32 l = lane();
    for (u32 i = l; i < 256; i += 32) tile_a[i] = a[i];
    for (u32 i = l; i < 128; i += 32) tile_b[i] = b[i];
    barrier();
    u32 fragment_a[4], fragment_b[2];
    ldmatrix_x4(fragment_a, tile_a + l % 16 * 16 + l / 16 * 8);
    if (p.b_by_columns) {
        ldmatrix_x2(fragment_b, tile_b + l % 8 * 16 + l / 8 % 2 * 8);
    } else {
        ldmatrix_x2_trans(fragment_b, tile_b + l % 16 * 8);
    }
    float sum[4] = {};
    mma_m16n8k16_bf16(sum, fragment_a, fragment_b);
    for (u32 i = 0; i < 4; i++) d[(l / 4 + 8 * (i / 2)) * 8 + l % 4 * 2 + i % 2] = sum[i];
}

// D = A B with A 16 x 8 and B 8 x 8 in f32, rounded to tf32.
KERNEL(mma_tf32, 32, (const float* a, const float* b, float* d, MmaParams p)) {
    u32 l = lane(), g = l / 4, t = l % 4;
    u32 fragment_a[4], fragment_b[2];
    for (u32 i = 0; i < 4; i++) fragment_a[i] = as_tf32(a[(g + 8 * (i % 2)) * 8 + t + 4 * (i / 2)]);
    for (u32 i = 0; i < 2; i++) {
        u32 k = t + 4 * i;
        fragment_b[i] = as_tf32(p.b_by_columns ? b[g * 8 + k] : b[k * 8 + g]);
    }
    float sum[4] = {};
    mma_m16n8k8_tf32(sum, fragment_a, fragment_b);
    for (u32 i = 0; i < 4; i++) d[(g + 8 * (i / 2)) * 8 + t * 2 + i % 2] = sum[i];
}

struct RoundParams {
    u32 n;
};
KERNEL(round_bf16, 256, (const float* x, bf16* y, RoundParams p)) {
    u32 i = global_thread();
    if (i < p.n) y[i] = bf16(x[i]);
}
