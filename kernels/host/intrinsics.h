/* What the host stand-ins of kernels/include call while a kernel runs. Each is called by a
 * CUDA thread, and reports faults at its caller's line. */
#pragma once

#include <stdint.h>

extern "C" {

struct EmuIndex {
    uint32_t x, y, z;
};

/* They never change while one thread runs, so calls may be merged. */
EmuIndex emu_thread_index() __attribute__((const));
EmuIndex emu_block_index() __attribute__((const));
EmuIndex emu_block_size() __attribute__((const));
EmuIndex emu_grid_size() __attribute__((const));

/* An array in static shared memory: its address identifies it. */
struct EmuShared {
    uint64_t bytes;
    uint32_t align;
    const char* name;
    uint32_t line;
};
void* emu_shared(const EmuShared* array);
void* emu_dynamic_shared();

void emu_barrier();
void emu_named_barrier(uint32_t id, uint32_t threads, bool wait);

enum EmuWarpOperation : uint32_t {
    EMU_SYNC,
    EMU_SHUFFLE_DOWN,
    EMU_SHUFFLE_XOR,
    EMU_MMA_BF16,
    EMU_MMA_TF32,
    EMU_LDMATRIX_X4,
    EMU_LDMATRIX_X4_TRANS,
    EMU_LDMATRIX_X2,
    EMU_LDMATRIX_X2_TRANS,
};
/* The result of an operation among the lanes of `mask` for this lane. `argument` is the distance
 * of a shuffle. */
uint32_t emu_warp(EmuWarpOperation operation, uint32_t mask, uint32_t value, uint32_t argument);

/* Fragments of a lane: by value, so that they can stay in registers. */
typedef float EmuFloats __attribute__((vector_size(16)));
typedef uint32_t EmuWords __attribute__((vector_size(16)));
EmuFloats emu_mma(EmuWarpOperation operation, EmuFloats d, EmuWords a, uint32_t b0, uint32_t b1);
EmuWords emu_ldmatrix(EmuWarpOperation operation, const void* row);

/* The value before. */
uint32_t emu_atomic_add(uint32_t* address, uint32_t value);
unsigned long long emu_atomic_add_64(unsigned long long* address, unsigned long long value);

/* Copies `bytes` (the rest of `size` are zeros) when its group is waited for. */
void emu_copy_async(void* shared, const void* global, uint32_t size, uint32_t bytes);
void emu_copy_commit();
void emu_copy_wait(uint32_t groups_left);

/* The kernel table. `run` unpacks the arguments and calls the kernel for one thread. */
typedef void (*EmuRun)(void* const* pointers, const void* params);
void emu_register(const char* name, const char* file, EmuRun run, uint32_t pointers,
                  uint32_t params_bytes, uint32_t max_threads);
}
